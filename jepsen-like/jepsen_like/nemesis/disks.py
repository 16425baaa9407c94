"""Disks that are full, slow, or fail."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from abc import abstractmethod
from pathlib import Path

from jepsen_like.nemesis.base import DISK_FAILS, Arena, Fault, Seen

#: What was not felt yet when it is to end is waited for so long.
FELT_SECONDS = 3.0
_PROBE_BYTES = 1 << 20


class DiskIll(Fault):
    """An order to one disk, and counts that tell that it was felt."""

    nemesis = "disk"
    needs_disks = True
    takes = frozenset({"disk"})
    stands = (2.0, 7.0)
    #: The count that grows while it stands.
    felt = ""

    def __init__(self, arena: Arena) -> None:
        super().__init__(arena)
        self.targets: list[str] = []
        self._before: dict[str, int] = {}

    async def whom(self) -> list[str]:
        """The victims: one, and often the leader, whose disk all writes wait for."""
        return [
            await self.arena.leader() if self.chance.random() < 0.5 else self.arena.one_running()
        ]

    @abstractmethod
    def order(self) -> str:
        """What the disks are told."""

    async def begin(self) -> Seen:
        order = self.order()
        for peer in await self.whom():
            self._before[peer] = (await self.arena.disk_counts(peer))[self.felt]
            self.targets.append(peer)
            await self.arena.tell_disk(peer, order)
        return Seen(self.targets, None, order)

    async def end(self) -> Seen:
        deadline = time.monotonic() + FELT_SECONDS
        while not all((felt := await self._felt()).values()) and time.monotonic() < deadline:
            await asyncio.sleep(0.1)
        # Who is dead or cut off does not use its disk: then somebody else does.
        unused = [peer for peer, count in felt.items() if not count]
        probes = [asyncio.to_thread(_use, self.arena.disk_of(peer)) for peer in unused]
        await asyncio.gather(*probes)
        felt = await self._felt()
        for peer in self.targets:
            await self.arena.tell_disk(peer, "well")
        await self.arena.start(self.targets)
        words = ", ".join(f"{peer}: {count} {self.felt}" for peer, count in felt.items())
        words += f"; by a probe alone: {', '.join(unused)}" if unused else ""
        return Seen(self.targets, all(felt.values()), words)

    async def _felt(self) -> dict[str, int]:
        found = {}
        for peer in self.targets:
            found[peer] = (await self.arena.disk_counts(peer))[self.felt] - self._before[peer]
        return found


def _use(disk: Path) -> None:
    """Write more than what may be left, sync it, and take it away again."""
    file = disk / "probe"
    with contextlib.suppress(OSError), file.open("wb", buffering=0) as stream:
        stream.write(bytes(_PROBE_BYTES))
        os.fsync(stream.fileno())
    with contextlib.suppress(OSError):
        file.unlink()


class Full(DiskIll):
    name = "disk-full"
    about = "no room on one peer's disk (ENOSPC)"
    felt = "no_room"

    def order(self) -> str:
        return f"full {self.chance.choice((0, 3, 12))}"


class FullAll(Full):
    name = "disk-full-all"
    about = "no room on any peer's disk"

    async def whom(self) -> list[str]:
        return list(self.arena.peers.ids)


class SlowSync(DiskIll):
    name = "slow-fsync"
    about = "every sync of one peer's disk takes 1 to 5 s"
    felt = "slow_syncs"
    # A planned stop takes as long as its syncs.
    apart = frozenset({"restart"})
    stands = (4.0, 12.0)

    def order(self) -> str:
        return self.chance.choice(("slow 1 5", "slow 1 2", "slow 4 5"))


class SlowMajority(SlowSync):
    name = "slow-fsync-majority"
    about = "every sync of a majority's disks takes 1 to 5 s"

    async def whom(self) -> list[str]:
        return self.arena.majority()


class BadSyncs(DiskIll):
    name = "eio-fsync"
    about = "syncs of one peer's disk fail (EIO), and make nothing durable"
    felt = "bad_syncs"
    allows = DISK_FAILS
    stands = (0.5, 4.0)

    def order(self) -> str:
        return "bad-syncs"


class BadWrites(BadSyncs):
    name = "eio-write"
    about = "writes to one peer's disk fail (EIO)"
    felt = "bad_writes"

    def order(self) -> str:
        return "bad-writes"


FAULTS: tuple[type[Fault], ...] = (Full, FullAll, SlowSync, SlowMajority, BadSyncs, BadWrites)
