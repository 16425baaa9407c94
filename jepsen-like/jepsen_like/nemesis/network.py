"""Networks that are cut, lossy, slow, and out of order."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from typing import Any

from jepsen_like.nemesis.base import Fault, Seen
from jepsen_like.net.layers import Direction

#: A bad link hits something within so long, also where little is said.
_SEEN_SECONDS = 5.0


class Partition(Fault):
    """Some directions carry nothing."""

    nemesis = "partition"
    name = "partition-one"
    about = "one peer is cut off from the others"
    needs = frozenset({"drop"})
    rule: dict[str, Any] = {"drop": True}

    async def cuts(self) -> list[Direction]:
        """The directions that carry nothing."""
        return _between([self.arena.one()], self.arena.peers.ids)

    def seconds(self) -> float:
        # Some outlast a lease, what is run elsewhere then, and what is heard of that.
        return self.chance.uniform(0.2, 2.5) * self.arena.lease_seconds

    async def begin(self) -> Seen:
        self.directions = await self.cuts()
        self._before = await self._lost()
        source, to = self.chance.choice(self.directions)
        # Over a bad link a probe fails as like as not.
        is_probed = self.arena.net.refuses_who_is_cut_off and self.arena.is_bare(source, to)
        await self.arena.lay(self, self.directions, self.rule)
        is_cut = None
        if is_probed:
            is_cut = not await self.arena.reaches(source, to)
        targets = sorted({peer for direction in self.directions for peer in direction})
        words = ", ".join(f"{source}>{to}" for source, to in self.directions)
        return Seen(targets, is_cut, f"{words}; probed {source}>{to}")

    async def end(self) -> Seen:
        lost = await self._lost() - self._before
        await self.arena.lift(self, self.directions)
        targets = sorted({peer for direction in self.directions for peer in direction})
        return Seen(targets, lost > 0, f"{lost} packets not carried")

    async def _lost(self) -> int:
        counts = await self.arena.net.counts()
        return sum(
            counts.get(f"{source}>{to}", {}).get(kind, 0)
            for source, to in self.directions
            for kind in _LOST
        )


#: Of two cuts one of which refuses, all is refused.
_LOST = ("dropped", "rejected")


class Refused(Partition):
    name = "partition-refused"
    about = "one peer is cut off, and connections are refused at once, not left hanging"
    needs = frozenset({"reject"})
    rule = {"reject": True}


class LeaderCut(Partition):
    name = "partition-leader"
    about = "the leader is cut off from the others"

    async def cuts(self) -> list[Direction]:
        return _between([await self.arena.leader()], self.arena.peers.ids)


class Halves(Partition):
    name = "partition-halves"
    about = "a majority and a minority that do not hear each other"

    async def cuts(self) -> list[Direction]:
        return _between(self.arena.majority(), self.arena.peers.ids)


class OneWay(Partition):
    name = "partition-one-way"
    about = "one peer is heard by the others and hears nobody"

    async def cuts(self) -> list[Direction]:
        deaf = await self.arena.leader() if self.chance.random() < 0.5 else self.arena.one()
        return [(peer, deaf) for peer in self.arena.peers.ids if peer != deaf]


class Mute(Partition):
    name = "partition-mute"
    about = "one peer hears the others and is heard by nobody"

    async def cuts(self) -> list[Direction]:
        mute = await self.arena.leader() if self.chance.random() < 0.5 else self.arena.one()
        return [(mute, peer) for peer in self.arena.peers.ids if peer != mute]


class Bridge(Partition):
    name = "partition-bridge"
    about = "two groups that only one peer hears both of"

    async def cuts(self) -> list[Direction]:
        peers = self.arena.some(len(self.arena.peers.ids))
        self.chance.shuffle(peers)
        rest = peers[1:]
        return _between(rest[: len(rest) // 2], rest)


class Ring(Partition):
    name = "partition-ring"
    about = "each peer hears its two neighbours only (of five), or one of them (of three)"

    async def cuts(self) -> list[Direction]:
        peers = self.arena.some(len(self.arena.peers.ids))
        self.chance.shuffle(peers)
        count = len(peers)
        if count <= 3:
            return [(peers[n], peers[n - 1]) for n in range(count)]
        return [
            (a, b)
            for n, a in enumerate(peers)
            for m, b in enumerate(peers)
            if a != b and (n - m) % count not in (1, count - 1)
        ]


class Flapping(Partition):
    name = "partition-flapping"
    about = "one peer is cut off and let back several times a second"
    # Another cut would not let it back.
    apart = frozenset({"partition"})

    async def begin(self) -> Seen:
        seen = await super().begin()
        self._flapping = asyncio.create_task(self._flap())
        return seen

    async def _flap(self) -> None:
        while True:
            for rule in ({}, self.rule):
                await asyncio.sleep(self.chance.uniform(0.05, 0.6))
                await self.arena.lay(self, self.directions, rule)

    async def end(self) -> Seen:
        self._flapping.cancel()
        await asyncio.gather(self._flapping, return_exceptions=True)
        return await super().end()


class Link(Fault):
    """All directions between peers are bad."""

    nemesis = "link"
    name = "loss"
    about = "5 or 30 % of all packets between peers are lost"
    needs = frozenset({"loss"})
    # Of two that do the same nobody could tell whose packet was hit.
    takes = frozenset({"loss"})
    stands = (2.0, 8.0)
    kinds: tuple[str, ...] = ("lost",)

    def rule(self) -> dict[str, Any]:
        """What becomes of the packets."""
        return {"loss": self.chance.choice((0.05, 0.3))}

    async def begin(self) -> Seen:
        ids, rule = self.arena.peers.ids, self.rule()
        self.directions = [(a, b) for a in ids for b in ids if a != b]
        self._before = await self._counts()
        await self.arena.lay(self, self.directions, rule)
        return Seen(list(ids), None, str(rule))

    async def end(self) -> Seen:
        found = await self._found()
        deadline = time.monotonic() + _SEEN_SECONDS
        while min(found.values()) <= 0 and time.monotonic() < deadline:
            # Peers that have little to say to each other need longer until it hits one.
            await asyncio.sleep(0.1)
            found = await self._found()
        await self.arena.lift(self, self.directions)
        return Seen(list(self.arena.peers.ids), min(found.values()) > 0, f"packets: {found}")

    async def _found(self) -> dict[str, int]:
        """Packets by kind since it began."""
        return {kind: n - self._before[kind] for kind, n in (await self._counts()).items()}

    async def _counts(self) -> dict[str, int]:
        """Packets by kind, all directions together."""
        counts = await self.arena.net.counts()
        return {kind: sum(d.get(kind, 0) for d in counts.values()) for kind in self.kinds}


class Delay(Link):
    name = "delay"
    about = "all packets between peers are 50 or 300 ms late, some more than others"
    needs = frozenset({"delay_ms"})
    takes = frozenset({"delay"})
    kinds = ("delayed",)

    def rule(self) -> dict[str, Any]:
        delay_ms = self.chance.choice((50, 300))
        return {"delay_ms": delay_ms, "jitter_ms": delay_ms / 5}


class Disorder(Link):
    name = "disorder"
    about = "packets between peers are doubled and overtake each other"
    needs = frozenset({"duplicate", "reorder"})
    takes = frozenset({"disorder", "delay"})
    kinds = ("reordered", "doubled")

    def rule(self) -> dict[str, Any]:
        return {"duplicate": 0.1, "reorder": 0.1, "delay_ms": 2, "jitter_ms": 10}


def _between(some: Iterable[str], everybody: Iterable[str]) -> list[Direction]:
    """Both directions between these and all others."""
    inside, ids = set(some), list(everybody)
    return [(a, b) for a in ids for b in ids if (a in inside) != (b in inside)]


FAULTS: tuple[type[Fault], ...] = (
    Partition, Refused, LeaderCut, Halves, OneWay, Mute, Bridge, Ring, Flapping, Link, Delay,
    Disorder,
)  # fmt: skip
