"""The process dies, or the power goes, before (or inside) every single disk operation of a life
with elections, truncation, compaction, snapshots and an install; then the next process looks.

What must hold: a group is there wholly or not at all, and wholly once ``sync`` returned; term and
vote likewise; snapshot and journal together give the whole log.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from raftsched.raft.journal import Entry, Journal
from raftsched.raft.snapshot import SnapshotStore
from raftsched.raft.snapshot_file import SnapshotMeta
from raftsched.testing.disk import Crash, MemoryDisk

DIRECTORY = Path("/data")


def entry(index: int, term: int) -> Entry:
    return (b"\x00%d/%d" % (index, term), index, term)


class Life:
    """Runs the workload and remembers what the disk may hold."""

    def __init__(self, disk: MemoryDisk) -> None:
        self.disk = disk
        #: Logs the disk may hold: as of the last sync, and as of the one under way.
        self.logs: list[list[Entry]] = [[]]
        self.votes: list[tuple[int, str | None]] = [(0, None)]
        #: Highest index a snapshot that was published covers, now or in a moment.
        self.snapshots = [0]

    def start(self) -> None:
        self.journal, self.store = reopen(self.disk)

    def sync(self) -> None:
        self.logs.append(self.journal[:])
        self.journal.sync()
        self.logs = self.logs[-1:]

    def vote(self, term: int, peer: str | None) -> None:
        self.votes.append((term, peer))
        self.journal.setCurrentTerm(term, peer)
        self.votes = self.votes[-1:]

    def append(self, count: int, term: int) -> None:
        for _ in range(count):
            self.journal.add(*entry(self.journal.last_index + 1, term))

    def publish(self, previous: Entry, last: Entry) -> None:
        draft = self.store.write(SnapshotMeta("c", previous, last), [b"state at %d" % last[1]])
        self.snapshots.append(last[1])
        self.store.publish(draft)
        self.snapshots = self.snapshots[-1:]
        self.store.prune()

    def compact(self, index: int) -> None:
        position = index - self.journal.first_index
        self.publish(self.journal[position - 1], self.journal[position])
        self.journal.deleteEntriesTo(position - 1)

    def install(self, index: int, term: int) -> None:
        previous, last = entry(index - 1, term), entry(index, term)
        self.publish(previous, last)
        self.journal.clear()
        self.journal.add(*previous)
        self.journal.add(*last)
        self.sync()

    def run(self) -> None:
        self.start()
        self.vote(1, "a")
        for _ in range(3):
            self.append(3, 1)
            self.sync()
        self.vote(2, None)
        self.journal.deleteEntriesFrom(7)
        self.append(2, 2)
        self.sync()
        self.compact(6)
        self.append(4, 2)
        self.sync()
        self.compact(11)
        self.vote(3, None)
        self.vote(3, "b")
        self.append(4, 3)
        self.sync()
        self.compact(15)
        self.install(40, 3)
        self.append(3, 3)
        self.sync()
        self.compact(42)
        self.journal.close()
        self.start()
        self.append(2, 3)
        self.sync()
        self.compact(44)

    def check(self, disk: MemoryDisk) -> None:
        journal, store = reopen(disk)
        assert (journal.getCurrentTerm(), journal.getVotedForNodeId()) in self.votes
        snapshot = store.latest()
        covered = snapshot.meta.index if snapshot is not None else 0
        assert covered in self.snapshots
        if snapshot is not None:
            assert list(store.read(snapshot)) == [b"state at %d" % covered]
        assert any(agrees(journal, log, covered) for log in self.logs)
        # And it can be lived with.
        journal.setCurrentTerm(journal.getCurrentTerm() + 1, None)
        journal.add(*entry(journal.last_index + 1, journal.getCurrentTerm()))
        journal.sync()
        assert reopen(disk.restarted(1))[0][:] == journal[:]


def agrees(journal: Journal, log: list[Entry], covered: int) -> bool:
    """The journal holds of ``log`` all that the snapshot does not cover, and nothing else."""
    above = [one for one in log if one[1] > covered]
    return [one for one in journal[:] if one[1] > covered] == above


def reopen(disk: MemoryDisk) -> tuple[Journal, SnapshotStore]:
    """As a peer starts."""
    journal = Journal.open(
        DIRECTORY, cluster_id="c", peer_id="p", segment_bytes=100, reserve_bytes=50, disk=disk
    )
    store = SnapshotStore.open(DIRECTORY / "snapshots", cluster_id="c", disk=disk)
    snapshot = store.usable(journal.first_index)
    if snapshot is None:
        journal.expect_whole()
    else:
        journal.align(snapshot.meta.previous, snapshot.meta.last)
    return journal, store


def crashes() -> Iterator[Life]:
    """The life, ended before its first operation, its second, and so on."""
    crash_at = 0
    while True:
        crash_at += 1
        disk = MemoryDisk()
        disk.crash_at = crash_at
        life = Life(disk)
        try:
            life.run()
        except Crash:
            yield life
        else:
            assert crash_at > 100
            return


def test_life_without_a_crash() -> None:
    life = Life(MemoryDisk())
    life.run()
    life.check(life.disk.restarted())


def test_kill_at_every_operation() -> None:
    for life in crashes():
        life.check(life.disk.restarted())


@pytest.mark.parametrize("seed", range(4))
def test_power_loss_at_every_operation(seed: int) -> None:
    for life in crashes():
        life.check(life.disk.restarted(seed * 1000 + life.disk.operations))


def test_kill_at_every_operation_of_the_start_after_a_power_loss() -> None:
    for life in crashes():
        if life.disk.operations % 3:
            continue
        for crash_at in range(1, 40):
            disk = life.disk.restarted(life.disk.operations)
            disk.crash_at = crash_at
            try:
                reopen(disk)
            except Crash:
                life.check(disk.restarted(crash_at))
            else:
                break
