"""The log of a stopped peer, read off its disk: what is found, what is refused, nothing changed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from raftsched.raft.archive import Archive, NoArchive
from raftsched.raft.files import DirectoryLocked, JournalDamaged, SnapshotDamaged
from raftsched.raft.journal import Journal
from raftsched.raft.membership import Address, Configuration, encode
from raftsched.raft.snapshot import SnapshotStore
from raftsched.raft.snapshot_file import SnapshotMeta
from raftsched.testing.disk import MemoryDisk

DATA = Path("/data")
SEGMENT = DATA / "journal" / "segment-000000000001.log"

Entry = tuple[bytes, int, int]


def entry(index: int, term: int = 1) -> Entry:
    return (b"\0command %d of %d" % (index, term), index, term)


def open_journal(disk: MemoryDisk, **settings: Any) -> Journal:
    return Journal.open(
        DATA / "journal", cluster_id="c", peer_id="n1", disk=disk, reserve_bytes=0, **settings
    )


def written(disk: MemoryDisk, *entries: Entry, **settings: Any) -> Journal:
    """A journal with these, each synced by itself."""
    journal = open_journal(disk, **settings)
    journal.setCurrentTerm(7, "n1")
    for one in entries:
        journal.add(*one)
        journal.sync()
    return journal


def snapshot(disk: MemoryDisk, index: int, term: int = 1) -> None:
    store = SnapshotStore.open(DATA / "snapshots", cluster_id="c", disk=disk)
    meta = SnapshotMeta("c", entry(index - 1, term), entry(index, term))
    assert store.publish(store.write(meta, [b"state at %d" % index]))


def contents(disk: MemoryDisk) -> dict[Path, bytes]:
    return {path: bytes(file.data) for path, file in disk.names.items()}


def found(disk: MemoryDisk) -> tuple[int, list[int]]:
    """The base and the indexes behind it; and nothing on the disk was changed."""
    before = contents(disk)
    disk.operations = 0
    archive = Archive(DATA, disk)
    last = archive.last_index
    indexes = [one.index for one in archive.entries()]
    archive.close()
    assert (disk.operations, contents(disk), disk.handles) == (0, before, {})
    assert last == (indexes[-1] if indexes else archive.base_index)
    return archive.base_index, indexes


def test_a_whole_journal_begins_with_nothing() -> None:
    disk = MemoryDisk()
    members = Configuration({"n1": Address("h:1")})
    written(disk, (b"\1", 1, 1), entry(2), (encode(members), 3, 1)).close()
    archive = Archive(DATA, disk)
    assert (str(archive.identity), archive.term) == ("peer 'n1' of cluster 'c'", 7)
    assert (archive.base, archive.committed_index, archive.torn_bytes) == (None, 0, 0)
    assert list(archive.snapshot_chunks()) == []
    first, second, third = archive.entries()
    assert (first.command, first.configuration) == (None, None)
    assert (second.index, second.term, second.command) == (2, 1, b"command 2 of 1")
    assert (third.command, third.configuration) == (None, members)


def test_what_was_cut_off_and_replaced_is_not_there() -> None:
    disk = MemoryDisk()
    journal = written(disk, *[entry(index) for index in range(1, 6)])
    journal.deleteEntriesFrom(2)
    journal.add(*entry(3, 4))
    journal.close()
    archive = Archive(DATA, disk)
    assert [(one.index, one.term) for one in archive.entries()] == [(1, 1), (2, 1), (3, 4)]


def test_a_killed_peer_s_torn_write_is_passed_over_and_left() -> None:
    disk = MemoryDisk()
    written(disk, entry(1), entry(2))
    killed = disk.restarted()
    del killed.names[SEGMENT].data[-3:]
    archive = Archive(DATA, killed.restarted())
    assert archive.torn_bytes > 0
    assert found(killed) == (0, [1])


def test_it_begins_with_the_oldest_snapshot_that_the_journal_reaches_back_to() -> None:
    disk = MemoryDisk()
    written(disk, *[entry(index) for index in range(1, 10)])
    snapshot(disk, 4)
    snapshot(disk, 7)
    killed = disk.restarted()
    assert found(killed) == (0, list(range(1, 10)))
    assert Archive(DATA, killed).committed_index == 7


def compacted(disk: MemoryDisk) -> Journal:
    """Snapshots at 4 and 7, and a journal from 3 on, in small segments."""
    journal = written(disk, *[entry(index) for index in range(1, 10)], segment_bytes=1)
    snapshot(disk, 4)
    journal.deleteEntriesTo(2)
    snapshot(disk, 7)
    journal.deleteEntriesTo(3)
    return journal


def test_a_compacted_journal_begins_with_a_snapshot() -> None:
    disk = MemoryDisk()
    compacted(disk).close()
    assert found(disk) == (4, [5, 6, 7, 8, 9])
    assert list(Archive(DATA, disk).snapshot_chunks()) == [b"state at 4"]


@pytest.mark.parametrize("last", [entry(5), entry(9, 2)])
def test_entries_that_the_newest_snapshot_does_not_go_on_from_are_left_out(last: Entry) -> None:
    """A snapshot was installed, and the peer was killed before its journal was cleared."""
    disk = MemoryDisk()
    terms = [*[entry(index) for index in range(1, last[1])], last]
    written(disk, *terms)
    snapshot(disk, 9 if last[1] == 5 else 8, 5)
    assert found(disk.restarted()) == (9 if last[1] == 5 else 8, [])


def test_a_snapshot_without_a_journal_behind_it_is_all_there_is() -> None:
    disk = MemoryDisk()
    written(disk).close()
    snapshot(disk, 9)
    assert found(disk) == (9, [])


def test_a_directory_that_somebody_works_on_is_refused() -> None:
    disk = MemoryDisk()
    journal = written(disk, entry(1))
    with pytest.raises(DirectoryLocked, match="stop that peer"):
        Archive(DATA, disk)
    journal.close()
    archive = Archive(DATA, disk)
    with pytest.raises(DirectoryLocked):
        open_journal(disk)
    archive.close()
    open_journal(disk)


def test_a_copy_without_a_lock_is_read_and_gets_none() -> None:
    disk = MemoryDisk()
    written(disk, entry(1)).close()
    del disk.names[DATA / "journal" / "lock"]
    assert found(disk) == (0, [1])


def test_what_never_was_a_peer_s_is_refused() -> None:
    with pytest.raises(NoArchive, match="ever ran"):
        Archive(DATA, MemoryDisk())


def test_a_journal_that_needs_a_snapshot_which_is_lost_is_refused() -> None:
    disk = MemoryDisk()
    compacted(disk).close()
    for path in list(disk.names):
        if path.suffix == ".snap":
            del disk.names[path]
    with pytest.raises(JournalDamaged, match="no snapshot has them"):
        Archive(DATA, disk)
    assert not disk.handles


def test_any_damaged_byte_is_refused_or_changes_nothing() -> None:
    """After a clean stop nothing may be torn.  What no start reads may rot."""
    disk = MemoryDisk()
    compacted(disk).close()
    whole = found(disk)
    passed: set[str] = set()
    for path in sorted(disk.names):
        for offset in range(0, len(disk.names[path].data), 7):
            bad = disk.restarted()
            bad.names[path].data[offset] ^= 1 << (offset % 8)
            try:
                assert found(bad) == whole
                passed.add(path.name)
            except (JournalDamaged, SnapshotDamaged) as error:
                assert str(DATA) in str(error)
                assert error.remedy
    # Either copy of the hard state will do; who founded the cluster is not asked.
    assert passed <= {"hard-state", "founding", "mark"}


@pytest.mark.parametrize("name", ["hard-state", "segment-000000000001.log", "clean-stop"])
def test_a_file_of_rubbish_is_refused(name: str) -> None:
    disk = MemoryDisk()
    written(disk, entry(1)).close()
    disk.names[DATA / "journal" / name].data[:] = b"rubbish" * 1000
    with pytest.raises(JournalDamaged, match=name):
        Archive(DATA, disk)


def test_a_term_older_than_a_snapshot_is_refused() -> None:
    disk = MemoryDisk()
    written(disk, entry(1)).close()
    snapshot(disk, 9, 8)
    with pytest.raises(JournalDamaged, match="older than the snapshot of term 8"):
        Archive(DATA, disk)
