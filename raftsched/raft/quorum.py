"""Probes: what a majority confirms of this term, now.

``probe(term, round)`` is answered by a peer only while that is its term.  One round gives the
read index (a round begun after the read arrived), and the quorum's age for lease grants.  A
leader's own clock proves nothing: voters grant a higher term at once.

An answer carries the wall clock of who answered and what it says of itself; a probe carries when it
was sent, which comes back with the answer.  Peers of versions before that send a probe back as it
was.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from raftsched.raft.log import PeerView
from raftsched.raft.membership import Membership

#: A more exact measurement of a clock is kept for so long before a less exact one replaces it.
CLOCK_KEPT_SECONDS = 2.0
#: Rounds that may be open at once; older ones are given up.
ROUNDS_MAX = 64


class Prober:
    """The leader's rounds of one term.  Pure but for ``send``; times are monotonic seconds."""

    def __init__(self, membership: Membership, send: Callable[[str, dict[str, Any]], bool]) -> None:
        self._membership = membership
        self._send = send
        self._term = 0
        self._round = 0
        #: Round -> (sent at, peers that answered, what to do once a majority did).
        self._open: dict[int, tuple[float, set[str], Callable[[], None] | None]] = {}
        #: When the newest round that a majority answered was sent; None before the first.
        self.confirmed_sent_at: float | None = None
        #: What the others said in this term, by id.
        self.views: dict[str, PeerView] = {}

    def reset(self, term: int) -> None:
        """Another term: nothing of the old one counts."""
        self._term = term
        self._open.clear()
        self.confirmed_sent_at = None
        self.views.clear()

    def begin(self, now: float, done: Callable[[], None] | None = None) -> None:
        """Ask all members; ``done`` is called once a majority of the voters has answered.

        The voters are those in force then, and this peer is one of them.
        """
        self._round += 1
        self._open[self._round] = (now, set(), done)
        while len(self._open) > ROUNDS_MAX:
            del self._open[next(iter(self._open))]
        probe = {"type": "probe", "term": self._term, "round": self._round, "sent_at": now}
        for peer_id in self._membership.others:
            self._send(peer_id, probe)
        self._settle(self._round)

    def answered(self, peer_id: str, message: dict[str, Any], now: float) -> None:
        """A peer confirmed a round, at ``now``."""
        if message["term"] != self._term or peer_id not in self._membership.others:
            return
        self.views[peer_id] = _view(self.views.get(peer_id), message, now)
        if message["round"] in self._open:
            self._open[message["round"]][1].add(peer_id)
            self._settle(message["round"])

    def _settle(self, number: int) -> None:
        sent_at, peers, done = self._open[number]
        if not self._membership.has_majority(peers):
            return
        del self._open[number]
        if self.confirmed_sent_at is None or sent_at > self.confirmed_sent_at:
            self.confirmed_sent_at = sent_at
        if done is not None:
            done()


def answer(probe: dict[str, Any], wall_ms: int, about: dict[str, Any]) -> dict[str, Any]:
    """What a peer of the probe's term sends back."""
    return {**probe, "type": "probe_ok", "wall_ms": wall_ms, "about": about}


def _view(known: PeerView | None, message: dict[str, Any], now: float) -> PeerView:
    """The answer as the latest word of its sender.

    Its clock was read somewhere between question and answer: taken to be in the middle, that is off
    by no more than half of the time in between.
    """
    about = message.get("about", {})
    if "wall_ms" not in message:
        return PeerView(now, None, 0.0, now, about)
    error_ms = 1000 * (now - message["sent_at"]) / 2
    if known is not None and known.clock_base_ms is not None:
        is_recent = now - known.measured_at < CLOCK_KEPT_SECONDS
        if is_recent and known.clock_error_ms < error_ms:
            return known._replace(heard_at=now, about=about)
    return PeerView(now, message["wall_ms"] - 1000 * now + error_ms, error_ms, now, about)
