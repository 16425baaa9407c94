"""Stock PySyncObj in the hand: one peer, what it sends, and our filter in front of it if wanted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from unittest import mock

import pysyncobj.journal
import pysyncobj.monotonic
import pysyncobj.syncobj
from pysyncobj import SyncObj, SyncObjConf, replicated
from pysyncobj.node import Node
from pysyncobj.transport import Transport

from raftsched.raft.filter import MessageFilter

Message = dict[str, Any]


class Clock:
    """A time that passes as it is asked for."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        self.now += 1e-5
        return self.now


class Wire(Transport):  # type: ignore[misc]
    """Keeps what is sent."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, Message]] = []
        self.is_broken = False
        self._onUtilityMessageCallbacks: dict[str, Any] = {}

    def send(self, node: Node, message: Message) -> bool:
        self.sent.append((node.id, dict(message)))
        return not self.is_broken

    def take(self, kind: str) -> list[Message]:
        """What was sent of a kind, once."""
        found = [message for _, message in self.sent if message["type"] == kind]
        self.sent.clear()
        return found


class Peer(SyncObj):  # type: ignore[misc]
    """Peer n1 of n1, n2, n3: a list of what was applied.  Implements ``filter.LogView``."""

    def __init__(self, **conf: Any) -> None:
        self.wire = Wire()
        self.clock = Clock()
        self._filter = MessageFilter(self)
        names = {
            # Tests of ours may have left others there.
            "createJournal": pysyncobj.journal.createJournal,
            "monotonicTime": self.clock,
        }
        self._patches = [
            mock.patch.object(pysyncobj.syncobj, name, value) for name, value in names.items()
        ]
        for patch in self._patches:
            patch.start()
        super().__init__(
            Node("n1"),
            [Node("n2"), Node("n3")],
            conf=SyncObjConf(autoTick=False, **conf),
            transport=self.wire,
        )
        for node in self.otherNodes:
            self._SyncObj__onNodeConnected(node)
        self.applied: list[Any] = []

    def close(self) -> None:
        for patch in self._patches:
            patch.stop()
        self.destroy()

    @replicated
    def add(self, what: Any) -> None:
        self.applied.append(what)

    @replicated
    def divide(self, by: int) -> None:
        self.applied.append(1 / by)

    # What the filter reads.

    term = property(lambda self: self._SyncObj__raftCurrentTerm)
    is_leader = property(lambda self: self._isLeader())
    first_index = property(lambda self: self._SyncObj__raftLog[0][1])
    last_index = property(lambda self: self._SyncObj__raftLog[-1][1])
    last_term = property(lambda self: self._SyncObj__raftLog[-1][2])
    commit_index = property(lambda self: self._SyncObj__raftCommitIndex)
    applied_index = property(lambda self: self._SyncObj__raftLastApplied)

    def term_at(self, index: int) -> int | None:
        position = index - self.first_index
        log = self._SyncObj__raftLog
        return log[position][2] if 0 <= position < len(log) else None

    # What tests do with it.

    def command(self, what: Any) -> bytes:
        """The entry of ``add(what)``."""
        command: bytes = pysyncobj.syncobj.pickle.dumps((self._methodToID["add_v0"], (what,)))
        return b"\0" + command

    def fill(self, *terms: int) -> None:
        """Append an entry of each term to the log, uncommitted."""
        for term in terms:
            index = self.last_index + 1
            self._SyncObj__raftLog.add(self.command(index), index, term)
        self.in_term(max(self.term, *terms))

    def in_term(self, term: int) -> None:
        self._SyncObj__setCurrentTerm(term, None)

    def lead(self, term: int) -> None:
        """Be elected; the log gets its no-op."""
        self.in_term(term)
        self._SyncObj__onBecomeLeader()
        self.wire.sent.clear()

    def append(
        self, previous: int, previous_term: int, *terms: int, term: int = 3, commit: int = 1
    ) -> Message:
        """The message of a leader."""
        return {
            "type": "append_entries",
            "term": term,
            "commit_index": commit,
            "prevLogIdx": previous,
            "prevLogTerm": previous_term,
            "entries": [
                (self.command(previous + 1 + n), previous + 1 + n, t) for n, t in enumerate(terms)
            ],
        }

    def hear(self, message: Message) -> list[Message]:
        """A message of n2, as the library takes it; its answers."""
        self._SyncObj__onMessageReceived(Node("n2"), message)
        return self.wire.take("next_node_idx")

    def hear_filtered(self, message: Message) -> list[Message]:
        """The same with our filter before it."""
        passed, answer = self._filter.incoming("n2", message)
        answers = [] if passed is None else self.hear(passed)
        return answers + ([] if answer is None else [answer])


Hear = Callable[[Message], list[Message]]
