"""Peers of two versions in one cluster: upgraded one by one, and one that goes back; and clocks."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from raftsched.core.commands import AnyCommand, ResetClock, RunNow, SubmitTasks, TriggerSchedule
from raftsched.core.outcomes import Accepted
from raftsched.core.policy import Extra
from raftsched.core.versions import SUPPORTED, Supports
from raftsched.core.workflow import Fork
from raftsched.executor.messages import AttemptReport, Running, StartAttempt
from raftsched.peer import timekeeping
from raftsched.peer.config import PeerAddress, PeerConfig
from raftsched.peer.errors import NeedsVersion, NoLeader, PeerError, UpgradeNeeded
from raftsched.peer.host import PeerHost, Runner
from raftsched.peer.peer import Peer
from raftsched.raft.host import SystemClock
from raftsched.raft.log import Role
from tests.ports import free_ports
from tests.unit.core.builders import new_task

from .logs import until

#: What the version before this one could apply.
PREVIOUS = Supports(1, 2)


class IdleRunner:
    """A runner that takes attempts and never says a word."""

    adopted = False
    clean = True

    def __init__(self, incarnation: str) -> None:
        self.incarnation = incarnation
        self.on_reports: Callable[[list[AttemptReport]], None] = lambda reports: None
        self.on_lost: Callable[[], object] = lambda: None
        self.inventory: Mapping[int, Running] = {}

    def start(self, attempts: Sequence[StartAttempt], slots: int) -> None:
        pass

    def stop(self, token: int, reason: str) -> None:
        pass

    def serve_apps(
        self,
        generation: str,
        applications: Sequence[str],
        workers: int,
        home: tuple[str, str] = ("", ""),
    ) -> None:
        pass

    def configure(self, *, http_private: bool, http_metadata: bool, cgroup: str) -> None:
        pass

    def renew(self, granted_at: float, lease_seconds: float) -> None:
        pass

    def forget(self, tokens: Sequence[int]) -> None:
        pass

    async def watch(self, patience_seconds: float) -> None:
        await asyncio.Event().wait()

    async def close(self, *, stop_runner: bool) -> None:
        pass


class OffClock(SystemClock):
    """This machine's clocks, the wall clock ahead by so much."""

    ahead_ms = 0

    def wall_ms(self) -> int:
        return super().wall_ms() + self.ahead_ms


class IdleHost(PeerHost):
    """This machine, where nothing runs."""

    def __init__(self) -> None:
        self.off_clock = OffClock()
        super().__init__(clock=self.off_clock)

    async def runner(self, directory: Path, lease_seconds: float) -> Runner:
        return IdleRunner(f"{directory.parent.name}-{time.monotonic_ns()}")


class Cluster:
    """Three peers in this process, each of a version of its own."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        ports = free_ports(6)
        self.addresses = {
            f"n{i + 1}": PeerAddress(f"127.0.0.1:{ports[i]}", f"127.0.0.1:{ports[3 + i]}")
            for i in range(3)
        }
        self.peers: dict[str, Peer] = {}
        self.hosts: dict[str, IdleHost] = {}
        self.fatal: dict[str, list[BaseException]] = {}

    async def start(self, peer_id: str, supports: Supports) -> None:
        config = PeerConfig(
            cluster_id="c",
            peer_id=peer_id,
            peers=self.addresses,
            data_dir=self.directory / peer_id,
            token="0123456789abcdef",
            paranoid=True,
        )
        host = self.hosts[peer_id] = IdleHost()
        peer = Peer(config, host=host, supports=supports)
        peer.log.on_fatal = self.fatal.setdefault(peer_id, []).append
        await peer.start()
        self.peers[peer_id] = peer

    async def stop(self, peer_id: str) -> None:
        peer = self.peers.pop(peer_id)
        assert peer.failed is not None
        failed = peer.failed.exception() if peer.failed.done() else None
        await peer.stop()
        assert failed is None, failed

    async def leader(self) -> str:
        async with asyncio.timeout(10):
            while True:
                for peer_id, peer in self.peers.items():
                    status = peer.status()
                    if status.role is Role.LEADER and status.is_current:
                        return peer_id
                await asyncio.sleep(0.01)

    async def submit(self, task_id: str) -> None:
        """Through every peer that runs (once it takes effect), and seen on all of them."""
        for peer in self.peers.values():
            async with asyncio.timeout(10):
                while True:
                    try:
                        outcome = await peer.propose(
                            SubmitTasks((new_task(task_id, cpu_milli=10**9),))
                        )
                    except NoLeader:
                        await asyncio.sleep(0.02)
                        continue
                    assert isinstance(outcome, Accepted), outcome
                    break
        await until(lambda: all(p.state.tasks.get(task_id) for p in self.peers.values()))

    @property
    def versions(self) -> list[int]:
        """In force, as each peer that runs has it."""
        return [peer.state.version for _, peer in sorted(self.peers.items())]


@asynccontextmanager
async def cluster_of(directory: Path, supports: Supports) -> AsyncIterator[Cluster]:
    cluster = Cluster(directory)
    for peer_id in cluster.addresses:
        await cluster.start(peer_id, supports)
    try:
        yield cluster
    finally:
        for peer_id in list(cluster.peers):
            await cluster.stop(peer_id)


@pytest.mark.parametrize(
    ("previous", "in_force", "unknown", "needs"),
    [
        (PREVIOUS, 1, ResetClock(1), 3),
        (Supports(1, 3), 3, RunNow("before"), 4),
        (Supports(1, 4), 4, SubmitTasks((new_task("all", extra=Extra(broadcast=-1)),)), 5),
        (Supports(1, 5), 5, TriggerSchedule("s"), 6),
        (Supports(1, 6), 6, SubmitTasks((new_task("m", extra=Extra(fork=Fork())),)), 7),
        # What came with 8 is how known commands are applied: none is refused before.
        (Supports(1, 7), 7, None, 8),
    ],
    ids=["from 2", "from 3", "from 4", "from 5", "from 6", "from 7"],
)
async def test_cluster_is_upgraded_one_by_one_and_nobody_goes_back(
    tmp_path: Path, previous: Supports, in_force: int, unknown: AnyCommand | None, needs: int
) -> None:
    async with cluster_of(tmp_path, previous) as cluster:
        await until(lambda: cluster.versions == [in_force] * 3)
        await cluster.submit("before")
        leader = await cluster.leader()
        order = [*(peer_id for peer_id in cluster.peers if peer_id != leader), leader]
        for number, peer_id in enumerate(order):
            await cluster.stop(peer_id)
            await cluster.submit(f"without-{peer_id}")
            assert set(cluster.versions) == {in_force}
            if unknown is not None:
                with pytest.raises(NeedsVersion, match=f"needs cluster version {needs}"):
                    await next(iter(cluster.peers.values())).propose(unknown)
            await cluster.start(peer_id, SUPPORTED)
            if number < 2:
                # Some of both versions, and one of each may lead.
                await cluster.submit(f"with-{peer_id}")
                await hand_over(cluster, peer_id)
                await cluster.submit(f"under-{peer_id}")
                assert set(cluster.versions) == {in_force}
        await until(lambda: cluster.versions == [SUPPORTED.highest] * 3)
        await cluster.submit("after")
        assert len({len(peer.state.tasks) for peer in cluster.peers.values()}) == 1

        last = await cluster.leader()
        back = next(peer_id for peer_id in cluster.peers if peer_id != last)
        await cluster.stop(back)
        line = (
            f"upgrade this peer: the cluster runs version {SUPPORTED.highest}, this program "
            f"knows up to {previous.highest}"
        )
        for _ in range(2):
            await cluster.start(back, previous)
            await until(lambda: cluster.fatal[back])
            assert isinstance(cluster.fatal[back][0], UpgradeNeeded)
            assert str(cluster.fatal[back].pop(0)).startswith(line)
            assert cluster.peers[back].state.version == in_force
            assert cluster.peers[back].state.tasks.get("after") is None
            cluster.fatal[back].clear()
            await cluster.stop(back)
        await cluster.submit("without-the-one-that-went-back")
        await cluster.start(back, SUPPORTED)
        await cluster.submit("with-it-again")
        assert cluster.fatal[back] == []


async def hand_over(cluster: Cluster, to: str) -> None:
    """Make a peer lead."""
    async with asyncio.timeout(10):
        while await cluster.leader() != to:
            try:
                await cluster.peers[to].transfer_leadership(to)
            except PeerError:
                await asyncio.sleep(0.05)


async def test_a_leader_whose_clock_runs_away_moves_no_time_and_hands_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(timekeeping, "ALARM_SECONDS", 0.5)
    async with cluster_of(tmp_path, SUPPORTED) as cluster:
        await until(lambda: cluster.versions == [SUPPORTED.highest] * 3)
        wrong = await cluster.leader()
        await cluster.submit("before")
        cluster.hosts[wrong].off_clock.ahead_ms = 3_600_000
        await cluster.submit("while-its-clock-is-wrong")
        true_ms = SystemClock().wall_ms()
        assert abs(cluster.peers[wrong].state.now - true_ms) < 10_000
        async with asyncio.timeout(10):
            while await cluster.leader() == wrong:
                await asyncio.sleep(0.02)
        await cluster.submit("under-one-whose-clock-is-right")
        now = {peer.state.now for peer in cluster.peers.values()}
        assert max(now) <= SystemClock().wall_ms() + 2_000
        offsets = cluster.peers[await cluster.leader()].told()
        assert 3_590_000 < (offsets[wrong].clock_offset_ms or 0) < 3_610_000
