"""Calls of an embedded peer whose leader dies meanwhile: tried again, and done once."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from raftsched import Peer
from raftsched.core.model import TaskStatus
from raftsched.testing.cluster import SimulatedCluster


def _cut_off(cluster: SimulatedCluster, ask: Callable[[Peer], Awaitable[Any]]) -> Any:
    """Ask a follower, whose leader falls silent in the very moment."""
    leader = cluster.leader()
    follower = next(name for name in cluster.up() if name != leader)
    cluster.isolate(leader)
    try:
        return cluster.call(ask, follower)
    finally:
        cluster.mend()


@pytest.mark.parametrize("seed", range(3))
def test_calls_outlive_the_leader_and_take_effect_once(seed: int) -> None:
    async def slots(peer: Peer) -> list[Any]:
        return [slot async for slot in peer.slots("hourly")]

    async def names(peer: Peer) -> list[str]:
        return [row.name async for row in peer.schedules()]

    async def of_queue(peer: Peer) -> list[TaskStatus]:
        return [task.status async for task in peer.list(queue="q")]

    since, until = "2001-01-01T00:00:00Z", "2001-01-01T06:00:00Z"
    with SimulatedCluster(seed=seed) as cluster:
        cluster.call(lambda peer: peer.schedule("hourly", ["x"], every="1h", overlap="allow"))
        run = _cut_off(cluster, lambda peer: peer.trigger_schedule("hourly"))
        cluster.wait(run.id)
        assert len(cluster.call(slots)) == 1

        made = _cut_off(cluster, lambda peer: peer.backfill_schedule("hourly", since, until))
        assert made["next_from"] is None
        assert len(cluster.call(slots)) == 1 + len(made["instants"])

        assert _cut_off(cluster, lambda peer: peer.pause_schedule("hourly")).paused
        row = _cut_off(cluster, lambda peer: peer.edit_schedule("hourly", zone="Europe/Berlin"))
        assert (row.version, row.paused) == (2, True)
        fields: dict[str, Any] = {"every": "2h", "task": {"command": ["x"]}}
        assert _cut_off(cluster, lambda peer: peer.create_schedule("new", **fields)).version == 1
        assert cluster.call(names) == ["hourly", "new"]
        assert _cut_off(cluster, lambda peer: peer.delete_schedule("new"))
        assert cluster.call(names) == ["hourly"]

        task = cluster.submit(["x"], not_before="1h")
        edited = _cut_off(cluster, lambda peer: peer.edit(task.id, {"priority": 90}))
        assert edited.priority == 90
        batch = [{"command": ["x"], "not_before": "1h", "queue": "q"}] * 30
        batched = _cut_off(cluster, lambda peer: peer.submit_batch(batch))
        assert batched.created == len(set(batched.ids)) == 30
        answer = _cut_off(cluster, lambda peer: peer.cancel_many(queue="q"))
        assert answer["matched"] == 30
        again = _cut_off(cluster, lambda peer: peer.retry_many(queue="q", state="cancelled"))
        assert (again["changed"], again["refused"]) == (30, [])
        states = cluster.call(of_queue)
        assert (len(states), states.count(TaskStatus.CANCELLED)) == (60, 30)
