"""Promise G6: a replica that is not the majority's stops and stays stopped; without a majority
nothing is written."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from raftsched import Peer, load_config
from raftsched.core import codec
from raftsched.core.commands import ENTRY_VERSION
from raftsched.peer.errors import PeerStopped, ReplicaDiverged
from raftsched.peer.recovery import Recovery
from raftsched.raft.files import OsDisk
from raftsched.raft.recovery import NothingToRecover
from raftsched.raft.snapshot_file import SnapshotReader
from tests.e2e.cluster import Answer, Cluster, until

pytestmark = pytest.mark.timeout(60)


class Peers:
    """Three peers in this process."""

    def __init__(self, cluster: Cluster, peers: dict[str, Peer]) -> None:
        self.cluster = cluster
        self.peers = peers

    async def until(self, condition: Any) -> Any:
        """The first true value of a function; TimeoutError after ten seconds."""
        async with asyncio.timeout(10):
            while not (found := condition()):
                await asyncio.sleep(0.01)
            return found

    def leader(self) -> str | None:
        """Of the version that compares replicas, with all nodes registered everywhere."""
        leading = [p for p, peer in self.peers.items() if peer.status().leader == p]
        grown = all(
            peer.state.version == ENTRY_VERSION and len(peer.state.nodes) == 3
            for peer in self.peers.values()
        )
        return leading[0] if grown and len(leading) == 1 else None

    async def ask(self, peer_id: str, method: str, path: str, body: Any = None) -> Answer:
        return await asyncio.to_thread(self.cluster.request, peer_id, method, path, body)

    async def applied_everywhere(self) -> None:
        """Nothing is on its way."""
        await self.until(lambda: len({p.state.index for p in self.peers.values()}) == 1)


def corrupt(peer: Peer, task_id: str, losses: int) -> None:
    """Change a row behind the state's back, as a bug in ``apply`` would."""
    task = peer.state.tasks.get(task_id)
    assert task is not None
    peer.state.tasks.put(task_id, msgspec.structs.replace(task, losses=losses))


@asynccontextmanager
async def three(directory: Path) -> AsyncIterator[Peers]:
    cluster = Cluster(directory)
    async with AsyncExitStack() as stack:
        peers = {
            peer_id: Peer(load_config(cluster.config, peer_id, directory / peer_id))
            for peer_id in cluster.ids
        }
        for peer in peers.values():
            await stack.enter_async_context(peer)
        found = Peers(cluster, peers)
        await found.until(found.leader)
        yield found


@pytest.mark.parametrize("is_leader", [False, True], ids=["follower", "leader"])
async def test_the_peer_in_the_minority_stops_and_does_not_come_back(
    tmp_path: Path, is_leader: bool, caplog: pytest.LogCaptureFixture
) -> None:
    async with three(tmp_path) as cluster:
        leader = await cluster.until(cluster.leader)
        bad = leader if is_leader else next(p for p in cluster.peers if p != leader)
        good = next(p for p in cluster.peers if p not in (bad, leader))
        # Of a later time than anything of this test, so that nobody runs it.
        task = await cluster.peers[good].submit(["true"], priority=1, resources={"cpu": 10_000})
        await cluster.applied_everywhere()
        same = await cluster.ask(good, "POST", "/v1/cluster:verify", {})
        assert (same.status, same.json["verdict"]) == (200, "same"), same

        corrupt(cluster.peers[bad], task.id, 1)
        found = await cluster.ask(good, "POST", "/v1/cluster:verify", {})
        verdicts = {peer["id"]: peer["verdict"] for peer in found.json["peers"]}
        assert verdicts == {p: "diverged" if p == bad else "same" for p in cluster.peers}
        assert found.json["suspect"] is False

        stopped = cluster.peers[bad]
        assert stopped.failed is not None
        with pytest.raises(ReplicaDiverged, match=r"refill: .*remove this peer from the cluster"):
            await asyncio.wait_for(asyncio.shield(stopped.failed), 10)
        index = found.json["index"]
        said = [r for r in caplog.records if f"majority at index {index}" in r.getMessage()]
        assert [record.levelname for record in said] == ["CRITICAL"]
        for read in (stopped.read(), stopped.read("local")):
            with pytest.raises(PeerStopped):
                await read
        applied = stopped.state.index

        # The others go on, without it.
        assert await cluster.peers[good].submit(["true"], timeout_seconds=20)
        assert stopped.state.index == applied
        await stopped.stop()

        _look_at(tmp_path / bad / "evidence", bad, found.json, task.id)
        again = Peer(load_config(cluster.cluster.config, bad, tmp_path / bad))
        with pytest.raises(ReplicaDiverged, match=f"majority at index {index}"):
            await again.start()


def _look_at(directory: Path, bad: str, check: Any, task_id: str) -> None:
    """The evidence tells which row it was."""
    report = msgspec.json.decode((directory / "diverged.json").read_bytes())
    assert (report["peer_id"], report["check_index"]) == (bad, check["index"])
    assert report["majority"] == check["majority"] != report["reports"][bad]
    reader = SnapshotReader(OsDisk(), directory / "state.snap")
    state = codec.restore_state(reader.chunks())
    reader.close()
    task = state.tasks.get(task_id)
    assert task is not None and task.losses == 1
    assert (state.digest().hex(), state.index) == (report["state_digest"], report["state_index"])


async def test_diverged_peer_is_a_survivor_only_if_somebody_insists(tmp_path: Path) -> None:
    async with three(tmp_path) as cluster:
        bad, good = "n3", "n1"
        task = await cluster.peers[good].submit(["true"], resources={"cpu": 10_000})
        await cluster.applied_everywhere()
        corrupt(cluster.peers[bad], task.id, 1)
        await cluster.ask(good, "POST", "/v1/cluster:verify", {})
        await cluster.until(lambda: (tmp_path / bad / "evidence" / "state.snap").exists())
    config = load_config(cluster.cluster.config, bad, tmp_path / bad)
    with pytest.raises(NothingToRecover, match=r"differs from the majority.*--even-diverged"):
        Recovery(config)
    recovery = Recovery(config, even_diverged=True)
    assert "majority" in recovery.found().diverged
    recovery.go_on_alone()
    recovery.close()
    # Its log has the verdict still, and comes to it again.
    async with Peer(config) as alone:
        async with asyncio.timeout(20):
            while alone.status().leader != bad or not alone.status().is_current:
                await asyncio.sleep(0.02)
        assert alone.state.check is not None and bad in alone.state.check.diverged
        assert "ITS STATE DIFFERED" in alone.log.members().recovered
        assert await alone.submit(["true"], timeout_seconds=20)
        assert alone.diverged is None


async def test_without_a_majority_nothing_is_written_and_reads_say_so(tmp_path: Path) -> None:
    async with three(tmp_path) as cluster:
        task = await cluster.peers["n1"].submit(["true"], resources={"cpu": 10_000})
        await cluster.applied_everywhere()
        corrupt(cluster.peers["n2"], task.id, 1)
        corrupt(cluster.peers["n3"], task.id, 2)
        found = await cluster.ask("n2", "POST", "/v1/cluster:verify", {})
        assert (found.json["verdict"], found.json["suspect"]) == ("split", True), found
        await cluster.applied_everywhere()
        for peer_id in cluster.peers:
            refused = await cluster.ask(peer_id, "POST", "/v1/tasks", {"command": ["true"]})
            assert (refused.status, refused.json["code"]) == (503, "replica-divergence")
            read = await cluster.ask(peer_id, "GET", f"/v1/tasks/{task.id}")
            assert (read.status, read.headers["raftsched-suspect"]) == (200, "true")
            assert (await cluster.ask(peer_id, "GET", "/health/ready")).status == 503
            assert cluster.peers[peer_id].diverged is None

        # Somebody puts one right: there is a majority again, and the other one stops.
        corrupt(cluster.peers["n2"], task.id, 0)
        found = await cluster.ask("n1", "POST", "/v1/cluster:verify", {})
        assert (found.json["verdict"], found.json["suspect"]) == ("diverged", False), found
        assert await cluster.peers["n1"].submit(["true"])
        await cluster.until(lambda: cluster.peers["n3"].diverged)


def test_a_peer_of_its_own_process_ends_with_code_12_and_again(tmp_path: Path) -> None:
    """``serve`` on a directory with evidence, as a supervisor would try again and again."""
    cluster = Cluster(tmp_path, size=1)
    directory = tmp_path / "n1" / "evidence"
    directory.mkdir(parents=True)
    (directory / "diverged.json").write_text('{"what": "damaged')
    cluster.start("n1")
    process = cluster.processes["n1"]
    assert process.wait(20) == 12
    log = until(lambda: (tmp_path / "n1.log").read_text())
    assert "peer n1 cannot run: this replica differed from the majority; evidence in" in log
    assert log.count("\n") == 1
