"""A journal that is damaged, or not its own: a torn end is cut, all else refuses."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from raftsched.raft.files import DirectoryLocked, JournalDamaged, WrongOwner
from raftsched.testing.disk import MemoryDisk
from tests.unit.raft.journals import DIRECTORY, SEGMENT, add_all, entry, filled, open_journal


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
