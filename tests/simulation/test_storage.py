"""What becomes of peers whose files are not what they left: older copies, and the removed."""

from __future__ import annotations

import pytest

from raftsched.raft.log import RemovedFromCluster
from raftsched.raft.membership import Address
from raftsched.testing import SimulatedCluster

#: Compacted every few dozen tasks.
SMALL = {"reserve_bytes": 16 * 1024, "journal_bytes_max": 16 * 1024, "segment_bytes": 4 * 1024}


def small_cluster() -> SimulatedCluster:
    cluster = SimulatedCluster(seed=3)
    for machine in cluster._machines.values():
        machine._log = SMALL
    return cluster


def work(cluster: SimulatedCluster, at: str, count: int = 40) -> None:
    for _ in range(count):
        cluster.submit(["echo", "x" * 500], at=at)


def test_older_copy_of_a_directory_is_refilled() -> None:
    """Its leader knows how far that peer had the log before; what counts is what it has now."""
    with small_cluster() as cluster:
        leader = cluster.leader()
        other = next(name for name in cluster.up() if name != leader)
        machine = cluster._machines[other]
        work(cluster, leader)
        cluster.kill(other)
        copy = machine.simulated_disk.restarted()
        cluster.start(other)
        cluster.run_until(lambda: other in cluster.up())
        work(cluster, leader)
        cluster.run(2.0)
        log = cluster.peer(leader).log
        assert log._engine.match_index(other) > 80
        cluster.kill(other)
        cluster.run_until(lambda: not log._engine.match_index(other), 5.0)
        assert cluster.leader() == leader, "it is the one that would remember"
        machine.disk = machine.simulated_disk = copy
        # It forgot what it had acknowledged: through no fault of the product.
        cluster._checker.disk_destroyed(other)
        machine.start()
        cluster.run_until(lambda: other in cluster.up())
        index = cluster.peer(leader).state.index
        cluster.run_until(lambda: cluster.peer(other).state.index >= index, 20.0)
        installed = cluster._checker.snapshots_installed
        cluster.run(5.0)
        assert cluster._checker.snapshots_installed == installed


def test_follower_with_a_full_disk_holds_so_much_in_memory_and_no_more() -> None:
    with small_cluster() as cluster:
        leader = cluster.leader()
        other = next(name for name in cluster.up() if name != leader)
        machine, log = cluster._machines[other], cluster.peer(other).log
        log._replication._paused_bytes_max = limit = 64 * 1024
        machine.simulated_disk.capacity = machine.simulated_disk.bytes_used()
        waiting = []
        for _ in range(4):
            for _ in range(30):
                cluster.submit(["y" * 4_000], at=leader)
            cluster.run(3.0)
            waiting.append(log.journal.pending_bytes)
            status = log.status()
            assert status.paused and status.leader == leader == cluster.leader()
            assert (status.role, status.last_index > status.durable_index) == ("follower", True)
        assert limit <= waiting[0] == waiting[-1] < 2 * limit
        ahead = cluster.peer(leader).log
        assert ahead._engine.match_index(other) <= log.journal.durable_index
        assert ahead.status().commit_index > status.last_index
        machine.simulated_disk.capacity = None
        cluster.run_until(lambda: ahead._engine.match_index(other) == ahead.status().last_index)
        assert not log.journal.paused and not log.journal.pending_bytes
        index = cluster.peer(leader).state.index
        cluster.run_until(lambda: cluster.peer(other).state.index >= index)


def test_removed_peer_remembers_it_when_nobody_is_there_to_say_so() -> None:
    with small_cluster() as cluster:
        leader = cluster.leader()
        gone = next(name for name in cluster.up() if name != leader)
        log, machine = cluster.peer(leader).log, cluster._machines[gone]
        ended: list[BaseException] = []
        machine.on_end = lambda _, error: ended.append(error)
        log._changes.begin({}, gone)
        cluster.run_until(lambda: ended)
        for name in cluster.up():
            if name != gone:
                cluster.isolate(name)
        machine.start()
        cluster.run_until(lambda: len(ended) == 2, 5.0)
        assert [type(error) for error in ended] == [RemovedFromCluster] * 2
        assert str(ended[0]) == str(ended[1]) and "under a new id" in str(ended[0])


def test_older_snapshot_can_be_fallen_back_to_after_a_restart() -> None:
    """The journal keeps what follows it, also when the peer was started anew in between."""
    with small_cluster() as cluster:
        leader = cluster.leader()
        other = next(name for name in cluster.up() if name != leader)
        work(cluster, leader, 80)
        machine = cluster._machines[other]
        for _ in range(2):
            cluster.kill(other)
            cluster.start(other)
            cluster.run_until(lambda: other in cluster.up())
        cluster.kill(other)
        names = machine.simulated_disk.names
        snapshots = sorted(path for path in names if path.suffix == ".snap")
        assert len(snapshots) == 2
        newest = names[snapshots[-1]]
        newest.data[-40] ^= 1
        newest.durable[:] = newest.data
        cluster.start(other)
        index = cluster.peer(leader).state.index
        cluster.run_until(lambda: cluster.peer(other).state.index >= index)
        assert any(path.suffix == ".damaged" for path in machine.simulated_disk.names)


@pytest.mark.parametrize("moved", ["127.0.0.1:9999"])
def test_adding_a_member_at_another_address_is_refused(moved: str) -> None:
    with small_cluster() as cluster:
        log = cluster.peer(cluster.leader()).log
        with pytest.raises(Exception, match="is a member already, at"):
            log._changes.begin({"n2": Address(moved)}, None)
