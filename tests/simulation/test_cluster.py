"""`SimulatedCluster`, as a user's own test uses it."""

from __future__ import annotations

import gc
import inspect
import time

import pytest

from raftsched.peer.errors import NoLeader, PeerError, UnknownOutcome
from raftsched.raft.log import Role
from raftsched.testing import Run, SimulatedCluster, StartAttempt
from raftsched.testing.faults import Fault, parsed
from raftsched.testing.shrink import shrink

#: The longest between two passes of a leader: a heartbeat, and the network.
TICK_SECONDS = 0.1 + 0.005


def convert(attempt: StartAttempt) -> Run:
    return Run(seconds=30.0, exit_code=0 if attempt.number > 1 else 1)


def scenario(seed: int) -> tuple[str, float]:
    with SimulatedCluster(peers=3, seed=seed, script=convert) as cluster:
        task = cluster.submit(["convert", "a.png"], retry={"max_attempts": 3})
        cluster.run(5.0)
        cluster.kill(cluster.leader())
        task = cluster.wait(task.id)
        assert task.status == "succeeded" and len(task.attempts) == 2
        return cluster.trace, cluster.now


def test_a_minute_of_a_cluster_takes_a_moment_and_is_the_same_every_time() -> None:
    began = time.process_time()
    trace, simulated = scenario(9)
    assert simulated > 50.0
    assert time.process_time() - began < simulated / 4
    assert scenario(9)[0] == trace
    assert scenario(8)[0] != trace


def test_attempt_on_a_machine_without_power_runs_again_elsewhere() -> None:
    with SimulatedCluster(seed=1, script=lambda a: Run(8.0), lease_seconds=4.0) as cluster:
        task = cluster.submit(["long"])
        cluster.run(1.0)
        row = cluster.task(task.id)
        assert row is not None
        first = row.node
        cluster.power_off(first)
        asked = next(name for name in cluster.up() if name != first)
        row = cluster.wait(task.id, at=asked)
        assert row.status == "succeeded"
        assert [attempt.status for attempt in row.attempts] == ["lost", "succeeded"]
        assert row.node != first


def test_cut_off_leader_takes_nothing_and_steps_down_and_the_others_go_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with SimulatedCluster(seed=2) as cluster:
        leader = cluster.leader()
        term = cluster.peer(leader).status().term
        cluster.run(1.0)
        cluster.isolate(leader)
        cut_at = cluster.now
        with pytest.raises(UnknownOutcome):
            cluster.call(lambda p: p.submit(["a"], id="asked-at-once", timeout_seconds=1.0), leader)
        # Nobody heard of it, and its leader has not noticed yet.
        assert cluster.task("asked-at-once", at=leader) is None
        quorum_seconds = cluster.peer(leader).log.config.quorum_timeout_seconds
        assert quorum_seconds == 2.0
        cluster.run(cut_at + quorum_seconds + TICK_SECONDS - cluster.now)
        status = cluster.peer(leader).status()
        assert (status.role, status.leader) == (Role.FOLLOWER, None)
        line = f"this peer leads term {term} no more: no majority answered for {quorum_seconds:g} s"
        assert [r.getMessage() for r in caplog.records if "no more" in r.getMessage()] == [line]
        with pytest.raises(NoLeader):
            cluster.call(lambda p: p.submit(["a"], id="asked-later", timeout_seconds=1.0), leader)

        cluster.run_until(lambda: _other_leads(cluster, leader))
        others = [name for name in cluster.up() if name != leader]
        task = cluster.submit(["echo"], at=others[0])
        assert cluster.wait(task.id, at=others[0]).status == "succeeded"
        assert cluster.task(task.id, at=leader) is None
        cluster.mend()
        cluster.run_until(lambda: cluster.task(task.id, at=leader))
        cluster.run(1.0)
        for name in cluster.up():
            assert cluster.task("asked-at-once", at=name) is None
            assert cluster.task("asked-later", at=name) is None


def test_leader_whose_disk_is_full_gives_up_and_says_that_it_is_that(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with SimulatedCluster(seed=7) as cluster:
        leader = cluster.leader()
        term = cluster.peer(leader).status().term
        cluster.run(1.0)
        for name in cluster.up():
            if name != leader:
                # It hears nobody, so nobody is ready to take over: it can only give up.
                cluster.cut(name, leader)
        disk = cluster._machines[leader].simulated_disk
        disk.capacity = disk.bytes_used()
        with pytest.raises(PeerError):
            cluster.call(lambda p: p.submit(["x" * 4000], timeout_seconds=1.5), leader)
        assert cluster.peer(leader).status().role is Role.FOLLOWER
        lines = [r.getMessage() for r in caplog.records if "no more" in r.getMessage()]
        assert lines == [f"this peer leads term {term} no more: its disk is full"]
        disk.capacity = None
        cluster.mend()


def _other_leads(cluster: SimulatedCluster, old: str) -> bool:
    return any(cluster.peer(n).status().leader not in (None, old) for n in cluster.up())


def test_planned_stop_of_the_leader_fails_no_submission() -> None:
    with SimulatedCluster(seed=3) as cluster:
        leader = cluster.leader()
        asked = next(name for name in cluster.up() if name != leader)
        cluster.stop(leader)
        assert cluster.wait(cluster.submit(["echo"], at=asked).id, at=asked).status == "succeeded"
        cluster.start(leader)
        cluster.run_until(lambda: leader in cluster.up())


def test_broken_promise_is_an_assertion_error() -> None:
    with pytest.raises(AssertionError, match="is broken"), SimulatedCluster(seed=4) as cluster:
        cluster._checker.violated("a promise is broken")


def test_what_never_happens_is_a_timeout() -> None:
    with SimulatedCluster(seed=5) as cluster, pytest.raises(TimeoutError):
        cluster.run_until(lambda: False, 1.0)


def test_plan_of_faults_is_made_as_small_as_it_can_be() -> None:
    faults = [Fault(float(n), "kill", str(n % 3), 4.0, 0.5) for n in range(20)]

    def fails(plan: object) -> bool:
        assert isinstance(plan, list)
        return {3.0, 11.0} <= {fault.at for fault in plan}

    small = shrink(faults, fails)
    assert [fault.at for fault in small] == [3.0, 11.0]
    assert all(fault.seconds == 0.5 for fault in small)
    assert parsed(";".join(map(str, small))) == small


def _unfinished_coroutines() -> set[int]:
    return {id(o) for o in gc.get_objects() if inspect.iscoroutine(o) and o.cr_frame is not None}


def test_no_coroutine_of_a_dead_peer_is_left() -> None:
    """One that is would be collected, and complain, in the middle of somebody else's test."""
    gc.collect()
    before = _unfinished_coroutines()
    with SimulatedCluster(seed=6) as cluster:
        cluster.kill(cluster.leader())
    assert _unfinished_coroutines() <= before
