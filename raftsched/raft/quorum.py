"""Probes: what a majority confirms of this term, now.

``probe(term, round)`` is answered by a peer only while that is its term.  One round gives the
read index (a round begun after the read arrived), and the quorum's age for lease grants.  A
leader's own clock proves nothing: voters grant a higher term at once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

#: Rounds that may be open at once; older ones are given up.
ROUNDS_MAX = 64


class Prober:
    """The leader's rounds of one term.  Pure but for ``send``; times are monotonic seconds."""

    def __init__(self, peers: tuple[str, ...], send: Callable[[str, dict[str, Any]], bool]) -> None:
        self._peers = peers
        self._send = send
        self._term = 0
        self._round = 0
        #: Round -> (sent at, peers that answered, what to do once a majority did).
        self._open: dict[int, tuple[float, set[str], Callable[[], None] | None]] = {}
        #: When the newest round that a majority answered was sent; None before the first.
        self.confirmed_sent_at: float | None = None

    def reset(self, term: int) -> None:
        """Another term: nothing of the old one counts."""
        self._term = term
        self._open.clear()
        self.confirmed_sent_at = None

    def begin(self, now: float, done: Callable[[], None] | None = None) -> None:
        """Ask everybody; ``done`` is called once a majority, this peer included, has answered."""
        self._round += 1
        self._open[self._round] = (now, set(), done)
        while len(self._open) > ROUNDS_MAX:
            del self._open[next(iter(self._open))]
        for peer_id in self._peers:
            self._send(peer_id, {"type": "probe", "term": self._term, "round": self._round})
        self._settle(self._round)

    def answered(self, peer_id: str, message: dict[str, Any]) -> None:
        """A peer confirmed a round."""
        if message["term"] == self._term and message["round"] in self._open:
            self._open[message["round"]][1].add(peer_id)
            self._settle(message["round"])

    def _settle(self, number: int) -> None:
        sent_at, peers, done = self._open[number]
        if 2 * (len(peers) + 1) <= len(self._peers) + 1:
            return
        del self._open[number]
        if self.confirmed_sent_at is None or sent_at > self.confirmed_sent_at:
            self.confirmed_sent_at = sent_at
        if done is not None:
            done()
