"""PySyncObj's own messages, both ways: what comes in passes the filter, what goes out the disk.

An acknowledgement or a vote is a promise that must survive this machine, so it leaves only after
what it promises is synced; what came in one pass is synced once and acknowledged once.

While the disk is full nothing is acknowledged, and the leader goes on sending.  What comes is taken
into memory up to a bound; behind it entries are left out of what PySyncObj hears, which leaves a
heartbeat.  Once there is room, the next append does not fit, which the leader is told as ever.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from raftsched.raft.elections import Elections
from raftsched.raft.engine import Engine
from raftsched.raft.filter import MessageFilter, keep_alive
from raftsched.raft.freshness import Freshness
from raftsched.raft.installing import Installer
from raftsched.raft.journal import Journal
from raftsched.raft.laggards import Laggards
from raftsched.raft.membership import Membership

#: Messages that promise something.
_PROMISES = frozenset({"next_node_idx", "request_vote", "response_vote"})


class Replication:
    """Between the wire and PySyncObj, on one peer."""

    def __init__(
        self,
        engine: Engine,
        journal: Journal,
        membership: Membership,
        elections: Elections,
        laggards: Laggards,
        installer: Installer,
        send: Callable[[str, dict[str, Any]], bool],
        schedule: Callable[[], None],
        now: Callable[[], float],
        *,
        paused_bytes_max: int,
    ) -> None:
        """``schedule``: have a pass made soon; ``now``: monotonic seconds; ``paused_bytes_max``:
        see `LogConfig`."""
        self._engine = engine
        self._journal = journal
        self._membership = membership
        self._elections = elections
        self._laggards = laggards
        self._installer = installer
        self._send = send
        self._schedule = schedule
        self._paused_bytes_max = paused_bytes_max
        self._now = now
        self._filter = MessageFilter(engine)
        #: How old the state of this peer is while it follows.
        self.freshness = Freshness()
        #: Acknowledgements that wait for the next pass and its sync, the furthest for each leader.
        self._waiting: dict[str, dict[str, Any]] = {}

    # Out ---------------------------------------------------------------------------------------

    @property
    def owes(self) -> bool:
        """Acknowledgements wait."""
        return bool(self._waiting)

    def outgoing(self, peer_id: str, message: dict[str, Any]) -> dict[str, Any] | None:
        """What becomes of a message that PySyncObj sends; None: nothing, or later."""
        if message["type"] == "next_node_idx" and message["success"]:
            self._will_acknowledge(peer_id, {**message, "lt": self._engine.term})
            return None
        if message["type"] in _PROMISES and not self._journal.sync():
            return None
        return self._filter.outgoing(message)

    def _will_acknowledge(self, peer_id: str, ack: dict[str, Any]) -> None:
        waiting = self._waiting.get(peer_id)
        if (
            waiting is None
            or waiting["lt"] != ack["lt"]
            or waiting["next_node_idx"] < ack["next_node_idx"]
        ):
            self._waiting[peer_id] = ack
        self._schedule()

    def acknowledge(self) -> None:
        """After a sync.  In another term an acknowledgement is void: what it was for may be cut."""
        waiting, self._waiting = self._waiting, {}
        for peer_id, ack in waiting.items():
            if ack["lt"] == self._engine.term:
                self._send(peer_id, ack)

    # In ----------------------------------------------------------------------------------------

    def received(self, peer_id: str, message: dict[str, Any]) -> None:
        """A message for PySyncObj came.  Raises KeyError, TypeError, IndexError if malformed."""
        if message["type"] == "next_node_idx":
            self._followers(peer_id, message)
        else:
            self._leaders(peer_id, message)
            self._schedule()

    def _followers(self, peer_id: str, message: dict[str, Any]) -> None:
        """A follower's word how far it has the log."""
        if peer_id not in self._membership.others:
            return  # Somebody removed; PySyncObj has no row for it.
        if self._laggards.is_sending(peer_id):
            # Where its log ends does not matter before it has the snapshot.
            message = {**message, "reset": False}
        known = self._engine.match_index(peer_id)
        passed, answer = self._filter.incoming(peer_id, message)
        if passed is not None:
            self._engine.acknowledged(peer_id, passed)
        self._answer(peer_id, answer)
        # One that only says that its sender lives leaves nothing to do.
        is_news = self._engine.match_index(peer_id) != known or bool(message.get("reset"))
        if is_news or self._laggards.need_log or not self._engine.is_leader:
            self._schedule()

    def _leaders(self, peer_id: str, message: dict[str, Any]) -> None:
        """Entries, a piece of a snapshot, a vote or the wish for one."""
        kind = message["type"]
        if kind == "response_vote" and peer_id not in self._membership.other_voters:
            return
        if kind == "append_entries" and message["term"] >= self._engine.term:
            self._heard_leader(message["term"], message["commit_index"])
        if kind == "append_entries" and message.get("serialized") is not None:
            self._installer.piece(peer_id, message)
            return
        if "entries" in message and self._takes_no_entries:
            message = {**message, "entries": []}
        passed, answer = self._filter.incoming(peer_id, message)
        if passed is not None:
            self._engine.hear(peer_id, passed)
        self._answer(peer_id, answer)

    @property
    def _takes_no_entries(self) -> bool:
        journal = self._journal
        return bool(journal.paused) and journal.pending_bytes >= self._paused_bytes_max

    def _heard_leader(self, term: int, commit_index: int) -> None:
        """Its word of what is committed is not cut yet to what this message verifies here."""
        self._elections.heard_leader()
        self.freshness.heard(term, commit_index, self._engine.applied_index, self._now())

    def _answer(self, peer_id: str, answer: dict[str, Any] | None) -> None:
        """What the filter has to say; it is a promise, too."""
        if answer is None:
            return
        if answer.get("success"):
            self._will_acknowledge(peer_id, answer)
        elif self._journal.sync():
            self.acknowledge()
            if answer.get("reset") and self._installer.is_busy:
                # What the leader should send instead is here already, and being loaded.
                answer = keep_alive(answer["lt"])
            self._send(peer_id, answer)
