"""PreVote: an election begins only when a majority would vote for this peer.

PySyncObj begins one as soon as its deadline passes; so the deadline is pushed until a majority said
yes.  A peer says yes to nobody while it hears a leader, so one that was cut off, or is slow, or was
removed without having heard so, comes back without disturbing anybody.

Only a voter of the configuration in force here asks, and only voters are asked and counted.  Who
answers looks at the logs alone, not at who is a member: its own configuration may be the older one
(Raft thesis, 4.2.3), and without its vote nobody might be elected.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from raftsched.raft.config import LogConfig
from raftsched.raft.engine import Engine
from raftsched.raft.host import Host
from raftsched.raft.membership import Membership

#: PreVote is asked for again after this, plus up to as much at random.
PREVOTE_SECONDS = 0.15
#: When the connection to the leader breaks, PreVote follows within this, at random.
LEADER_LOST_SECONDS = 0.2
#: By how much the deadline is pushed; passes come oftener.
_PUSH_SECONDS = 0.02


class Elections:
    """When this peer stands for election, and what it answers those that want to."""

    def __init__(
        self,
        config: LogConfig,
        membership: Membership,
        engine: Engine,
        send: Callable[[str, dict[str, Any]], bool],
        host: Host,
    ) -> None:
        self._membership = membership
        self._silence_seconds = config.election_min_seconds
        self._engine = engine
        self._send = send
        self._clock = host.clock
        self._chance = host.chance
        self._granted: set[str] | None = None
        self._ask_at = 0.0
        #: When a leader was last heard, in monotonic seconds; None: never, or its link broke.
        self.heard_at: float | None = None
        #: When this peer led, heard a leader or lost its link last; None: never.
        self.led_at: float | None = None

    def step(self) -> None:
        """Before each tick: let PySyncObj begin an election, or keep it from it."""
        engine, now = self._engine, self._clock.monotonic()
        membership = self._membership
        if engine.is_leader:
            self.led_at = now
        if engine.is_leader or membership.is_alone or not membership.is_voter:
            return
        if engine.is_held:
            # What it is to apply is on its way; whoever is elected has it already.
            engine.election_deadline = max(engine.election_deadline, now + self._silence_seconds)
            return
        if engine.transfer_in_progress or engine.election_deadline > now:
            return
        if self._granted is not None and membership.has_majority(self._granted):
            self._granted = None
            engine.election_deadline = 0.0
            return
        if now >= self._ask_at:
            self._ask_at = now + PREVOTE_SECONDS * (1 + self._chance.random())
            self._granted = set()
            ask = {
                "type": "prevote",
                "term": engine.term + 1,
                "last_log_index": engine.last_index,
                "last_log_term": engine.last_term,
            }
            for peer_id in membership.other_voters:
                self._send(peer_id, ask)
        engine.election_deadline = now + _PUSH_SECONDS

    def asked(self, peer_id: str, message: dict[str, Any]) -> None:
        """Would this peer vote for that one?  Not while it hears a leader."""
        engine = self._engine
        heard = self.heard_at is not None and (
            self._clock.monotonic() - self.heard_at < self._silence_seconds
        )
        if message["term"] <= engine.term:
            # It would ask for a term that has been for ever, and whoever knows the term may lack
            # its log: neither would be elected.
            self._send(peer_id, {"type": "term_hint", "term": engine.term})
            return
        theirs = (message["last_log_term"], message["last_log_index"])
        if not heard and not engine.is_leader and theirs >= (engine.last_term, engine.last_index):
            self._send(peer_id, {"type": "prevote_ok", "term": message["term"]})

    def granted(self, peer_id: str, message: dict[str, Any]) -> None:
        """A peer would vote for this one."""
        if self._granted is not None and message["term"] == self._engine.term + 1:
            self._granted.add(peer_id)

    def heard_leader(self) -> None:
        """A leader of this term or a later one spoke."""
        self.heard_at = self.led_at = self._clock.monotonic()
        self._granted = None

    def link_lost(self, peer_id: str) -> None:
        """A connection broke; without the leader's, ask for votes soon."""
        engine = self._engine
        if peer_id == engine.leader and not engine.is_leader:
            now = self._clock.monotonic()
            self.heard_at, self.led_at = None, now
            soon = now + self._chance.random() * LEADER_LOST_SECONDS
            engine.election_deadline = min(engine.election_deadline, soon)
