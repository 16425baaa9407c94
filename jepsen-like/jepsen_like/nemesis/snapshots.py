"""Snapshots: a peer that was away too long gets one, and peers die while they make one."""

from __future__ import annotations

import asyncio
import re
import time

from jepsen_like.nemesis.base import DISK_FAILS, Arena, Fault, Seen

#: The trap is sprung within so long, or there was no compaction.
TRAP_SECONDS = 20.0
#: A peer that comes back has what it needs within so long.
INSTALL_SECONDS = 30.0
#: What a peer says that was given a snapshot.
_INSTALLED = re.compile(r"loaded a snapshot of \S+ at index (\d+)")
#: Where a compaction hangs when its peer dies: what is done, and to which file.
_STEPS = ("write draft-", "sync draft-", "rename draft-", "unlink segment-")


class Laggard(Fault):
    """One peer is down until the others have given up what it would need of their journals."""

    nemesis = "snapshot"
    name = "laggard"
    about = "one peer is down for so long that it must be given a snapshot"
    needs_small_journals = True
    # Whatever else is broken keeps the others from writing as much as it takes.
    is_alone = True
    stands = (10.0, 16.0)

    def __init__(self, arena: Arena) -> None:
        super().__init__(arena)
        self.target = ""

    async def begin(self) -> Seen:
        leader = await self.arena.leader()
        others = [peer for peer in self.arena.peers.ids if peer != leader]
        self.target = self.chance.choice(others)
        self.arena.hold(self.target)
        await self.arena.kill(self.target)
        return Seen([self.target], None, "down")

    async def end(self) -> Seen:
        peers = self.arena.peers
        before = peers.log(self.target).stat().st_size
        self.arena.free(self.target)
        await self.arena.start([self.target])
        deadline = time.monotonic() + INSTALL_SECONDS
        while time.monotonic() < deadline:
            said = peers.log(self.target).read_bytes()[before:].decode(errors="replace")
            found = _INSTALLED.search(said)
            if found is not None:
                return Seen([self.target], True, found[0])
            await asyncio.sleep(0.1)
        return Seen([self.target], False, "it was given no snapshot")


class KillCompaction(Fault):
    """Its disk stops at one step of a compaction, and the peer dies there."""

    nemesis = "snapshot"
    name = "kill-compaction"
    about = "SIGKILL of a peer in the middle of writing, publishing or trimming behind a snapshot"
    needs_disks = True
    needs_small_journals = True
    takes = frozenset({"disk", "members"})
    # Who is cut off has nothing to compact.
    apart = frozenset({"partition"})
    stands = (0.1, 3.0)

    def __init__(self, arena: Arena) -> None:
        super().__init__(arena)
        self.target = ""

    async def begin(self) -> Seen:
        peer = self.target = self.arena.one_running()
        step = self.chance.choice(_STEPS)
        await self.arena.tell_disk(peer, f"trap {step}")
        deadline = time.monotonic() + TRAP_SECONDS
        while (caught := await self.arena.tell_disk(peer, "trapped")) == "none":
            if time.monotonic() > deadline:
                runs = peer in self.arena.peers.running
                return Seen([peer], False if runs else None, f"no {step} came")
            await asyncio.sleep(0.01)
        self.arena.hold(peer)
        await self.strike(peer)
        is_dead = await self.arena.peers.exit_of(peer) is not None
        return Seen([peer], is_dead and caught.startswith(step), f"died at {caught}")

    async def strike(self, peer: str) -> None:
        """It dies."""
        await self.arena.kill(peer)

    async def end(self) -> Seen:
        self.arena.free(self.target)
        await self.arena.tell_disk(self.target, "well")
        await self.arena.tell_disk(self.target, "up")
        await self.arena.start([self.target])
        return Seen([self.target], None)


class PowerAtCompaction(KillCompaction):
    name = "power-compaction"
    about = "the power goes in the middle of writing, publishing or trimming behind a snapshot"
    allows = DISK_FAILS

    async def strike(self, peer: str) -> None:
        seed = f" {self.chance.getrandbits(32)}" if self.chance.random() < 0.5 else ""
        said = self.arena.log_size(peer)
        await self.arena.tell_disk(peer, "cut" + seed)
        await self.arena.kill(peer, power=True)
        self.arena.set_aside_log(peer, said)


FAULTS: tuple[type[Fault], ...] = (Laggard, KillCompaction, PowerAtCompaction)
