"""What troubled users of other schedulers, as schedules of a cluster in virtual time."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest

from raftsched.core.schedule import Slot, SlotStatus, slot_key
from raftsched.testing import Run, SimulatedCluster, StartAttempt

LONG_SECONDS = 7.0


class Runs:
    """Begins of runs as the nodes saw them: (simulated second, task)."""

    def __init__(self, seconds: float) -> None:
        self.cluster: SimulatedCluster | None = None
        self.begun: list[tuple[float, str]] = []
        self._seconds = seconds

    def __call__(self, attempt: StartAttempt) -> Run:
        assert self.cluster is not None
        self.begun.append((self.cluster.now, attempt.task_id))
        return Run(self._seconds)


def with_schedule(cluster: SimulatedCluster, **document: Any) -> None:
    cluster.call(lambda peer: peer.schedule("s", ["tick"], **document))


def slots(cluster: SimulatedCluster) -> list[Slot]:
    """By their instant."""
    state = cluster.peer(cluster.leader()).state
    found = [state.slots.get(slot_key("s", at)) for at in state.firings.slots_of("s")]
    return sorted((slot for slot in found if slot is not None), key=lambda slot: slot.at)


def fired_at_least(cluster: SimulatedCluster, count: int) -> bool:
    return len(cluster.up()) == 3 and sum(bool(slot.task_id) for slot in slots(cluster)) >= count


@pytest.mark.parametrize("who", ["leader", "everybody", "the run's node"])
def test_what_may_not_overlap_does_not_though_peers_restart_and_leaders_change(who: str) -> None:
    runs = Runs(LONG_SECONDS)
    with SimulatedCluster(seed=3, script=runs, lease_seconds=15.0) as cluster:
        runs.cluster = cluster
        with_schedule(cluster, every="2s", overlap="skip")
        for number in range(3):
            cluster.run_until(lambda n=number: len(runs.begun) > n)  # type: ignore[misc]
            cluster.run(1.0)
            # In the middle of a run, and of the time to the next slot.
            task = cluster.task(runs.begun[-1][1])
            assert task is not None and task.node
            names = {
                "leader": [cluster.leader()],
                "everybody": cluster.up(),
                "the run's node": [task.node],
            }[who]
            for name in names:
                cluster.kill(name)
            cluster.run(0.7)
            for name in names:
                cluster.start(name)
            cluster.run_until(lambda: len(cluster.up()) == 3 and cluster._leader())
        cluster.run_until(lambda: fired_at_least(cluster, 4))
        assert len({task for _, task in runs.begun}) == len(runs.begun), "a run began twice"
        assert all(b - a >= LONG_SECONDS for (a, _), (b, _) in pairwise(runs.begun)), runs.begun
        reasons = {slot.reason for slot in slots(cluster) if not slot.task_id}
        assert reasons == {"overlap"}
        assert {b.at - a.upto for a, b in pairwise(slots(cluster))} == {2_000}


@pytest.mark.parametrize("step_ms", [3_000, -3_000])
@pytest.mark.parametrize("who", ["leader", "everybody"])
def test_a_clock_that_is_set_around_a_slot_repeats_and_loses_none(who: str, step_ms: int) -> None:
    runs = Runs(0.1)
    with SimulatedCluster(seed=4, script=runs) as cluster:
        runs.cluster = cluster
        with_schedule(cluster, every="5s", overlap="allow")
        cluster.run_until(lambda: len(runs.begun) >= 2)
        cluster.run(4.8)  # Just before the third.
        for name in [cluster.leader()] if who == "leader" else cluster.up():
            cluster.step_clock(name, step_ms)
        cluster.run_until(lambda: fired_at_least(cluster, 4))
        cluster.run(1.0)
        for name in cluster.up():
            cluster.step_clock(name, -step_ms)
        cluster.run_until(lambda: fired_at_least(cluster, 7))
        cluster.run(1.0)
        found = slots(cluster)
        assert {later.at - slot.at for slot, later in pairwise(found)} == {5_000}
        assert {(slot.count, slot.status) for slot in found} == {(1, SlotStatus.SUCCEEDED)}
        assert sorted(task for _, task in runs.begun) == sorted(slot.task_id for slot in found)


def test_a_task_that_fails_in_a_millisecond_still_backs_off() -> None:
    begun: list[float] = []

    def fail(_: StartAttempt) -> Run:
        begun.append(cluster.now)
        return Run(0.001, exit_code=1)

    with SimulatedCluster(seed=5, script=fail) as cluster:
        retry = {"max_attempts": 4, "base": "2s", "jitter": 0}
        task = cluster.wait(cluster.submit(["false"], retry=retry).id)
        assert (task.status, len(task.attempts)) == ("failed", 4)
    waits = [later - one for one, later in pairwise(begun)]
    assert all(wait >= wanted for wait, wanted in zip(waits, (2, 4, 8), strict=True)), waits
