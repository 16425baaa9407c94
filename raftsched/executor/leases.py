"""How long attempts of this node may run, on the monotonic clock.

All leases are counted from one instant, the latest grant's; each attempt has its own length, or the
node's.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable

from raftsched.executor.messages import StartAttempt

#: SIGKILL goes this long before the lease ends.
KILL_MARGIN_SECONDS = 0.2


class Leases:
    """Those of all attempts of a runner."""

    def __init__(self, seconds: float) -> None:
        """``seconds``: the node's own."""
        self._granted_at = time.monotonic()
        self._seconds = seconds
        #: No attempt that waits has a shorter one; infinite when none waits.
        self._shortest = math.inf

    def renew(self, granted_at: float, seconds: float) -> None:
        """Count them from this instant; so long is the node's own."""
        self._granted_at = max(self._granted_at, granted_at)
        self._seconds = seconds
        if self._shortest < math.inf:
            self._shortest = min(self._shortest, seconds)

    def node_left(self, now: float) -> float:
        """Seconds until the node's own lease ends."""
        return self._granted_at + self._seconds - now

    def left(self, attempt: StartAttempt, now: float) -> float:
        """Seconds until its lease ends."""
        return self._granted_at + self._length(attempt) - now

    def stop_early(self, attempt: StartAttempt) -> float:
        """The request to end goes out so long before the lease ends."""
        grace = attempt.spec.grace_ms / 1000
        return min(grace, self._length(attempt) / 4) + KILL_MARGIN_SECONDS

    def _length(self, attempt: StartAttempt) -> float:
        return attempt.lease_ms / 1000 if attempt.lease_ms else self._seconds

    # Of those that wait for their turn: they may be thousands, and are seldom looked at ----------

    def waits(self, attempt: StartAttempt) -> None:
        """This one does, from now on."""
        self._shortest = min(self._shortest, self._length(attempt))

    def may_be_over(self, now: float) -> bool:
        """Can the lease of one that waits have run out?"""
        return now >= self._granted_at + self._shortest

    def over(self, waiting: Iterable[StartAttempt], now: float) -> list[StartAttempt]:
        """All whose lease has run out, of all that wait."""
        found, shortest = [], math.inf
        for attempt in waiting:
            if self.left(attempt, now) <= 0:
                found.append(attempt)
            else:
                shortest = min(shortest, self._length(attempt))
        self._shortest = shortest
        return found
