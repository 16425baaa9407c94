"""The machine a peer runs on, as far as its log cares: clocks, disk, chance.

One object, handed down from the composition root, so that a simulation can bring its own.
"""

from __future__ import annotations

import gc
import random
import secrets
import time
from typing import Protocol

from raftsched.raft.files import Disk, OsDisk
from raftsched.raft.resolving import Resolver


class Clock(Protocol):
    """Wall time for stamps, monotonic time for everything that measures."""

    def wall_ms(self) -> int:
        """Milliseconds since the Unix epoch; may jump."""

    def monotonic(self) -> float:
        """Seconds that never fall; the same clock as the runner's on one machine."""


class SystemClock:
    """The machine's own clocks."""

    def wall_ms(self) -> int:
        return time.time_ns() // 1_000_000

    def monotonic(self) -> float:
        return time.monotonic()


class Host:
    """This machine.  A simulation overrides what it wants to be in charge of."""

    def __init__(
        self,
        *,
        clock: Clock | None = None,
        disk: Disk | None = None,
        chance: random.Random | None = None,
    ) -> None:
        self.clock: Clock = clock or SystemClock()
        self.disk: Disk = disk or OsDisk()
        #: For election timeouts and the like; nothing secret comes of it.
        self.chance = chance or random.Random()
        self._resolver = Resolver()

    async def address(self, name: str) -> str:
        """One of the IP addresses of a host, another one each time.  Raises OSError."""
        return await self._resolver.address(name)

    def unique_bytes(self, count: int) -> bytes:
        """Bytes nobody else has."""
        return secrets.token_bytes(count)

    def settle(self) -> None:
        """After a big load, in a thread: what is there stays, so spare the collector looking."""
        gc.collect()
        gc.freeze()
