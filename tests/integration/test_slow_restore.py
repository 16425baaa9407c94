"""While a laggard loads a snapshot it stays a good follower; what came meanwhile counts after."""

from __future__ import annotations

import asyncio
import functools
import logging
import time
from pathlib import Path
from typing import Any

import pytest

from raftsched.raft.log import LogClosed, Role

from .logs import GateMachine, ListMachine, Logs, logs, numbered, until

#: Small, so that every few entries there is a snapshot; and quick to notice silence.
OPTIONS: dict[str, Any] = {
    "journal_bytes_max": 20_000,
    "segment_bytes": 5_000,
    "election_min_seconds": 0.1,
    "election_max_seconds": 0.2,
    "append_period_seconds": 0.02,
    "quorum_timeout_seconds": 0.4,
    "reconnect_seconds": 0.02,
}


def has(machine: ListMachine, item: bytes) -> bool:
    """Was it applied there?"""
    return item in machine.items


async def with_a_laggard(cluster: Logs) -> tuple[str, str, str]:
    """Leader, another follower, and one that is stopped and needs a snapshot."""
    await cluster.add([b"first"])
    leader = await cluster.leader()
    other, laggard = [peer for peer in cluster.peers if peer != leader]
    await cluster.stop(laggard)
    for round_ in range(50):
        await cluster.add([b"%d-%d-" % (round_, i) + bytes(900) for i in range(10)])
        if cluster.logs[leader].journal.first_index > 2:
            return leader, other, laggard
    raise AssertionError("no snapshot was made")


def gate_of(cluster: Logs, peer: str) -> GateMachine:
    machine = cluster.machines[peer]
    assert isinstance(machine, GateMachine)
    return machine


async def test_heartbeats_are_answered_and_nobody_is_elected_while_a_snapshot_loads(
    tmp_path: Path,
) -> None:
    async with logs(tmp_path, 3, GateMachine, **OPTIONS) as cluster:
        leader, other, laggard = await with_a_laggard(cluster)
        term = cluster.logs[leader].status().term
        await cluster.start(laggard)
        await until(gate_of(cluster, laggard).is_loading.is_set)
        # Without the laggard's answers the leader is alone from here on, and would step down.
        await cluster.stop(other)
        until_at = time.monotonic() + 3 * OPTIONS["quorum_timeout_seconds"]
        while time.monotonic() < until_at:
            await cluster.logs[leader].read_index(0.4)
            status = cluster.logs[leader].status()
            assert (status.role, status.term) == (Role.LEADER, term)
            assert cluster.logs[laggard].status().role is Role.FOLLOWER
        assert not gate_of(cluster, laggard).restored
        gate_of(cluster, laggard).gate.set()
        await cluster.add([b"last"])
        assert gate_of(cluster, laggard).restored == 1
        assert cluster.machines[laggard].items == cluster.machines[leader].items
        assert cluster.logs[leader].status().term == term


async def test_entries_and_reads_that_come_while_a_snapshot_loads_wait_for_it(
    tmp_path: Path,
) -> None:
    async with logs(tmp_path, 3, GateMachine, **OPTIONS) as cluster:
        leader, _, laggard = await with_a_laggard(cluster)
        await cluster.start(laggard)
        machine = gate_of(cluster, laggard)
        await until(machine.is_loading.is_set)
        before, applied = list(machine.items), cluster.logs[laggard].status().applied_index
        cluster.logs[leader].propose(b"meanwhile")
        await until(lambda: b"meanwhile" in cluster.machines[leader].items)
        index = await cluster.logs[laggard].read_index(5)
        read = asyncio.create_task(cluster.logs[laggard].wait_applied(index, 10))
        await cluster.logs[laggard].read_index(5)
        assert not read.done()
        assert machine.items == before
        assert cluster.logs[laggard].status().applied_index == applied
        machine.gate.set()
        await read
        assert machine.items[-1] == b"meanwhile"
        assert machine.items == cluster.machines[leader].items
        await until(lambda: len(machine.let_go) == len(before))


async def test_log_is_kept_for_a_laggard_that_loads_so_that_one_snapshot_is_enough(
    tmp_path: Path,
) -> None:
    async with logs(tmp_path, 3, GateMachine, **OPTIONS) as cluster:
        leader, _, laggard = await with_a_laggard(cluster)
        await cluster.start(laggard)
        machine = gate_of(cluster, laggard)
        await until(machine.is_loading.is_set)
        journal = cluster.logs[leader].journal
        first_index = journal.first_index
        for number in range(100):
            last = b"meanwhile-%d" % number + bytes(2_000)
            cluster.logs[leader].propose(last)
            await until(functools.partial(has, cluster.machines[leader], last))
            if journal.bytes_behind_snapshot > 2 * OPTIONS["journal_bytes_max"]:
                break
        assert journal.first_index == first_index
        machine.gate.set()
        await until(lambda: machine.items == cluster.machines[leader].items)
        assert machine.restored == 1


async def test_stop_while_a_snapshot_loads_leaves_what_was_there(tmp_path: Path) -> None:
    async with logs(tmp_path, 3, GateMachine, **OPTIONS) as cluster:
        leader, _, laggard = await with_a_laggard(cluster)
        await cluster.start(laggard)
        machine = gate_of(cluster, laggard)
        await until(machine.is_loading.is_set)
        log, before = cluster.logs[laggard], list(machine.items)
        stopping = asyncio.create_task(cluster.stop(laggard))
        for _ in range(10):
            await asyncio.sleep(0)
        assert not stopping.done()
        machine.gate.set()
        await stopping
        with pytest.raises(LogClosed):
            log.propose(b"x")
        assert machine.items == before and not machine.restored
        assert machine.chunks == 1, "the rest of the snapshot is not read any more"
        await cluster.start(laggard)
        gate_of(cluster, laggard).gate.set()
        await cluster.add([b"last"])
        assert cluster.machines[laggard].items == cluster.machines[leader].items


async def test_leader_whose_snapshot_is_damaged_makes_another(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A follower refuses it, and says so; nothing is submitted that would make a new one."""
    async with logs(tmp_path, 3, **OPTIONS) as cluster:
        _, _, laggard = await with_a_laggard(cluster)
        # The journal asks for no more snapshots from here on.
        cluster.options["journal_bytes_max"] = 1 << 40
        for peer in list(cluster.logs):
            await cluster.stop(peer)
            await cluster.start(peer)
        leader = await cluster.leader()
        for path in tmp_path.glob("*/snapshots/*.snap"):
            data = path.read_bytes()
            path.write_bytes(data[:-100] + bytes([data[-100] ^ 1]) + data[-99:])
        with caplog.at_level(logging.ERROR, "raftsched.raft"):
            await cluster.start(laggard)
            await until(lambda: cluster.machines[laggard].restored)
        assert "no snapshot from" in caplog.text and "a checksum is wrong" in caplog.text
        assert len(list((tmp_path / leader / "snapshots").glob("*.damaged"))) == 1
        await cluster.add([b"last"])
        assert cluster.machines[laggard].restored == 1
        assert cluster.machines[laggard].items == cluster.machines[leader].items
        assert not list((tmp_path / laggard / "snapshots").glob("*.tmp"))


class SlowMachine(ListMachine):
    """Takes two milliseconds an entry, and notes in which turn of the loop it applied each."""

    def __init__(self) -> None:
        super().__init__()
        self.turn = 0
        self.applied_in: list[int] = []

    def apply(self, index: int, term: int, entry: bytes) -> None:
        super().apply(index, term, entry)
        self.applied_in.append(self.turn)
        until_at = time.perf_counter() + 0.002
        while time.perf_counter() < until_at:
            pass


async def test_entries_are_applied_a_few_at_a_time_with_the_loop_going_on(tmp_path: Path) -> None:
    async with logs(tmp_path, 1, SlowMachine) as cluster:
        leader = await cluster.leader()
        machine = cluster.machines[leader]
        assert isinstance(machine, SlowMachine)

        async def count() -> None:
            while True:
                machine.turn += 1
                await asyncio.sleep(0)

        counting = asyncio.create_task(count())
        await cluster.add(numbered(0, 300))
        counting.cancel()
        assert machine.items == numbered(0, 300)
        # Ten milliseconds of two each, and one begun before they were over.
        turns = machine.applied_in
        assert max(turns.count(turn) for turn in set(turns)) <= 6
