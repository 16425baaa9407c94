"""Snapshots: proven before they count, checked whenever they are read, the last two kept."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from pathlib import Path

import pytest

from raftsched.raft.files import SnapshotDamaged, WrongOwner
from raftsched.raft.snapshot import Snapshot, SnapshotFailed, SnapshotStore
from raftsched.raft.snapshot_file import FLUSH_BYTES, SnapshotMeta
from raftsched.testing.disk import MemoryDisk

DIRECTORY = Path("/data/snapshots")
CHUNKS = [b"one" * 10, b"two", b"three" * 5]


def meta(index: int, term: int = 1) -> SnapshotMeta:
    return SnapshotMeta("c", (b"p", index - 1, term), (b"l", index, term))


def open_store(disk: MemoryDisk, cluster_id: str = "c") -> SnapshotStore:
    return SnapshotStore.open(DIRECTORY, cluster_id=cluster_id, disk=disk)


def published(disk: MemoryDisk, *indexes: int) -> SnapshotStore:
    store = open_store(disk)
    for index in indexes:
        assert store.publish(store.write(meta(index), [b"of %d" % index, *CHUNKS]))
    return store


def newest(store: SnapshotStore) -> Snapshot:
    snapshot = store.latest()
    assert snapshot is not None
    return snapshot


def names(disk: MemoryDisk) -> list[str]:
    return disk.list_directory(DIRECTORY)


def test_published_snapshot_survives_power_loss() -> None:
    disk = MemoryDisk()
    published(disk, 10)
    store = open_store(disk.restarted(0))
    snapshot = newest(store)
    assert snapshot.meta == meta(10) and (snapshot.meta.index, snapshot.meta.term) == (10, 1)
    assert list(store.read(snapshot)) == [b"of 10", *CHUNKS]
    assert store.usable(0) == snapshot


@pytest.mark.parametrize("chunks", [[], [b""], [b"x"]])
def test_small_states(chunks: list[bytes]) -> None:
    store = open_store(MemoryDisk())
    store.publish(store.write(meta(10), chunks))
    assert list(store.read(newest(store))) == [chunk for chunk in chunks if chunk]


def test_empty_store_has_nothing_usable() -> None:
    assert open_store(MemoryDisk()).usable(1) is None


@pytest.mark.parametrize("index", [9, 10])
def test_only_a_newer_snapshot_is_published(index: int) -> None:
    disk = MemoryDisk()
    store = published(disk, 10)
    assert not store.publish(store.write(meta(index), CHUNKS))
    assert newest(store).meta.index == 10 and len(names(disk)) == 1


def test_last_two_are_kept() -> None:
    disk = MemoryDisk()
    store = published(disk, 10, 20, 30)
    assert len(names(disk)) == 3
    store.prune()
    assert len(names(disk)) == 2 and newest(store).meta.index == 30


def test_drafts_are_removed_at_start() -> None:
    disk = MemoryDisk()
    store = published(disk, 10)
    store.write(meta(20), CHUNKS)
    store.receive().add(b"half")
    assert len(names(disk)) == 3
    open_store(disk.restarted())
    disk = disk.restarted()
    open_store(disk)
    assert len(names(disk)) == 1


def test_every_flipped_bit_and_every_cut_is_found() -> None:
    disk = MemoryDisk()
    path = newest(published(disk, 10)).path
    size = len(disk.names[path].data)
    for offset in range(size):
        for cut in (False, True):
            bad = disk.restarted()
            if cut:
                del bad.names[path].data[offset:]
            else:
                bad.names[path].data[offset] ^= 1 << (offset % 8)
            with pytest.raises((SnapshotDamaged, WrongOwner)) as caught:
                open_store(bad).usable(1)
            assert str(path) in str(caught.value)
            if isinstance(caught.value, SnapshotDamaged):
                assert caught.value.offset <= offset and caught.value.remedy


def test_bytes_behind_the_end_are_damage() -> None:
    disk = MemoryDisk()
    store = published(disk, 10)
    disk.names[newest(store).path].data.extend(b"x")
    with pytest.raises(SnapshotDamaged):
        store.usable(1)


def test_damaged_snapshot_falls_back_where_the_journal_reaches_back() -> None:
    disk = MemoryDisk()
    store = published(disk, 10, 20)
    bad = newest(store).path
    disk.names[bad].data[-30] ^= 1
    with pytest.raises(SnapshotDamaged, match=bad.name):
        open_store(disk).usable(12)
    store = open_store(disk)
    snapshot = store.usable(11)
    assert snapshot is not None and snapshot.meta.index == 10 and newest(store) == snapshot
    assert bad.name + ".damaged" in names(disk)
    assert store.publish(store.write(meta(15), CHUNKS))


def test_foreign_snapshot_is_refused() -> None:
    disk = MemoryDisk()
    published(disk, 10)
    with pytest.raises(WrongOwner):
        open_store(disk, "other")


@pytest.mark.parametrize(("number", "is_disk_full"), [(errno.ENOSPC, True), (errno.EIO, False)])
def test_failed_write_leaves_nothing(number: int, is_disk_full: bool) -> None:
    disk = MemoryDisk()
    store = published(disk, 10)

    def chunks() -> Iterator[bytes]:
        yield b"first"
        disk.errors["write"] = number
        yield b"second"

    with pytest.raises(SnapshotFailed) as caught:
        store.write(meta(20), chunks())
    assert caught.value.is_disk_full == is_disk_full
    assert len(names(disk)) == 1


@pytest.mark.parametrize(("number", "is_disk_full"), [(errno.ENOSPC, True), (errno.EIO, False)])
def test_draft_that_cannot_be_made_is_a_snapshot_that_failed(
    number: int, is_disk_full: bool
) -> None:
    disk = MemoryDisk()
    store = published(disk, 10)
    disk.errors["create"] = number
    with pytest.raises(SnapshotFailed) as caught:
        store.write(meta(20), iter([b"chunk"]))
    assert caught.value.is_disk_full == is_disk_full
    assert len(names(disk)) == 1


def test_exception_of_the_state_passes_and_leaves_nothing() -> None:
    disk = MemoryDisk()

    def chunks() -> Iterator[bytes]:
        yield b"first"
        raise KeyError("state")

    with pytest.raises(KeyError):
        open_store(disk).write(meta(20), chunks())
    assert names(disk) == []


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_snapshot_travels_in_pieces(size: int) -> None:
    source, target = MemoryDisk(), MemoryDisk()
    sender = published(source, 10)
    reader = sender.open_raw(newest(sender))
    receiver = published(target, 5)
    incoming = receiver.receive()
    while piece := reader.read(incoming.offset, size):
        incoming.add(piece)
    reader.close()
    path, found = incoming.finish()
    assert found == meta(10) and newest(receiver).meta.index == 5
    assert receiver.publish(path)
    store = open_store(target.restarted(0))
    assert list(store.read(newest(store))) == [b"of 10", *CHUNKS]


def test_sender_goes_on_when_its_snapshot_is_replaced() -> None:
    disk = MemoryDisk()
    store = published(disk, 10)
    reader = store.open_raw(newest(store))
    before = reader.read(0, 10_000)
    for index in (20, 30, 40):
        store.publish(store.write(meta(index), CHUNKS))
        store.prune()
    assert reader.read(0, 10_000) == before and len(before) == reader.total_bytes


def test_damaged_arrival_is_never_published() -> None:
    source = MemoryDisk()
    sender = published(source, 10)
    data = bytearray(sender.open_raw(newest(sender)).read(0, 10_000))
    data[len(data) // 2] ^= 1
    disk = MemoryDisk()
    receiver = published(disk, 5)
    incoming = receiver.receive()
    incoming.add(bytes(data))
    with pytest.raises(SnapshotDamaged):
        incoming.finish()
    assert len(names(disk)) == 1 and newest(receiver).meta.index == 5


def test_full_disk_while_receiving_leaves_nothing() -> None:
    disk = MemoryDisk()
    incoming = open_store(disk).receive()
    disk.capacity = 10
    with pytest.raises(SnapshotFailed) as caught:
        incoming.add(b"x" * 100)
    assert caught.value.is_disk_full and names(disk) == []
    incoming.abort()


def test_large_draft_is_made_durable_as_it_grows() -> None:
    """A sync of all of it in the end would hold up the journal's meanwhile."""
    chunk = bytes(FLUSH_BYTES // 4)
    disk = MemoryDisk()
    unsynced, most = 0, 0
    append, sync = disk.write, disk.datasync

    def written(fd: int, data: bytes | memoryview, offset: int) -> int:
        nonlocal unsynced, most
        unsynced += len(data)
        most = max(most, unsynced)
        return append(fd, data, offset)

    def synced(fd: int) -> None:
        nonlocal unsynced
        unsynced = 0
        sync(fd)

    disk.write, disk.datasync = written, synced  # type: ignore[method-assign]
    store = open_store(disk)
    draft = store.write(meta(10), [chunk] * 40)
    assert most <= FLUSH_BYTES + 2 * len(chunk) and unsynced == 0
    assert store.publish(draft) and list(store.read(newest(store))) == [chunk] * 40
