"""Disks that are full, slow, or fail."""

from __future__ import annotations

import asyncio
import time
from abc import abstractmethod

from jepsen_like.nemesis.base import DISK_FAILS, Arena, Fault, Seen

#: What was not felt yet when it is to end is waited for so long.
FELT_SECONDS = 8.0


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
        #: Those of them that used their disks when it began.
        self._awake: list[str] = []

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
            if peer in self.arena.peers.running:
                self._awake.append(peer)
            await self.arena.tell_disk(peer, order)
        return Seen(self.targets, None, order)

    async def end(self) -> Seen:
        deadline = time.monotonic() + FELT_SECONDS
        while self._tells(felt := await self._felt()) is False and time.monotonic() < deadline:
            await asyncio.sleep(0.1)
        for peer in self.targets:
            await self.arena.tell_disk(peer, "well")
        await self.arena.start(self.targets)
        words = ", ".join(f"{peer}: {count} {self.felt}" for peer, count in felt.items())
        return Seen(self.targets, self._tells(felt), words)

    def _tells(self, felt: dict[str, int]) -> bool | None:
        """Was it felt?  More than half of the disks is what tells, as not all may be used at once.

        None: nobody could feel it.  Who was ended by another fault before it used its disk could
        not.
        """
        could = [p for p in self._awake if felt[p] or p in self.arena.peers.running]
        return 2 * sum(felt[peer] > 0 for peer in could) > len(could) if could else None

    async def _felt(self) -> dict[str, int]:
        found = {}
        for peer in self.targets:
            found[peer] = (await self.arena.disk_counts(peer))[self.felt] - self._before[peer]
        return found


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
