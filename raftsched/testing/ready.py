"""That who says it is ready is: never on a state older than `readiness` allows.

What the leader says with every append is noted where it comes in, before anything of the product
has seen it, so it is compared with what the leader had committed and not with what the follower
takes for that.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from raftsched.peer import readiness
from raftsched.peer.peer import Peer
from raftsched.raft.log import Role
from raftsched.testing.machine import Machine

#: Milliseconds are rounded down.
_ROUNDING_SECONDS = 0.002


class ReadyPeers:
    """Watches one process after the other."""

    def __init__(self, violated: Callable[[str], None]) -> None:
        self._violated = violated

    def watch(self, machine: Machine, peer: Peer) -> None:
        """A new process of a peer, before it starts."""
        log, clock = peer.log, machine.simulated_clock
        received = log._received
        words = _Words()

        def hears(peer_id: str, message: dict[str, Any]) -> None:
            is_word = message["type"] == "append_entries" and message["term"] >= log.status().term
            if is_word:
                words.add(clock.monotonic(), message["commit_index"])
            received(peer_id, message)
            if is_word and machine.is_serving and machine.peer is peer:
                self._look(machine.name, peer, words, clock.monotonic())

        log._received = hears  # type: ignore[method-assign]

    def _look(self, name: str, peer: Peer, words: _Words, now: float) -> None:
        status = peer.log.status()
        if status.role is Role.LEADER or peer.is_draining:
            return
        if readiness.why_not(status, is_alone=False):
            return
        due = words.due(now - readiness.STALE_MS_MAX / 1000 - _ROUNDING_SECONDS)
        if due > status.applied_index:
            self._violated(
                f"{name} says it is ready with {status.applied_index} applied, "
                f"its leader had {due} committed"
            )


class _Words:
    """What leaders said to one process that they have committed."""

    def __init__(self) -> None:
        self._due = 0
        self._recent: deque[tuple[float, int]] = deque()
        self._is_first = True

    def add(self, at: float, commit_index: int) -> None:
        """Said just now.  The first word of all must have come true, however new it is."""
        if self._is_first:
            self._is_first, self._due = False, commit_index
        self._recent.append((at, commit_index))

    def due(self, until: float) -> int:
        """The most that was said until then, or at first."""
        while self._recent and self._recent[0][0] <= until:
            self._due = max(self._due, self._recent.popleft()[1])
        return self._due
