"""When a peer's log has its next turn: soon after anything happens, and when a timer is due."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable

from raftsched.raft.host import Clock

#: The shortest and the longest pause between turns when nothing happens.
IDLE_SECONDS_MIN, IDLE_SECONDS_MAX = 0.002, 0.25


class Pacer:
    """Calls ``turn`` on the loop, once for however many asked for it.  Times are monotonic."""

    def __init__(self, clock: Clock, turn: Callable[[], None]) -> None:
        self._clock = clock
        self._turn = turn
        #: Between `start` and `stop`.
        self.is_running = False
        self._is_scheduled = False
        #: When there is a turn if nothing happens until then.
        self._wake_at = math.inf
        self._waker: asyncio.Handle

    def start(self) -> None:
        """Here and now the first turn, and soon another, as it is not known yet what is due."""
        self._loop = asyncio.get_running_loop()
        self.is_running = True
        self._wake_at = self._clock.monotonic()
        self._waker = self._loop.call_soon(self._awake)
        self._turn()

    def stop(self) -> None:
        """No turn from here on.  From any thread."""
        self.is_running = False

    def close(self) -> None:
        """The same, and nothing stays behind on the loop; for a pacer that was started."""
        self.stop()
        self._waker.cancel()

    def soon(self) -> None:
        """Something happened: a turn as soon as the loop is free."""
        if not self._is_scheduled and self.is_running:
            self._is_scheduled = True
            self._loop.call_soon(self._run)

    def by(self, due: float, now: float, longest: float) -> None:
        """Another when ``due``, and after ``longest`` at the latest; at the end of one at ``now``.

        A timer that moves away has one turn too many; one that comes nearer has its own.
        """
        wake_at = now + min(max(due - now, IDLE_SECONDS_MIN), longest)
        if wake_at < self._wake_at - IDLE_SECONDS_MIN / 2:
            self._waker.cancel()
            self._wake_at = wake_at
            self._waker = self._loop.call_later(wake_at - now, self._awake)

    def _awake(self) -> None:
        """The time came that was waited for."""
        self._wake_at = math.inf
        self.soon()

    def _run(self) -> None:
        self._is_scheduled = False
        if self.is_running:
            self._turn()
