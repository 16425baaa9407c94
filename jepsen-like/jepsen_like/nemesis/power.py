"""Machines whose power goes: what their disks were not asked to sync is lost, or some of it."""

from __future__ import annotations

import asyncio
import time

from jepsen_like.nemesis.base import DISK_FAILS, Arena, Fault, Seen

#: A power cut that was aimed at an operation of a disk comes by itself at last.
AIM_SECONDS = 5.0


class Power(Fault):
    """The power of machines goes at once, and comes back."""

    nemesis = "power"
    name = "power-one"
    about = "one machine loses its power, and what was not synced"
    needs_disks = True
    takes = frozenset({"disk"})
    # A peer may see its disk go before it goes itself.
    allows = DISK_FAILS
    stands = (0.2, 6.0)

    def __init__(self, arena: Arena) -> None:
        super().__init__(arena)
        self.targets: list[str] = []
        #: How much each had said when its disk still had power.
        self._said: dict[str, int] = {}

    async def whom(self) -> list[str]:
        """The victims."""
        return [self.arena.one()]

    async def begin(self) -> Seen:
        victims = await self.whom()
        return await self.take(victims, await self.cut(victims))

    async def cut(self, peers: list[str]) -> str:
        """Take the power of their disks; what there is to say of it."""
        # Half of the time what was not synced is lost whole, else each write has a fate of its own.
        is_whole = self.chance.random() < 0.5
        orders = ["cut" if is_whole else f"cut {self.chance.getrandbits(32)}" for _ in peers]
        pairs = zip(peers, orders, strict=True)
        self._said.update({peer: self.arena.log_size(peer) for peer in peers})
        await asyncio.gather(*[self.arena.tell_disk(peer, order) for peer, order in pairs])
        return f"{'all' if is_whole else 'some'} of what was not synced is lost"

    async def take(self, peers: list[str], detail: str) -> Seen:
        """These disks are dark; so are their machines."""
        for peer in peers:
            self.arena.hold(peer)
            self.targets.append(peer)
        await asyncio.gather(*[self.arena.kill(peer, power=True) for peer in peers])
        for peer in peers:
            self.arena.set_aside_log(peer, self._said[peer])
            look = await self.arena.peers.machines[peer].order("look")
            is_off = await self.arena.tell_disk(peer, "state") == "off"
            if not is_off or look["exit"] is None or look["others"]:
                return Seen(peers, False, f"{peer}: off {is_off}, {look}")
        return Seen(peers, True, detail)

    async def end(self) -> Seen:
        answers = []
        for peer in self.targets:
            answers.append(await self.arena.tell_disk(peer, "up"))
            self.arena.free(peer)
        await self.arena.start(self.targets)
        return Seen(self.targets, answers == ["ok"] * len(self.targets), ", ".join(answers))


class PowerLeader(Power):
    name = "power-leader"
    moves_leader = True
    about = "the leader's machine loses its power"

    async def whom(self) -> list[str]:
        return [await self.arena.leader()]


class PowerMajority(Power):
    name = "power-majority"
    about = "one machine more than may fail loses its power, at once"

    async def whom(self) -> list[str]:
        return self.arena.majority()


class PowerAll(Power):
    name = "power-all"
    moves_leader = True
    about = "all machines lose their power at once"
    # Nothing is left that another one could break.
    is_alone = True

    async def whom(self) -> list[str]:
        return list(self.arena.peers.ids)


class PowerWhileSyncing(PowerAll):
    """What came in the last second is on the leader's disk alone, so nobody may be told of it."""

    name = "power-while-syncing"
    about = "all machines lose their power while each sync takes 2 s, but the leader's"
    #: For so long before it goes.
    slow_seconds = (0.3, 1.8)

    async def begin(self) -> Seen:
        victims, leader = await self.whom(), await self.arena.leader()
        others = [peer for peer in victims if peer != leader]
        await asyncio.gather(*[self.arena.tell_disk(peer, "slow 2 2") for peer in others])
        await asyncio.sleep(self.chance.uniform(*self.slow_seconds))
        return await self.take(victims, await self.cut(victims))

    async def end(self) -> Seen:
        await asyncio.gather(*[self.arena.tell_disk(peer, "well") for peer in self.targets])
        return await super().end()


class PowerAimed(Power):
    """At an operation of one disk to come: between a write and its sync, or a name and its."""

    name = "power-aimed"
    about = "the power goes at the n-th operation of a disk to come; all others follow, or none"

    async def begin(self) -> Seen:
        first = await self.arena.leader() if self.chance.random() < 0.5 else self.arena.one()
        count = self.chance.randint(1, 60)
        seed = f" {self.chance.getrandbits(32)}" if self.chance.random() < 0.5 else ""
        came = await self.aim(first, f"cut-at {count}{seed}")
        words = f"at operation {count} of {first}{'' if came else ', which did not come'}"
        if self.chance.random() < 0.5:
            return await self.take([first], words)
        rest = [peer for peer in self.arena.peers.ids if peer != first]
        words += f"; then of all: {await self.cut(rest)}"
        return await self.take([first, *rest], words)

    async def aim(self, peer: str, order: str) -> bool:
        """Wait until the power has gone by itself; False: it had to be cut."""
        self._said[peer] = self.arena.log_size(peer)
        await self.arena.tell_disk(peer, order)
        deadline = time.monotonic() + AIM_SECONDS
        while True:
            said = self.arena.log_size(peer)
            if await self.arena.tell_disk(peer, "state") == "off":
                return True
            self._said[peer] = said
            if time.monotonic() > deadline:
                await self.arena.tell_disk(peer, "cut")
                return False
            await asyncio.sleep(0.005)


class Torn(PowerAimed):
    """Of the last write to the journal a first part reaches the disk."""

    nemesis = "torn"
    name = "torn-tail"
    about = "the power goes in the middle of a write to the journal: its tail is torn"
    #: How the files are named whose last write is torn.
    prefix = "segment-"

    async def begin(self) -> Seen:
        is_leader = self.chance.random() < 0.5
        peer = await self.arena.leader() if is_leader else self.arena.one_running()
        order = f"tear-at {self.chance.randint(1, 30)} {self.chance.getrandbits(32)} {self.prefix}"
        was_running = peer in self.arena.peers.running
        came = await self.aim(peer, order)
        torn = await self.arena.tell_disk(peer, "torn")
        dark = await self.take([peer], f"{torn} bytes" if came else "no write to the journal came")
        if not came and not was_running:
            return dark._replace(verified=None)
        return dark._replace(verified=dark.verified and came)


FAULTS: tuple[type[Fault], ...] = (
    Power, PowerLeader, PowerMajority, PowerAll, PowerWhileSyncing, PowerAimed,
    Torn,
)  # fmt: skip
