"""A journal beside snapshots: what is reclaimed, what is kept, and where both meet."""

from __future__ import annotations

import pytest

from raftsched.raft.files import JournalDamaged
from raftsched.testing.disk import MemoryDisk
from tests.unit.raft.journals import add_all, entry, filled, open_journal


def test_compaction_keeps_what_the_snapshot_before_needs() -> None:
    disk = MemoryDisk()
    journal = filled(disk, groups=10, segment_bytes=64)
    names = set(disk.names)
    journal.deleteEntriesTo(9)
    assert journal.first_index == 10 and set(disk.names) == names
    journal.deleteEntriesTo(5)
    assert journal.first_index == 15
    assert open_journal(disk.restarted(0)).first_index == 9
    disk.capacity = 0
    journal.add(*entry(21))
    journal.sync()
    journal.deleteEntriesTo(1)
    assert open_journal(disk.restarted(0)).first_index == 15


def test_segments_can_be_reclaimed_by_a_thread() -> None:
    disk = MemoryDisk()
    journal = filled(disk, groups=10, segment_bytes=64, reclaim=False)
    journal.deleteEntriesTo(9)
    journal.deleteEntriesTo(5)
    assert journal.reclaimable and open_journal(disk.restarted(0)).first_index == 1
    journal.reclaim()
    assert not journal.reclaimable and open_journal(disk.restarted(0)).first_index == 9


@pytest.mark.parametrize(
    ("index", "term", "expected"),
    [
        (4, 1, [3, 4, 5, 6]),  # Held: the tail stays (S4).
        (6, 1, [5, 6]),
        (2, 1, [1, 2, 3, 4, 5, 6]),
        (9, 1, [8, 9]),  # Installed from a leader: the log ends before it.
        (4, 2, [3, 4]),  # Installed over a conflicting log.
    ],
)
def test_align(index: int, term: int, expected: list[int]) -> None:
    disk = MemoryDisk()
    journal = filled(disk)
    journal.setCurrentTerm(2, None)
    previous, last = entry(index - 1), entry(index, term)
    journal.align(previous, last)
    assert [one[1] for one in journal[:]] == expected
    assert (journal[0], journal[1]) == (previous, last)
    assert journal.getRaftCommitIndex() == index
    assert journal.durable_index == expected[-1] and not journal.dirty
    again = open_journal(disk.restarted(0))
    again.align(previous, last)
    assert again[:] == journal[:]


def test_align_on_an_empty_log_takes_the_two_entries() -> None:
    journal = open_journal(MemoryDisk())
    journal.setCurrentTerm(1, None)
    journal.align(entry(8), entry(9))
    assert journal[:] == [entry(8), entry(9)] and journal.durable_index == 9


def test_align_where_the_log_follows_the_snapshot_at_once() -> None:
    disk = MemoryDisk()
    journal = filled(disk, groups=5, segment_bytes=64)
    journal.deleteEntriesTo(4)
    journal.deleteEntriesTo(1)
    again = open_journal(disk.restarted(0))
    assert again.first_index == 5
    again.align(entry(3), entry(4))
    assert [one[1] for one in again[:]] == list(range(3, 11))


def test_hole_between_snapshot_and_log_refuses() -> None:
    disk = MemoryDisk()
    journal = filled(disk, groups=5, segment_bytes=64)
    journal.deleteEntriesTo(8)
    journal.deleteEntriesTo(1)
    again = open_journal(disk.restarted(0))
    assert again.first_index == 9
    with pytest.raises(JournalDamaged, match="entries 4 to 8"):
        again.align(entry(2), entry(3))
    with pytest.raises(JournalDamaged, match="no snapshot of the entries before 9"):
        again.expect_whole()


def test_snapshot_without_its_term_refuses() -> None:
    journal = open_journal(MemoryDisk())
    with pytest.raises(JournalDamaged, match="older than the snapshot"):
        journal.align(entry(8), entry(9))


def test_installed_snapshot_gives_up_all_older_segments() -> None:
    disk = MemoryDisk()
    journal = filled(disk, groups=5, segment_bytes=64)
    journal.clear()
    add_all(journal, entry(40), entry(41))
    assert journal.durable_index == 0
    journal.sync()
    assert journal.durable_index == 41
    assert sum(path.name.startswith("segment") for path in disk.names) == 1
    assert open_journal(disk.restarted(0))[:] == [entry(40), entry(41)]
