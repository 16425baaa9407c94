"""The journal: what survives, what refuses, and what a full or failing disk does."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from raftsched.raft.files import DirectoryLocked, JournalDamaged, WrongOwner
from raftsched.raft.journal import Entry, Journal, JournalFailed
from raftsched.raft.log import SafetyViolation
from raftsched.testing.disk import Crash, MemoryDisk

DIRECTORY = Path("/data")
SEGMENT = DIRECTORY / "segment-000000000001.log"


def entry(index: int, term: int = 1) -> Entry:
    return (b"\x00command %d of %d" % (index, term), index, term)


def open_journal(disk: MemoryDisk, **settings: Any) -> Journal:
    defaults: dict[str, Any] = {"cluster_id": "c", "peer_id": "p", "reserve_bytes": 0}
    return Journal.open(DIRECTORY, disk=disk, **{**defaults, **settings})


def filled(disk: MemoryDisk, groups: int = 3, each: int = 2, **settings: Any) -> Journal:
    journal = open_journal(disk, **settings)
    journal.setCurrentTerm(1, "p")
    for group in range(groups):
        for index in range(group * each + 1, (group + 1) * each + 1):
            journal.add(*entry(index))
        journal.sync()
    return journal


def add_all(journal: Journal, *entries: Entry) -> None:
    for one in entries:
        journal.add(*one)


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


# Damage.


def group_start(disk: MemoryDisk, groups: int) -> int:
    filled(disk, groups).close(clean=False)
    return len(disk.names[SEGMENT].data)


LAST_GROUP = group_start(MemoryDisk(), 2)
END = group_start(MemoryDisk(), 3)


def damaged(change: Callable[[bytearray], None], clean: bool = False) -> MemoryDisk:
    disk = MemoryDisk()
    filled(disk).close(clean=clean)
    disk = disk.restarted()
    change(disk.names[SEGMENT].data)
    return disk


@pytest.mark.parametrize("filler", ["cut", "zeros", "noise"])
def test_torn_last_group_is_cut_at_every_byte(filler: str) -> None:
    for end in range(LAST_GROUP, END):

        def tear(data: bytearray, end: int = end) -> None:
            rest = END - end
            data[end:] = {"cut": b"", "zeros": bytes(rest), "noise": b"\xa5" * rest}[filler]

        disk = damaged(tear)
        journal = open_journal(disk)
        assert journal[:] == [entry(index) for index in range(1, 5)], end
        add_all(journal, entry(5), entry(6), entry(7))
        journal.sync()
        assert open_journal(disk.restarted(1))[-1] == entry(7)


def test_flipped_bit_anywhere_before_the_last_group_refuses() -> None:
    for offset in range(LAST_GROUP):

        def flip(data: bytearray, offset: int = offset) -> None:
            data[offset] ^= 1 << (offset % 8)

        with pytest.raises(JournalDamaged) as caught:
            open_journal(damaged(flip))
        assert caught.value.file == SEGMENT
        assert caught.value.offset <= offset
        assert "new peer id" in caught.value.remedy


def test_any_change_after_a_clean_stop_refuses() -> None:
    for offset in range(END):

        def flip(data: bytearray, offset: int = offset) -> None:
            data[offset] ^= 1 << (offset % 8)

        def cut(data: bytearray, offset: int = offset) -> None:
            del data[offset:]

        for change in (flip, cut):
            with pytest.raises(JournalDamaged):
                open_journal(damaged(change, clean=True))


def test_garbage_behind_a_clean_stop_refuses() -> None:
    with pytest.raises(JournalDamaged):
        open_journal(damaged(lambda data: data.extend(b"x"), clean=True))


def test_clean_stop_opens_and_holds_only_once() -> None:
    disk = damaged(lambda data: None, clean=True)
    journal = open_journal(disk)
    journal.add(*entry(7))
    journal.sync()
    for seed in range(10):
        assert open_journal(disk.restarted(seed)).last_index == 7


@pytest.mark.parametrize("name", ["identity", "hard-state", SEGMENT.name])
@pytest.mark.parametrize("clean", [True, False])
def test_missing_file_refuses(name: str, clean: bool) -> None:
    disk = damaged(lambda data: None, clean=clean)
    del disk.names[DIRECTORY / name]
    with pytest.raises(JournalDamaged, match=r"missing|no segment"):
        open_journal(disk)


def test_missing_segment_in_the_middle_refuses() -> None:
    disk = MemoryDisk()
    filled(disk, groups=5, segment_bytes=64).close()
    del disk.names[DIRECTORY / "segment-000000000003.log"]
    with pytest.raises(JournalDamaged, match=r"segment-000000000003.log: the file is missing"):
        open_journal(disk.restarted())


def test_cut_end_of_an_earlier_segment_refuses() -> None:
    disk = MemoryDisk()
    filled(disk, groups=5, segment_bytes=64).close(clean=False)
    disk = disk.restarted()
    end = len(disk.names[SEGMENT].data)
    for size in range(end):
        cut = disk.restarted()
        del cut.names[SEGMENT].data[size:]
        with pytest.raises(JournalDamaged):
            open_journal(cut)


def test_hard_state_older_than_the_log_refuses() -> None:
    disk = MemoryDisk()
    journal = open_journal(disk)
    old = bytes(disk.names[DIRECTORY / "hard-state"].data)
    journal.setCurrentTerm(3, "p")
    add_all(journal, entry(1, 3))
    journal.sync()
    disk = disk.restarted()
    disk.names[DIRECTORY / "hard-state"].data[:] = old
    with pytest.raises(JournalDamaged, match="older than the log"):
        open_journal(disk)


@pytest.mark.parametrize("other", [{"cluster_id": "x"}, {"peer_id": "x"}])
def test_directory_of_another_owner_is_refused(other: dict[str, str]) -> None:
    disk = MemoryDisk()
    filled(disk).close()
    with pytest.raises(WrongOwner, match="belongs to peer 'p' of cluster 'c'"):
        open_journal(disk, **other)
    assert len(open_journal(disk)) == 6


def test_directory_in_use_is_refused() -> None:
    disk = MemoryDisk()
    journal = filled(disk)
    with pytest.raises(DirectoryLocked):
        open_journal(disk)
    journal.close()
    open_journal(disk)


# A disk that is full, or fails.


def test_full_disk_pauses_and_heals() -> None:
    disk = MemoryDisk()
    journal = filled(disk, reserve_bytes=1000)
    disk.capacity = disk.bytes_used() + 20
    add_all(journal, entry(7), entry(8))
    size = len(disk.names[SEGMENT].data)
    assert not journal.sync()
    assert journal.paused == "disk-full"
    assert (journal.durable_index, journal.dirty) == (6, True)
    assert len(disk.names[SEGMENT].data) == size
    assert DIRECTORY / "reserve" not in disk.names
    journal.add(*entry(9))
    journal.sync()
    assert not journal.try_resume()
    journal.setCurrentTerm(2, "q")  # In place, so a full disk does not keep a peer from voting.
    assert open_journal(disk.restarted())[:] == journal[:6]
    disk.capacity += 2000
    assert journal.try_resume() and journal.sync()
    assert (journal.paused, journal.durable_index) == ("", 9)
    assert DIRECTORY / "reserve" in disk.names
    assert open_journal(disk.restarted(0))[:] == journal[:]


def test_full_disk_at_start_opens_paused() -> None:
    disk = MemoryDisk()
    filled(disk).close()
    disk.capacity = disk.bytes_used()
    journal = open_journal(disk, reserve_bytes=1000)
    assert journal.paused and len(journal) == 6
    disk.capacity += 2000
    assert journal.try_resume()


def test_disk_too_full_for_the_name_of_the_reserve_is_full_and_no_failure() -> None:
    disk = MemoryDisk()
    filled(disk).close()
    disk.errors["create"] = errno.ENOSPC
    journal = open_journal(disk, reserve_bytes=1000)
    assert journal.paused and len(journal) == 6
    assert not journal.try_resume()
    assert journal.paused == "disk-full"
    disk.errors.clear()
    assert journal.try_resume()
    assert DIRECTORY / "reserve" in disk.names
    disk.errors["create"] = errno.EIO
    disk.unlink(DIRECTORY / "reserve")
    journal.paused = "disk-full"
    with pytest.raises(JournalFailed, match="the reserve"):
        journal.try_resume()


def test_no_room_for_a_new_segment_goes_on_in_the_old_one() -> None:
    disk = MemoryDisk()
    journal = filled(disk, segment_bytes=64)
    disk.errors["create"] = errno.ENOSPC
    add_all(journal, entry(7))
    journal.sync()
    assert (journal.paused, journal.durable_index) == ("", 7)
    assert open_journal(disk.restarted(0)).last_index == 7


@pytest.mark.parametrize(
    ("operation", "number"),
    [("write", errno.EIO), ("datasync", errno.EIO), ("datasync", errno.ENOSPC)],
)
def test_other_errors_end_it_for_good(operation: str, number: int) -> None:
    disk = MemoryDisk()
    journal = filled(disk)
    failures: list[Exception] = []
    journal.on_failed = failures.append
    disk.errors[operation] = number
    journal.add(*entry(7))
    with pytest.raises(JournalFailed, match="look at the disk"):
        journal.sync()
    disk.errors.clear()
    for call in (journal.sync, journal.try_resume, lambda: journal.setCurrentTerm(9, None)):
        with pytest.raises(JournalFailed):
            call()
    assert len(failures) == 1 and journal.durable_index == 6
    journal.close()
    assert DIRECTORY / "clean-stop" not in disk.names


def test_failing_vote_ends_it() -> None:
    disk = MemoryDisk()
    journal = filled(disk)
    disk.errors["datasync"] = errno.EIO
    with pytest.raises(JournalFailed):
        journal.setCurrentTerm(2, "q")
    assert journal.getCurrentTerm() == 1


# Compaction and snapshots.


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
