"""The journal: what survives, and what is never written."""

from __future__ import annotations

import errno
from collections.abc import Callable

import pytest

from raftsched.raft.journal import Journal, JournalFailed
from raftsched.raft.log import SafetyViolation
from raftsched.testing.disk import Crash, MemoryDisk
from tests.unit.raft.journals import add_all, entry, filled, open_journal


def test_entries_and_hard_state_survive_a_kill() -> None:
    disk = MemoryDisk()
    journal = filled(disk)
    journal.setCurrentTerm(7, "q")
    again = open_journal(disk.restarted())
    assert again[:] == [entry(index) for index in range(1, 7)]
    assert (again.first_index, again.last_index, again.durable_index) == (1, 6, 6)
    assert (again.getCurrentTerm(), again.getVotedForNodeId()) == (7, "q")
    assert again.getRaftCommitIndex() == 1


def test_what_was_synced_survives_a_power_loss() -> None:
    disk = MemoryDisk()
    journal = filled(disk)
    journal.add(*entry(7))
    for seed in range(30):
        again = open_journal(disk.restarted(seed))
        assert again[:] == journal[:6]


def test_one_write_and_one_datasync_per_sync() -> None:
    disk = MemoryDisk()
    journal = filled(disk)
    disk.calls.clear()
    add_all(journal, *(entry(index) for index in range(7, 50)))
    assert journal.dirty and journal.durable_index == 6
    journal.sync()
    assert not journal.dirty and journal.durable_index == 49
    journal.sync()
    assert disk.calls == {"write": 1, "datasync": 1}


def test_short_writes_are_continued() -> None:
    disk = MemoryDisk()
    disk.write_max = 7
    filled(disk).close()
    assert len(open_journal(disk.restarted())) == 6


def test_truncation_is_durable_and_later_entries_replace() -> None:
    disk = MemoryDisk()
    journal = filled(disk)
    journal.setCurrentTerm(2, None)
    journal.deleteEntriesFrom(3)
    assert journal.durable_index == 3 and journal.dirty
    add_all(journal, entry(4, 2))
    journal.sync()
    again = open_journal(disk.restarted(0))
    assert again[:] == [entry(1), entry(2), entry(3), entry(4, 2)]


def test_committed_entry_is_never_truncated() -> None:
    disk = MemoryDisk()
    journal = filled(disk)
    journal.setRaftCommitIndex(4)
    _stops_for_good(disk, journal, lambda: journal.deleteEntriesFrom(3), "entry 4 is committed")
    assert len(journal) == 6


@pytest.mark.parametrize(
    ("index", "term", "why"), [(8, 1, "was to follow entry 6"), (7, 2, "the newest known is 1")]
)
def test_entry_that_cannot_follow_is_never_taken(index: int, term: int, why: str) -> None:
    disk = MemoryDisk()
    journal = filled(disk)
    _stops_for_good(disk, journal, lambda: journal.add(b"x", index, term), f"entry {index}.*{why}")
    assert journal.last_index == 6


def test_term_that_would_fall_stops_the_peer() -> None:
    disk = MemoryDisk()
    journal = filled(disk)
    _stops_for_good(disk, journal, lambda: journal.setCurrentTerm(0, None), "to fall from 1 to 0")


def _stops_for_good(
    disk: MemoryDisk, journal: Journal, call: Callable[[], object], why: str
) -> None:
    """It is told once, with what to do, and nothing is written any more."""
    told: list[Exception] = []
    journal.on_failed = told.append
    with pytest.raises(SafetyViolation, match=f"{why}.*; do not start this peer again: copy"):
        call()
    operations = disk.operations
    for again in (journal.sync, lambda: journal.setCurrentTerm(9, None)):
        with pytest.raises(SafetyViolation):
            again()
    assert len(told) == 1 and disk.operations == operations


@pytest.mark.parametrize("command", [b"\x02x", b"\x03x"])
def test_commands_to_unpickle_are_refused(command: bytes) -> None:
    journal = filled(MemoryDisk())
    with pytest.raises(ValueError, match="MEMBERSHIP"):
        journal.add(command, 7, 1)
    assert len(journal) == 6


def test_entries_added_during_a_threaded_sync_are_not_durable_yet() -> None:
    disk = MemoryDisk()
    journal = filled(disk)
    journal.setCurrentTerm(2, None)
    add_all(journal, entry(7), entry(8))
    run = journal.begin_sync()
    assert run is not None
    journal.add(*entry(9))
    journal.deleteEntriesFrom(7)
    journal.add(*entry(8, 2))
    run()
    assert journal.durable_index == 6
    journal.finish_sync()
    assert journal.durable_index == 7 and journal.dirty
    journal.sync()
    assert journal.durable_index == 8
    assert open_journal(disk.restarted(0))[-1] == entry(8, 2)


@pytest.mark.parametrize("number", [None, errno.EIO])
def test_what_a_dead_process_left_unsynced_is_made_durable_before_it_counts(
    number: int | None,
) -> None:
    """Killed between write and sync, or ended because the sync failed: the cache still has it."""
    disk = MemoryDisk()
    journal = filled(disk)
    journal.add(*entry(7))
    if number is None:
        disk.crash_at = disk.operations + 2
    else:
        disk.errors["datasync"] = number
    with pytest.raises((Crash, JournalFailed)):
        journal.sync()
    disk = disk.restarted()
    assert open_journal(disk).durable_index == 7
    for seed in range(10):
        assert open_journal(disk.restarted(seed)).durable_index == 7
