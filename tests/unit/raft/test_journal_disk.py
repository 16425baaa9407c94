"""A journal whose disk is full, or fails: it pauses and heals, or ends for good."""

from __future__ import annotations

import errno

import pytest

from raftsched.raft.journal import JournalFailed
from raftsched.testing.disk import MemoryDisk
from tests.unit.raft.journals import DIRECTORY, SEGMENT, add_all, entry, filled, open_journal


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
