"""Wall clocks that are wrong: stepped, drifting, hopping to and fro."""

from __future__ import annotations

import asyncio
import time
from email.utils import parsedate_to_datetime

from jepsen_like.api import Api, Unreachable
from jepsen_like.nemesis.base import Arena, Fault, Seen
from jepsen_like.peers import TOKEN

#: What a peer says of the time is whole seconds, and may be a moment old.
_SECONDS_OFF_MAX = 1.6
#: The cluster's time is put right if it was made wrong by more than it waits for in silence.
_RESET_MS = 2_000


class Clock(Fault):
    """The clock of one machine is stepped, and put right after a while."""

    nemesis = "clock"
    name = "clock-one"
    about = "the wall clock of one peer is 3 s to 5 min ahead or behind"
    needs_clocks = True
    takes = frozenset({"clock"})
    stands = (2.0, 12.0)
    steps_ms: tuple[int, ...] = (-300_000, -60_000, -10_000, -3_000, 3_000, 10_000, 60_000, 300_000)

    def __init__(self, arena: Arena) -> None:
        super().__init__(arena)
        self.targets: list[str] = []
        self.offset_ms = self.chance.choice(self.steps_ms)
        self.drift = 0.0
        self._began = time.monotonic()

    async def whom(self) -> list[str]:
        """Whose clocks."""
        return [self.arena.one()]

    async def begin(self) -> Seen:
        self.targets = await self.whom()
        self.put()
        verified, said = await self.compare()
        return Seen(self.targets, verified, said, shift_ms=self.shift_ms())

    def put(self) -> None:
        """Set them all."""
        self._began = time.monotonic()
        for peer in self.targets:
            self.arena.set_clock(peer, self.offset_ms, drift=self.drift)

    def shift_ms(self) -> int:
        """How far ahead the cluster's time may be because of it: a majority is believed.

        Behind clocks that were stepped back it stands still, and is right with them again.
        """
        is_believed = 2 * len(self.targets) > len(self.arena.peers.ids)
        return max(self.offset_ms, 0) if is_believed else 0

    async def compare(self) -> tuple[bool | None, str]:
        """Do the peers that answer say what they are meant to?  None: none answers."""
        found = {peer: await _seconds_ahead(self.arena.peers.api(peer)) for peer in self.targets}
        meant = self.offset_ms / 1000 + self.drift * (time.monotonic() - self._began)
        said = {peer: ahead for peer, ahead in found.items() if ahead is not None}
        words = ", ".join(f"{peer} {ahead:+.1f} s" for peer, ahead in said.items())
        if not said:
            return None, f"{meant:+.1f} s; nobody said what time it is"
        is_right = all(abs(ahead - meant) <= _SECONDS_OFF_MAX for ahead in said.values())
        return is_right, f"meant {meant:+.1f} s, seen {words}"

    async def end(self) -> Seen:
        for peer in self.targets:
            self.arena.set_clock(peer, 0)
        if self.shift_ms() <= _RESET_MS:
            return Seen(self.targets, None)
        peer = await self._reset()
        if peer:
            return Seen(self.targets, None, f"the cluster's time was reset through {peer}")
        said = "the cluster's time could not be reset, and stands still until clocks pass it"
        return Seen(self.targets, None, said, shift_ms=self.shift_ms())

    async def _reset(self) -> str:
        """As an operator does when the cluster's time is ahead; through whom, empty: nobody."""
        for peer in sorted(self.arena.peers.running):
            try:
                async with Api(self.arena.peers.api(peer), TOKEN) as api:
                    answer = await api.ask("POST", "/v1/cluster/clock:reset", {}, seconds=5.0)
            except Unreachable:
                continue
            if answer.status == 200:
                return peer
        return ""


class ClockLeader(Clock):
    name = "clock-leader"
    about = "the leader's wall clock is 3 s to 5 min ahead or behind"

    async def whom(self) -> list[str]:
        return [await self.arena.leader()]


class ClockAll(Clock):
    name = "clock-all"
    about = "all wall clocks are ahead or behind together, which is believed"
    steps_ms: tuple[int, ...] = (-120_000, -20_000, -3_000, 3_000, 10_000, 20_000)

    async def whom(self) -> list[str]:
        return list(self.arena.peers.ids)


class ClockChange(ClockAll):
    name = "clock-change"
    about = "all wall clocks are stepped over a change of a time zone's, just before or after it"
    needs_crons = True
    steps_ms = (-10_000, -4_000, 4_000, 10_000)

    def __init__(self, arena: Arena) -> None:
        super().__init__(arena)
        # Peers take some tenths of a second to believe it; the change must not come before that.
        before = self.chance.uniform(1.0, 2.5)
        self._side = -before if self.offset_ms > 0 else self.chance.uniform(0.2, 1.5)
        self._change = 0

    async def wait(self) -> None:
        zone = self.arena.peers.zone
        assert zone is not None, "peers whose clocks are set here know the zone"
        change = zone.next_change(time.time() - self._side)
        assert change is not None, "the zone is made for the whole run"
        self._change = change.since
        await asyncio.sleep(max(change.since + self._side - time.time(), 0.0))

    async def begin(self) -> Seen:
        seen = await super().begin()
        words = f"from {self._side:+.1f} s of the change at {self._change} on: {seen.detail}"
        return seen._replace(detail=words)


class ClockDrift(Clock):
    name = "clock-drift"
    about = "the wall clock of one peer, often the leader, is a third too fast or too slow"
    stands = (6.0, 15.0)
    steps_ms = (0,)

    async def whom(self) -> list[str]:
        return [await self.arena.leader() if self.chance.random() < 0.5 else self.arena.one()]

    async def begin(self) -> Seen:
        self.drift = self.chance.choice((-0.35, 0.35))
        seen = await super().begin()
        return Seen(seen.targets, None, f"{self.drift:+.2f} s a second")

    async def end(self) -> Seen:
        verified, said = await self.compare()
        seen = await super().end()
        return Seen(seen.targets, verified, said)


class ClockHops(Clock):
    name = "clock-hops"
    about = "the leader's wall clock hops to and fro several times a second"
    steps_ms = (-60_000, -5_000, 5_000, 60_000)

    async def whom(self) -> list[str]:
        return [await self.arena.leader()]

    async def begin(self) -> Seen:
        seen = await super().begin()
        self._hopping = asyncio.create_task(self._hop())
        return seen

    async def _hop(self) -> None:
        while True:
            for offset_ms in (0, self.offset_ms):
                await asyncio.sleep(self.chance.uniform(0.05, 0.8))
                for peer in self.targets:
                    self.arena.set_clock(peer, offset_ms)

    async def end(self) -> Seen:
        self._hopping.cancel()
        await asyncio.gather(self._hopping, return_exceptions=True)
        return await super().end()


async def _seconds_ahead(address: str) -> float | None:
    """A peer's idea of the time against ours, by the date in its answers; None: it gives none."""
    try:
        async with Api(address, TOKEN) as api:
            # The second that is written there may be the one before.
            await api.ask("GET", "/health/live", seconds=2.0)
            await asyncio.sleep(1.05)
            answer = await api.ask("GET", "/health/live", seconds=2.0)
    except Unreachable:
        return None
    text = answer.headers.get("date", "")
    return parsedate_to_datetime(text).timestamp() + 0.5 - time.time() if text else None


FAULTS: tuple[type[Fault], ...] = (Clock, ClockLeader, ClockAll, ClockChange, ClockDrift, ClockHops)
