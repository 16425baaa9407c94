"""Snapshots on disk: written beside their name, proven before they count, the last two kept.

Owns one directory (inside that of a locked journal), with files
``snapshot-<index>-<term>.snap``; ``*.tmp`` are drafts, ``*.damaged`` were set aside.

Rules
1. A draft counts for nothing until ``publish`` renamed it and synced the directory; only after that
   may the journal be trimmed.
2. Only a newer snapshot is published (S9), and the one before stays until the next.
3. Nothing read from a file is handed out before its checksum was right (S8), and a snapshot from
   another peer is read through wholly before it is published.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import re
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
)
from raftsched.raft.snapshot_file import Draft, SnapshotMeta, SnapshotReader, SnapshotWriter

logger = logging.getLogger(__name__)

_KEPT = 2
_NAME = re.compile(r"snapshot-(\d{20})-(\d{20})\.snap")


class SnapshotFailed(Exception):
    """Writing failed; the draft is gone.  ``is_disk_full`` says whether to go on without."""

    def __init__(self, path: Path, error: OSError) -> None:
        super().__init__(f"{path} cannot be written: {error}")
        self.is_disk_full = error.errno in DISK_FULL


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
        disk = disk or OsDisk()
        disk.make_directory(directory)
        disk.sync_directory(directory.parent)
        remove_temporary(disk, directory)
        return cls.look(directory, cluster_id=cluster_id, disk=disk)

    @classmethod
    def look(cls, directory: Path, *, cluster_id: str, disk: Disk) -> SnapshotStore:
        """As it is, for reading: nothing is made or removed; a directory may be missing.

        Raises as `open` does.
        """
        store = cls(disk, directory, cluster_id)
        names: list[str] = []
        with contextlib.suppress(FileNotFoundError):
            names = disk.list_directory(directory)
        for name in names:
            if _NAME.fullmatch(name):
                store._snapshots.append(store._describe(directory / name))
        return store

    @property
    def published(self) -> tuple[Snapshot, ...]:
        """All that count, oldest first."""
        return tuple(self._snapshots)

    def latest(self) -> Snapshot | None:
        """The newest published snapshot."""
        return self._snapshots[-1] if self._snapshots else None

    def before(self, snapshot: Snapshot) -> int | None:
        """Index of the snapshot that is kept beside that one, for the case that it is damaged."""
        older = [s.meta.index for s in self._snapshots if s.meta.index < snapshot.meta.index]
        return max(older, default=None)

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
        reader = SnapshotReader(self._disk, path)
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
        try:
            draft = Draft(self._disk, path)
        except OSError as error:  # A name needs room, too.
            raise SnapshotFailed(path, error) from error
        try:
            writer = SnapshotWriter(draft, meta)
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

    def set_aside(self, snapshot: Snapshot) -> None:
        """It is damaged: keep the file to be looked at, and count on it no more."""
        if snapshot in self._snapshots:
            self._snapshots.remove(snapshot)
            self._rename_damaged(snapshot.path)

    def prune(self) -> None:
        """Unlink all but the last two; slow for big files, so it may run in a thread."""
        for snapshot in self._snapshots[:-_KEPT]:
            self._snapshots.remove(snapshot)
            self._disk.unlink(snapshot.path)

    def discard(self, draft: Path) -> None:
        """Remove a draft that is not wanted any more; in a thread if it is big."""
        if self._proven.pop(draft, None) is not None:
            self._disk.unlink(draft)

    def read(self, snapshot: Snapshot) -> Iterator[bytes]:
        """The chunks as they were given to ``write``, each verified, the whole at the end.

        Raises SnapshotDamaged, possibly after some chunks: what was made of them is void then.
        """
        return self.read_draft(snapshot.path)

    def read_draft(self, draft: Path) -> Iterator[bytes]:
        """The same of a draft; it must keep its name until the first chunk was drawn."""
        reader = SnapshotReader(self._disk, draft)
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
        reader = SnapshotReader(self._disk, path)
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
            self._rename_damaged(path)

    def _rename_damaged(self, path: Path) -> None:
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
            self._draft = Draft(disk, path)
        except OSError as error:
            raise SnapshotFailed(path, error) from error

    @property
    def offset(self) -> int:
        """Bytes that have arrived: where a sender goes on."""
        return self._draft.size

    def begins_with(self, data: bytes) -> bool:
        """These are the first bytes that arrived.  Raises SnapshotFailed, after an abort."""
        try:
            return len(data) <= self.offset and self._draft.read(len(data)) == data
        except OSError as error:
            self.abort()
            raise SnapshotFailed(self._path, error) from error

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
