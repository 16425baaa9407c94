"""A peer of the library: unmodified, with somebody who looks on.

The private methods that are overridden only tell the observer and then do what the library does.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from pysyncobj import SyncObj, SyncObjConf, replicated
from pysyncobj.node import TCPNode

Entry = tuple[bytes, int, int]


class Observer(Protocol):
    """Is told what a peer is about to do."""

    def applying(self, peer: StockPeer, entries: list[Entry]) -> None:
        """It applies these now."""

    def removed(self, peer: StockPeer, entries: list[Entry], *, by_dump: bool) -> None:
        """It removed these from the end of its log, which an older dump replaced or not."""


class StockNode(TCPNode):  # type: ignore[misc]
    """A node whose place in a set is the same in every run, and whose name is an address."""

    def __hash__(self) -> int:
        return int(self.port)

    @property
    def ip(self) -> str:
        return str(self.host)


class StockPeer(SyncObj):  # type: ignore[misc]
    """A replicated list of numbers."""

    def __init__(
        self,
        name: str,
        address: str,
        others: list[str],
        conf: dict[str, Any],
        observer: Observer,
    ) -> None:
        # Set before the rest, so that the library does not replicate them.
        self.name = name
        self.observer = observer
        #: From and to where the commit index was last moved by a message that verifies nothing.
        self.unverified: tuple[int, int] = (0, 0)
        #: The last index before the journal's compaction that is under way.
        self.compacting: int | None = None
        #: The last index before the dump was loaded at the start, and behind.
        self.loaded: tuple[int, int] | None = None
        super().__init__(
            address,
            others,
            conf=SyncObjConf(autoTick=False, **conf),
            nodeClass=StockNode,
        )
        self.values: list[int] = []

    @replicated
    def add(self, number: int, _padding: str) -> None:
        self.values.append(number)

    # What there is to see ------------------------------------------------------------------------

    @property
    def first_index(self) -> int:
        return int(self._SyncObj__raftLog[0][1])

    @property
    def last_index(self) -> int:
        return int(self._SyncObj__raftLog[-1][1])

    @property
    def length(self) -> int:
        return len(self._SyncObj__raftLog)

    @property
    def commit_index(self) -> int:
        return int(self._SyncObj__raftCommitIndex)

    def entry(self, index: int) -> Entry | None:
        """None if it is not in the log."""
        log = self._SyncObj__raftLog
        position = index - log[0][1]
        return log[position] if 0 <= position < len(log) else None

    # What it does --------------------------------------------------------------------------------

    def _SyncObj__applyLogEntries(self) -> bool:
        commit, applied = self._SyncObj__raftCommitIndex, self._SyncObj__raftLastApplied
        if commit > applied:
            entries = [self.entry(index) for index in range(applied + 1, commit + 1)]
            self.observer.applying(self, [entry for entry in entries if entry is not None])
        return bool(super()._SyncObj__applyLogEntries())

    def _SyncObj__onMessageReceived(self, node: StockNode, message: dict[str, Any]) -> None:
        before = self.commit_index
        super()._SyncObj__onMessageReceived(node, message)
        verifies_nothing = message["type"] == "append_entries" and "prevLogIdx" not in message
        if verifies_nothing and self.commit_index > before:
            self.unverified = (before + 1, self.commit_index)

    def _SyncObj__deleteEntriesFrom(self, index: int) -> None:
        entries = list(self._SyncObj__raftLog[index - self.first_index :])
        super()._SyncObj__deleteEntriesFrom(index)
        self.observer.removed(self, entries, by_dump=False)

    def _SyncObj__deleteEntriesTo(self, index: int) -> None:
        self.compacting = self.last_index
        super()._SyncObj__deleteEntriesTo(index)
        self.compacting = None

    def _SyncObj__loadDumpFile(self, clearJournal: bool) -> None:
        log = list(self._SyncObj__raftLog[:])
        super()._SyncObj__loadDumpFile(clearJournal=clearJournal)
        last = self.last_index if self.length else 0
        if clearJournal:
            gone = [entry for entry in log if entry[1] > last]
            self.observer.removed(self, gone, by_dump=True)
        else:
            self.loaded = (log[-1][1], last)

    def submit(self, number: int, size: int, done: Callable[[Any, int], None]) -> None:
        """A client's command of about so many bytes; ``done`` hears (result, reason)."""
        self.add(number, "x" * size, callback=done)
