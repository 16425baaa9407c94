"""Three logs in one process over loopback: what one acknowledges, all have, whoever dies."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import pytest

from raftsched.raft.log import LogFull, NoQuorum, NotLeader, Role

from .logs import logs, numbered, until


@pytest.mark.parametrize("size", [1, 3, 5])
async def test_everybody_applies_the_same_in_the_same_order(tmp_path: Path, size: int) -> None:
    async with logs(tmp_path, size) as cluster:
        await cluster.add(numbered(0, 500))
        assert all(m.items == numbered(0, 500) for m in cluster.machines.values())


async def test_next_leader_has_everything_and_the_old_one_catches_up(tmp_path: Path) -> None:
    async with logs(tmp_path) as cluster:
        await cluster.add(numbered(0, 50))
        old = await cluster.leader()
        await cluster.stop(old)
        await cluster.add(numbered(50, 100))
        await cluster.start(old)
        await cluster.add(numbered(100, 101))
        assert all(m.items == numbered(0, 101) for m in cluster.machines.values())


async def test_all_stopped_and_started_again_lose_nothing(tmp_path: Path) -> None:
    async with logs(tmp_path) as cluster:
        await cluster.add(numbered(0, 100))
        for peer in list(cluster.logs):
            await cluster.stop(peer)
        for peer in cluster.peers:
            await cluster.start(peer)
        await cluster.add([b"100"])
        assert all(m.items == numbered(0, 101) for m in cluster.machines.values())


async def test_follower_refuses_proposals_and_names_the_leader(tmp_path: Path) -> None:
    async with logs(tmp_path) as cluster:
        leader = await cluster.leader()
        await cluster.add([b"x"])
        follower = next(p for p in cluster.logs if p != leader)
        with pytest.raises(NotLeader) as caught:
            cluster.logs[follower].propose(b"y")
        assert caught.value.leader == leader


async def test_read_on_a_follower_sees_what_was_committed_before(tmp_path: Path) -> None:
    async with logs(tmp_path) as cluster:
        leader = await cluster.leader()
        follower = next(p for p in cluster.logs if p != leader)
        for i in range(20):
            cluster.logs[leader].propose(b"%d" % i)
            async with asyncio.timeout(5):
                while len(cluster.machines[leader].items) <= i:
                    await asyncio.sleep(0)
            index = await cluster.logs[follower].read_index(5)
            await cluster.logs[follower].wait_applied(index, 5)
            assert len(cluster.machines[follower].items) > i


async def test_hand_over_names_the_new_leader(tmp_path: Path) -> None:
    async with logs(tmp_path) as cluster:
        leader = await cluster.leader()
        await cluster.add([b"a"])
        target = next(p for p in cluster.logs if p != leader)
        log = cluster.logs[leader]
        handing_over = asyncio.create_task(log.transfer_leadership(target, 5))
        await asyncio.sleep(0)
        # Or else the target would never have caught up with a busy leader.
        assert log.status().paused == "hand-over" and log.status().role is Role.LEADER
        with pytest.raises(LogFull, match="handed over"):
            log.propose(b"too late")
        assert await handing_over == target
        await cluster.add([b"b"])
        assert all(m.items == [b"a", b"b"] for m in cluster.machines.values())


async def test_hand_over_to_nobody_ends_before_its_time(tmp_path: Path) -> None:
    async with logs(tmp_path) as cluster:
        leader = await cluster.leader()
        for peer_id in set(cluster.logs) - {leader}:
            await cluster.stop(peer_id)
        async with asyncio.timeout(5):
            with pytest.raises((NoQuorum, NotLeader)):
                await cluster.logs[leader].transfer_leadership(None, 60)


async def test_laggard_gets_a_snapshot_and_survives_a_restart(tmp_path: Path) -> None:
    async with logs(tmp_path, 3, journal_bytes_max=200_000, segment_bytes=50_000) as cluster:
        await cluster.add([b"first"])
        leader = await cluster.leader()
        laggard = next(p for p in cluster.logs if p != leader)
        await cluster.stop(laggard)
        for round_ in range(5):
            await cluster.add([b"%d-%d-" % (round_, i) + bytes(900) for i in range(200)])
            await asyncio.sleep(0.05)
        assert any(cluster.logs[leader].journal.first_index > 1 for _ in (0,))
        await cluster.start(laggard)
        await cluster.add([b"last"])
        assert cluster.machines[laggard].restored
        assert cluster.machines[laggard].items == cluster.machines[leader].items
        await cluster.stop(laggard)
        await cluster.start(laggard)
        await cluster.add([b"very last"])
        assert cluster.machines[laggard].items == cluster.machines[leader].items


async def test_wiped_peer_is_refused_by_those_who_knew_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It has forgotten its votes and what it acknowledged: it must not be counted again."""
    async with logs(tmp_path) as cluster:
        await cluster.add(numbered(0, 3))
        await cluster.stop("n2")
        shutil.rmtree(tmp_path / "n2")
        await cluster.start("n2")
        await until(lambda: "refused by 'n1'" in caplog.text and "refused by 'n3'" in caplog.text)
        assert "was known with another directory" in caplog.text
        assert cluster.logs["n2"].status().connected == ()
        assert cluster.logs["n2"].status().leader is None
        assert cluster.machines["n2"].items == []
