"""Snapshots on disk: written beside their name, proven before they count, the last two kept.

Owns one directory (inside that of a locked journal), with files
``snapshot-<index>-<term>.snap``; ``*.tmp`` are drafts, ``*.damaged`` were set aside.

Rules
1. A draft counts for nothing until ``publish`` renamed it and synced the directory; only after that
   may the journal be trimmed.
2. Only a newer snapshot is published (S9), and the one before stays until the next.
3. Nothing read from a file is handed out before its checksum was right (S8), and a snapshot from
   another peer is read through wholly before it is published.

Layout (little endian): magic, then frames of (bytes, CRC-32, payload).  The first frame is the
header (``SnapshotMeta``, msgpack), then one per chunk, then an empty frame, then the trailer:
number of chunks, bytes of all payloads, CRC-32 of all payloads, CRC-32 of the trailer.
"""

from __future__ import annotations

import itertools
import logging
import os
import re
import struct
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec

from raftsched.raft.files import (
    DISK_FULL,
    Disk,
    OsDisk,
    SnapshotDamaged,
    WrongOwner,
    read_exactly,
    remove_temporary,
    write_all,
)

logger = logging.getLogger(__name__)

#: A chunk longer than this is damage, not data.
CHUNK_BYTES_MAX = 64 * 1024 * 1024
_FORMAT_VERSION = 1
_MAGIC = b"RSSNAP1\n"
#: Payload bytes, CRC-32 of the payload.
_FRAME = struct.Struct("<II")
#: Chunks, bytes of all payloads, CRC-32 of all payloads; CRC-32 of the trailer follows.
_TRAILER = struct.Struct("<QQI")
_TRAILER_BYTES = _TRAILER.size + 4
_KEPT = 2
_NAME = re.compile(r"snapshot-(\d{20})-(\d{20})\.snap")
_REMEDY = (
    "remove this peer from the cluster and add it again under a new peer id with an empty "
    "directory, or restore the file from a copy"
)


class SnapshotFailed(Exception):
    """Writing failed; the draft is gone.  ``is_disk_full`` says whether to go on without."""

    def __init__(self, path: Path, error: OSError) -> None:
        super().__init__(f"{path} cannot be written: {error}")
        self.is_disk_full = error.errno in DISK_FULL


class SnapshotMeta(msgspec.Struct, frozen=True, array_like=True):
    """What a snapshot says of itself."""

    cluster_id: str
    #: The entries at ``index - 1`` and ``index`` as (data, index, term): PySyncObj's log begins so.
    previous: tuple[bytes, int, int]
    last: tuple[bytes, int, int]
    format_version: int = _FORMAT_VERSION

    @property
    def index(self) -> int:
        """Index of the last entry the state contains."""
        return self.last[1]

    @property
    def term(self) -> int:
        """Term of that entry."""
        return self.last[2]


class Snapshot(msgspec.Struct, frozen=True):
    """A published snapshot."""

    path: Path
    meta: SnapshotMeta
    file_bytes: int


class SnapshotStore:
    """The snapshots of one peer.

    ``write``, ``verify``, ``usable`` and the reading may run in a thread; everything that changes
    what is published belongs to one thread.
    """

    def __init__(self, disk: Disk, directory: Path, cluster_id: str) -> None:
        self._disk = disk
        self._directory = directory
        self._cluster_id = cluster_id
        self._draft_numbers = itertools.count(1)
        #: Oldest first.
        self._snapshots: list[Snapshot] = []
        #: Drafts proven whole by writing or verifying them, with what they say.
        self._proven: dict[Path, SnapshotMeta] = {}

    @classmethod
    def open(cls, directory: Path, *, cluster_id: str, disk: Disk | None = None) -> SnapshotStore:
        """Remove drafts, read headers.  Raises WrongOwner and OSError.

        A damaged header is found by ``usable``, which every start must call.
        """
        store = cls(disk or OsDisk(), directory, cluster_id)
        store._disk.make_directory(directory)
        store._disk.sync_directory(directory.parent)
        remove_temporary(store._disk, directory)
        for name in store._disk.list_directory(directory):
            if _NAME.fullmatch(name):
                store._snapshots.append(store._describe(directory / name))
        return store

    def latest(self) -> Snapshot | None:
        """The newest published snapshot."""
        return self._snapshots[-1] if self._snapshots else None

    def usable(self, first_index: int) -> Snapshot | None:
        """The newest snapshot that verifies wholly; None when there is none at all.  Reads it all.

        Falls back to the previous one if the newest is damaged and the journal (``first_index``)
        reaches back to it; the damaged file is set aside.  Raises SnapshotDamaged otherwise.
        """
        damage: SnapshotDamaged | None = None
        for snapshot in reversed(self._snapshots.copy()):
            if damage is not None and not 0 < first_index <= snapshot.meta.index + 1:
                break
            try:
                self.verify(snapshot.path)
            except SnapshotDamaged as error:
                damage = damage or error
                continue
            self._set_aside_newer_than(snapshot)
            return snapshot
        if damage is not None:
            raise damage
        return None

    def verify(self, path: Path) -> SnapshotMeta:
        """Read a file through and say what it covers.  Raises SnapshotDamaged, WrongOwner."""
        reader = _Reader(self._disk, path)
        try:
            meta = reader.meta
            for _ in reader.chunks():
                pass
        finally:
            reader.close()
        self._check_owner(path, meta)
        return meta

    def write(self, meta: SnapshotMeta, chunks: Iterable[bytes]) -> Path:
        """Write and fsync a draft; for a thread.  Raises SnapshotFailed; ``chunks`` may raise."""
        path = self._draft_path(meta.index)
        draft = _Draft(self._disk, path)
        try:
            writer = _FrameWriter(draft, meta)
            for chunk in chunks:
                writer.add(chunk)
            writer.end()
            draft.seal()
        except BaseException as error:
            draft.abort()
            if isinstance(error, OSError):
                raise SnapshotFailed(path, error) from error
            raise
        self._proven[path] = meta
        return path

    def publish(self, draft: Path) -> bool:
        """Rename the draft into place and fsync the directory; False (draft removed) if not newer.

        The journal may be trimmed after it returned True.  OSError is the end of the process.
        """
        meta = self._proven.pop(draft)
        latest = self.latest()
        if latest is not None and meta.index <= latest.meta.index:
            self._disk.unlink(draft)
            return False
        path = self._directory / f"snapshot-{meta.index:020d}-{meta.term:020d}.snap"
        self._disk.rename(draft, path)
        self._disk.sync_directory(self._directory)
        self._snapshots.append(self._describe(path))
        return True

    def prune(self) -> None:
        """Unlink all but the last two; slow for big files, so it may run in a thread."""
        surplus = self._snapshots[:-_KEPT]
        del self._snapshots[:-_KEPT]
        for snapshot in surplus:
            self._disk.unlink(snapshot.path)

    def discard(self, draft: Path) -> None:
        """Remove a draft that is not wanted any more."""
        if self._proven.pop(draft, None) is not None:
            self._disk.unlink(draft)

    def read(self, snapshot: Snapshot) -> Iterator[bytes]:
        """The chunks as they were given to ``write``, each verified, the whole at the end.

        Raises SnapshotDamaged, possibly after some chunks: what was made of them is void then.
        """
        reader = _Reader(self._disk, snapshot.path)
        try:
            yield from reader.chunks()
        finally:
            reader.close()

    def open_raw(self, snapshot: Snapshot) -> RawReader:
        """The file as it is, to be sent; stays readable when the snapshot is replaced."""
        return RawReader(self._disk, snapshot)

    def receive(self) -> Incoming:
        """Begin to take in a snapshot from another peer.  Raises SnapshotFailed."""
        return Incoming(self, self._disk, self._draft_path(0))

    def _draft_path(self, index: int) -> Path:
        return self._directory / f"draft-{index}-{next(self._draft_numbers)}.tmp"

    def _describe(self, path: Path) -> Snapshot:
        reader = _Reader(self._disk, path)
        try:
            try:
                meta = reader.meta
            except SnapshotDamaged:
                # Named for its index all the same, so that `usable` can say what is wrong.
                found = _NAME.fullmatch(path.name)
                assert found is not None
                index, term = int(found[1]), int(found[2])
                meta = SnapshotMeta(self._cluster_id, (b"", index - 1, term), (b"", index, term))
            self._check_owner(path, meta)
            return Snapshot(path, meta, reader.file_bytes)
        finally:
            reader.close()

    def _check_owner(self, path: Path, meta: SnapshotMeta) -> None:
        if meta.cluster_id != self._cluster_id:
            raise WrongOwner(path, f"cluster {meta.cluster_id!r}", f"cluster {self._cluster_id!r}")

    def _set_aside_newer_than(self, snapshot: Snapshot) -> None:
        while self._snapshots[-1] is not snapshot:
            path = self._snapshots.pop().path
            logger.error("%s is damaged and was set aside; starting from %s", path, snapshot.path)
            self._disk.rename(path, path.with_name(path.name + ".damaged"))
            self._disk.sync_directory(self._directory)


class RawReader:
    """Sends a snapshot: read it by offset, close it."""

    def __init__(self, disk: Disk, snapshot: Snapshot) -> None:
        self._disk = disk
        self._fd = disk.open(snapshot.path, os.O_RDONLY)
        self.meta = snapshot.meta
        self.total_bytes = snapshot.file_bytes

    def read(self, offset: int, size: int) -> bytes:
        """At most ``size`` bytes; empty at the end.  The receiver checks them."""
        size = max(min(size, self.total_bytes - offset), 0)
        return read_exactly(self._disk, self._fd, size, offset)

    def close(self) -> None:
        """Idempotent."""
        if self._fd >= 0:
            self._disk.close(self._fd)
            self._fd = -1


class Incoming:
    """A snapshot being received."""

    def __init__(self, store: SnapshotStore, disk: Disk, path: Path) -> None:
        self._store = store
        self._path = path
        try:
            self._draft = _Draft(disk, path)
        except OSError as error:
            raise SnapshotFailed(path, error) from error

    @property
    def offset(self) -> int:
        """Bytes that have arrived: where a sender goes on."""
        return self._draft.size

    def add(self, data: bytes) -> None:
        """Append the next bytes.  Raises SnapshotFailed, after which it is aborted."""
        try:
            self._draft.append(data)
        except OSError as error:
            self.abort()
            raise SnapshotFailed(self._path, error) from error

    def finish(self) -> tuple[Path, SnapshotMeta]:
        """fsync and verify all of it; then ``publish`` the path.  For a thread if it is big.

        Raises SnapshotDamaged, WrongOwner or SnapshotFailed, after which it is aborted.
        """
        try:
            self._draft.seal()
            meta = self._store.verify(self._path)
        except BaseException as error:
            self.abort()
            if isinstance(error, OSError):
                raise SnapshotFailed(self._path, error) from error
            raise
        self._store._proven[self._path] = meta
        return self._path, meta

    def abort(self) -> None:
        """Give it up and remove what arrived.  Idempotent."""
        self._draft.abort()


class _Draft:
    """A file being written; not there any more after ``abort``."""

    def __init__(self, disk: Disk, path: Path) -> None:
        self._disk = disk
        self._path = path
        self._fd = disk.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
        self._is_there = True
        self.size = 0

    def append(self, data: bytes) -> None:
        self.size = write_all(self._disk, self._fd, data, self.size)

    def seal(self) -> None:
        """Durable, but for its name."""
        self._disk.datasync(self._fd)
        self._close()

    def abort(self) -> None:
        if self._is_there:
            self._is_there = False
            self._close()
            self._disk.unlink(self._path)

    def _close(self) -> None:
        if self._fd >= 0:
            self._disk.close(self._fd)
            self._fd = -1


class _FrameWriter:
    """Puts header, chunks and trailer into a draft."""

    def __init__(self, draft: _Draft, meta: SnapshotMeta) -> None:
        self._draft = draft
        self._chunks = -1
        self._bytes = 0
        self._crc = 0
        draft.append(_MAGIC)
        self.add(msgspec.msgpack.encode(meta))

    def add(self, payload: bytes) -> None:
        if not payload:
            return
        assert len(payload) <= CHUNK_BYTES_MAX, "chunk too long"
        self._chunks += 1
        self._bytes += len(payload)
        self._crc = zlib.crc32(payload, self._crc)
        self._draft.append(_FRAME.pack(len(payload), zlib.crc32(payload)) + payload)

    def end(self) -> None:
        trailer = _TRAILER.pack(self._chunks, self._bytes, self._crc)
        frame = _FRAME.pack(0, 0)
        self._draft.append(frame + trailer + zlib.crc32(trailer).to_bytes(4, "little"))


class _Reader:
    """Reads a file frame by frame and checks everything."""

    def __init__(self, disk: Disk, path: Path) -> None:
        self._disk = disk
        self._path = path
        self._fd = disk.open(path, os.O_RDONLY)
        self._offset = 0
        self.file_bytes = disk.size(self._fd)

    def close(self) -> None:
        self._disk.close(self._fd)

    @property
    def meta(self) -> SnapshotMeta:
        """The header.  Raises SnapshotDamaged."""
        return self._header()[0]

    def chunks(self) -> Iterator[bytes]:
        """All chunks; the last one only once the trailer was right.  Raises SnapshotDamaged."""
        header = self._header()[1]
        count, size, crc = 0, len(header), zlib.crc32(header)
        held: bytes | None = None
        while payload := self._frame():
            if held is not None:
                yield held
            held = payload
            count, size, crc = count + 1, size + len(payload), zlib.crc32(payload, crc)
        start = self._offset
        trailer = self._take(_TRAILER_BYTES)
        if (
            zlib.crc32(trailer[:-4]) != int.from_bytes(trailer[-4:], "little")
            or _TRAILER.unpack_from(trailer) != (count, size, crc)
            or self._offset != self.file_bytes
        ):
            raise self._damaged(start, "the end does not match what comes before")
        if held is not None:
            yield held

    def _header(self) -> tuple[SnapshotMeta, bytes]:
        self._offset = 0
        if self._take(len(_MAGIC)) != _MAGIC:
            raise self._damaged(0, "it is not a snapshot of a format known here")
        header = self._frame()
        try:
            meta = msgspec.msgpack.decode(header, type=SnapshotMeta)
        except msgspec.DecodeError as error:
            raise self._damaged(len(_MAGIC), f"the header cannot be read ({error})") from None
        if meta.format_version != _FORMAT_VERSION:
            raise self._damaged(len(_MAGIC), f"format {meta.format_version} is not known here")
        return meta, header

    def _frame(self) -> bytes:
        start = self._offset
        size, crc = _FRAME.unpack(self._take(_FRAME.size))
        if size > CHUNK_BYTES_MAX:
            raise self._damaged(start, "a length is impossible")
        payload = self._take(size, start)
        if zlib.crc32(payload) != crc:
            raise self._damaged(start, "a checksum is wrong")
        return payload

    def _take(self, size: int, start: int | None = None) -> bytes:
        data = read_exactly(self._disk, self._fd, size, self._offset)
        if len(data) < size:
            where = self._offset if start is None else start
            raise self._damaged(where, "the file ends too early")
        self._offset += size
        return data

    def _damaged(self, offset: int, what: str) -> SnapshotDamaged:
        return SnapshotDamaged(self._path, offset, what, _REMEDY)
