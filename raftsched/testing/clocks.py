"""Clocks of simulated machines: offset, drift and steps of one's own."""

from __future__ import annotations

from raftsched.testing.world import World

#: Wall time when a simulation begins: 2026-01-01T00:00:00Z.
EPOCH_MS = 1_767_225_600_000


class SimulatedClock:
    """One machine's clocks.  Implements ``raft.host.Clock``."""

    def __init__(self, world: World, *, offset_ms: int = 0, rate: float = 1.0) -> None:
        """``rate``: how many seconds pass here in one of the world's."""
        self._world = world
        self._since = world.time
        self._monotonic = 1_000.0
        self._wall_ms = float(EPOCH_MS + world.time * 1000 + offset_ms)
        self.rate = rate

    def monotonic(self) -> float:
        world = self._world  # `World.time`, spelled out: this is asked more often than all else.
        return self._monotonic + (world.now + world.lag - self._since) * self.rate

    def wall_ms(self) -> int:
        return int(self._wall_ms + (self._world.time - self._since) * 1000 * self.rate)

    def step(self, milliseconds: int) -> None:
        """The wall clock jumps."""
        self._wall_ms += milliseconds

    def drift(self, rate: float) -> None:
        """From now on so many seconds pass here in one of the world's."""
        elapsed = (self._world.time - self._since) * self.rate
        self._monotonic += elapsed
        self._wall_ms += elapsed * 1000
        self._since = self._world.time
        self.rate = rate

    def when(self, monotonic: float) -> float:
        """The world's time at which `monotonic` here will be that."""
        return self._since + (monotonic - self._monotonic) / self.rate
