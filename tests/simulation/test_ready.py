"""Ready means caught up with what the leader has committed now; it was not, once, while a snapshot
of the present term was on its way."""

from __future__ import annotations

from unittest.mock import patch

from raftsched.peer import readiness
from raftsched.raft.laggards import Laggards
from raftsched.testing import SimulatedCluster


def _why_not(cluster: SimulatedCluster, name: str) -> str:
    return readiness.why_not(cluster.peer(name).status(), is_alone=False)


def _compact(cluster: SimulatedCluster) -> None:
    for name in cluster.up():
        cluster.peer(name).log._engine.request_snapshot(anew=True)
    cluster.run(1.0)
    cluster.submit(["after"], at=cluster.leader())


def test_laggard_that_waits_for_a_snapshot_of_the_present_term_is_not_ready() -> None:
    with SimulatedCluster(seed=3) as cluster:
        leader = cluster.leader()
        late, other = (name for name in cluster.up() if name != leader)
        for _ in range(10):
            cluster.submit(["early"], at=leader)
        _compact(cluster)
        _compact(cluster)
        cluster.kill(late)
        for _ in range(40):
            cluster.submit(["x" * 4000], at=leader)
        for _ in range(3):
            _compact(cluster)
        # Nothing of the snapshot leaves for three seconds; heartbeats do.
        with patch.object(Laggards, "next_piece", lambda self, peer_id, now: None):
            cluster.start(late)
            cluster.run_until(lambda: late in cluster.up() and cluster.peer(late).status().leader)
            for _ in range(30):
                cluster.run(0.1)
                status = cluster.peer(late).status()
                # All that readiness asked for before: it is the state of this very term.
                assert status.is_current and status.commit_index == status.applied_index
                assert status.applied_index < cluster.peer(leader).status().commit_index
                assert "not caught up" in _why_not(cluster, late)
                assert not _why_not(cluster, other)
        cluster.run_until(lambda: not _why_not(cluster, late), 10.0)
        assert cluster.peer(late).status().applied_index > status.applied_index


def test_follower_is_ready_all_the_while_under_load_and_through_a_hand_over_soon_again() -> None:
    with SimulatedCluster(seed=4) as cluster:
        leader = cluster.leader()
        cluster.run(1.0)
        for number in range(60):
            cluster.submit(["x" * 2000] if number % 2 else ["y"], at=leader)
            assert [_why_not(cluster, name) for name in cluster.up()] == ["", "", ""]
        target = next(name for name in cluster.up() if name != leader)
        cluster.call(lambda peer: peer.log.transfer_leadership(target, 5.0), leader)
        cluster.run(0.5)
        assert [_why_not(cluster, name) for name in cluster.up()] == ["", "", ""]


def test_cut_off_follower_that_is_back_is_ready_once_it_has_what_it_missed() -> None:
    with SimulatedCluster(seed=5) as cluster:
        leader = cluster.leader()
        late = next(name for name in cluster.up() if name != leader)
        cluster.run(1.0)
        cluster.isolate(late)
        missed = [cluster.submit(["missed"], at=leader).id for _ in range(20)]
        cluster.run(3.0)
        assert _why_not(cluster, late)
        cluster.mend()
        cluster.run_until(lambda: not _why_not(cluster, late), 20.0)
        assert all(cluster.task(task_id, at=late) for task_id in missed)
