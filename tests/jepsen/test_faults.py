"""What faults say of themselves where another one came before them, and when their moment is."""

from __future__ import annotations

import asyncio
import random
import time
from pathlib import Path
from typing import Any

import pytest

from jepsen_like.nemesis import disks
from jepsen_like.nemesis.base import Seen
from jepsen_like.nemesis.disks import SlowMajority
from jepsen_like.nemesis.power import Torn
from jepsen_like.nemesis.processes import KillRunner
from jepsen_like.nemesis.walls import ClockChange
from jepsen_like.zones import Zone


class _Peers:
    """Three, of which some run."""

    def __init__(self, *running: str) -> None:
        self.ids = ["n1", "n2", "n3"]
        self.running = set(running)
        self.zone = Zone(round(time.time()) + 4, 10)
        self.signals = 0

    def api(self, peer: str) -> str:
        return "127.0.0.1:1"

    async def signal(self, peer: str, number: int, who: str) -> list[int]:
        self.signals += 1
        return [1] if peer in self.running else []


class _Arena:
    """Machines whose disks count what they are told to."""

    def __init__(self, *running: str) -> None:
        self.peers = _Peers(*running)
        self.chance = random.Random(1)
        self.counts = {"n1": 0, "n2": 0, "n3": 0}
        self.clocks: list[tuple[float, int]] = []

    def one(self) -> str:
        return "n3"

    def one_running(self) -> str:
        return min(self.peers.running, default="n3")

    def majority(self) -> list[str]:
        return ["n1", "n2"]

    async def leader(self) -> str:
        return self.one_running()

    async def disk_counts(self, peer: str) -> dict[str, int]:
        return {"slow_syncs": self.counts[peer]}

    def disk_of(self, peer: str) -> Path:
        return Path(peer)

    async def tell_disk(self, peer: str, words: str) -> str:
        return "ok"

    async def start(self, peers: list[str]) -> None:
        """Nobody."""

    def set_clock(self, peer: str, offset_ms: int, *, drift: float = 0.0) -> None:
        self.clocks.append((time.time(), offset_ms))


@pytest.mark.parametrize(
    ("felt", "by_probe", "verified"),
    [
        ({"n1": 3, "n2": 1}, set(), True),
        # A dead peer, or one that is cut off, does not use its disk; a probe does.
        ({"n1": 3}, {"n2"}, True),
        ({}, {"n1", "n2"}, True),
        # The disk is well.
        ({"n1": 3}, set(), False),
    ],
)
def test_a_disk_that_its_peer_does_not_use_is_probed(
    felt: dict[str, int], by_probe: set[str], verified: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    arena: Any = _Arena("n1", "n2")

    def use(disk: Path) -> None:
        arena.counts[disk.name] += int(disk.name in by_probe)

    async def go() -> Seen:
        ill = SlowMajority(arena)
        await ill.begin()
        arena.counts.update(felt)
        return await ill.end()

    monkeypatch.setattr("jepsen_like.nemesis.disks.FELT_SECONDS", 0.1)
    monkeypatch.setattr("jepsen_like.nemesis.disks._use", use)
    seen = asyncio.run(go())
    assert seen.verified is verified
    assert ("by a probe alone" in seen.detail) is (set(felt) != {"n1", "n2"})


def test_a_probe_leaves_nothing_behind(tmp_path: Path) -> None:
    disks._use(tmp_path)
    assert list(tmp_path.iterdir()) == []
    disks._use(tmp_path / "gone")


def test_a_runner_is_killed_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jepsen_like.nemesis.processes._RUNNER_SECONDS", 0.1)
    assert asyncio.run(KillRunner(_Arena("n2")).begin()).verified is True  # type: ignore[arg-type]
    assert asyncio.run(KillRunner(_Arena()).begin()).verified is None  # type: ignore[arg-type]
    assert not KillRunner.moves_leader


@pytest.mark.parametrize("step_ms", [4_000, -4_000])
def test_clocks_are_stepped_over_the_change_and_not_beside_it(
    step_ms: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def nobody(address: str) -> None:
        return None

    monkeypatch.setattr("jepsen_like.nemesis.walls._seconds_ahead", nobody)
    monkeypatch.setattr(ClockChange, "steps_ms", (step_ms,))
    arena: Any = _Arena("n1", "n2", "n3")
    asyncio.run(_go(ClockChange(arena)))
    at, offset_ms = arena.clocks[0]
    low, high = sorted((at, at + offset_ms / 1_000))
    assert offset_ms == step_ms
    assert any(low < offset.since < high for offset in arena.peers.zone.offsets), (at, offset_ms)


async def _go(change: ClockChange) -> None:
    await change.wait()
    seen = await change.begin()
    assert "of the change at" in seen.detail


def test_a_torn_tail_of_nobody_is_not_probed() -> None:
    class Dark(Torn):
        async def aim(self, peer: str, order: str) -> bool:
            return False

        async def take(self, peers: list[str], detail: str) -> Any:
            return Seen(peers, True, detail)

    assert asyncio.run(Dark(_Arena()).begin()).verified is None  # type: ignore[arg-type]
    assert asyncio.run(Dark(_Arena("n1")).begin()).verified is False  # type: ignore[arg-type]
