"""Going on with the one survivor: what it has, what becomes of it, and when it is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from raftsched.raft import endings
from raftsched.raft.config import LogConfig
from raftsched.raft.files import DirectoryLocked
from raftsched.raft.journal import Journal
from raftsched.raft.log import RemovedFromCluster, SafetyViolation
from raftsched.raft.membership import (
    Address,
    Configuration,
    encode,
    founding,
    with_learner,
    without,
)
from raftsched.raft.recovery import NothingToRecover, Survivor
from raftsched.testing.disk import Crash, MemoryDisk

DATA = Path("/data")
PEERS = {"n1": "h1:1", "n2": "h2:1", "n3": "h3:1"}


def config(peer_id: str = "n1") -> LogConfig:
    return LogConfig(cluster_id="c", peer_id=peer_id, peers=PEERS, data_dir=DATA)


def open_journal(disk: MemoryDisk, *, joins: bool = False) -> Journal:
    return Journal.open(
        DATA / "journal",
        cluster_id="c",
        peer_id="n1",
        disk=disk,
        reserve_bytes=0,
        founding=founding(config()),
        joins=joins,
    )


def stopped(disk: MemoryDisk, *configurations: Configuration) -> None:
    """A peer with a no-op, a command at 2, and then these."""
    journal = open_journal(disk)
    journal.setCurrentTerm(4, "n2")
    entries = [b"\1", b"\0a command", *(encode(one) for one in configurations)]
    for index, data in enumerate(entries, start=1):
        journal.add(data, index, 4)
    journal.close()


def test_what_a_survivor_has() -> None:
    disk = MemoryDisk()
    stopped(disk)
    survivor = Survivor(config(), disk)
    found = (survivor.last_index, survivor.last_term, survivor.term, survivor.snapshot_index)
    assert found == (2, 4, 4, 0)
    assert survivor.last_command() == b"a command"
    assert sorted(survivor.configuration.voters) == ["n1", "n2", "n3"]


def test_looking_changes_nothing_that_counts() -> None:
    disk = MemoryDisk()
    stopped(disk)
    Survivor(config(), disk).close()
    journal = open_journal(disk)
    assert (journal.last_index, journal.getCurrentTerm()) == (2, 4)
    assert (journal.getVotedForNodeId(), len(journal.membership.now.voters)) == ("n2", 3)


@pytest.mark.parametrize("power_loss_seed", [None, 1, 2])
def test_it_goes_on_alone_in_a_new_term_and_the_others_never_come_back(
    power_loss_seed: int | None,
) -> None:
    disk = MemoryDisk()
    stopped(disk)
    survivor = Survivor(config(), disk)
    survivor.go_on_alone("by force")
    survivor.close()
    journal = open_journal(disk.restarted(power_loss_seed))
    assert (journal.last_index, journal.last_term) == (3, 5)
    assert (journal.getCurrentTerm(), journal.getVotedForNodeId()) == (5, "n1")
    now = journal.membership.now
    assert (list(now.voters), now.removed, now.recovered) == (["n1"], ("n2", "n3"), "by force")
    assert journal.membership.is_alone


def test_crash_at_any_moment_leaves_the_old_group_or_the_new_one() -> None:
    seen = set()
    for crash_at in range(1, 400):
        disk = MemoryDisk()
        stopped(disk)
        disk = disk.restarted()
        disk.crash_at = crash_at
        try:
            survivor = Survivor(config(), disk)
            survivor.go_on_alone("by force")
            survivor.close()
        except Crash:
            journal = open_journal(disk.restarted(crash_at))
            seen.add(len(journal.membership.now.voters))
            assert journal[1][0] == b"\0a command"
        else:
            assert seen == {1, 3}
            return
    raise AssertionError("recovery does not end")


def test_what_has_nothing_to_go_on_with_is_refused() -> None:
    three = founding(config())
    with pytest.raises(NothingToRecover, match="ever ran"):
        Survivor(config(), MemoryDisk())
    joining = MemoryDisk()
    open_journal(joining, joins=True).close()
    with pytest.raises(NothingToRecover, match="never heard of one"):
        Survivor(config(), joining)
    removed = MemoryDisk()
    stopped(removed, without(three, "n1"))
    with pytest.raises(NothingToRecover, match="'n1' was removed"):
        Survivor(config(), removed)


def test_peer_that_was_told_of_its_removal_is_no_survivor() -> None:
    """Its own log need not say it, and it would not start."""
    disk = MemoryDisk()
    stopped(disk)
    endings.remember(
        disk, DATA, RemovedFromCluster("peer 'n1' was removed from cluster 'c' (says n2)")
    )
    with pytest.raises(NothingToRecover, match=r"was removed from cluster 'c'.*recover one of"):
        Survivor(config(), disk)
    assert open_journal(disk).last_term == 4


def test_peer_that_stopped_for_safety_is_a_survivor_only_if_somebody_insists() -> None:
    disk = MemoryDisk()
    stopped(disk)
    endings.remember(disk, DATA, SafetyViolation("entry 3 was to be cut"))
    with pytest.raises(NothingToRecover, match=r"entry 3 was to be cut: that is why.*/data/unsafe"):
        Survivor(config(), disk)
    disk.unlink(DATA / endings.UNSAFE)
    assert Survivor(config(), disk).last_term == 4


def test_learner_can_be_the_survivor_when_nobody_else_is_left() -> None:
    two = Configuration({p: Address(PEERS[p]) for p in ("n2", "n3")})
    disk = MemoryDisk()
    stopped(disk, with_learner(two, "n1", Address("h1:1")))
    survivor = Survivor(config(), disk)
    survivor.go_on_alone("by force")
    assert list(survivor.configuration.voters) == ["n1"]


def test_peer_that_runs_is_refused() -> None:
    disk = MemoryDisk()
    stopped(disk)
    open_journal(disk)
    with pytest.raises(DirectoryLocked):
        Survivor(config(), disk)
