"""Durable files: the port to the disk, and the few idioms everything on disk is made of.

Rules
1. Every call that reaches the disk goes through a ``Disk``, so that a simulation can tear, fill,
   delay or lose any one of them.
2. A file is either appended to and cut back at its end, or replaced whole by rename; nothing is
   rewritten in place except the two mirrored slots of ``hard_state``.
3. A name counts once its directory was synced.

Errors
------
::

    StorageError
    +-- DirectoryLocked    another process uses the directory
    +-- WrongOwner         the directory is that of another cluster or peer
    +-- Damaged            bytes are not what was written: names file, offset and remedy
        +-- JournalDamaged
        +-- SnapshotDamaged
"""

from __future__ import annotations

import errno
import fcntl
import os
import zlib
from pathlib import Path
from typing import Protocol

import msgspec

#: Errors of a write that mean "no room", which may pass.
DISK_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})

_LOCK = "lock"
_IDENTITY = "identity"
_TEMPORARY = ".tmp"


class StorageError(Exception):
    """The data directory cannot be used; the subclass says why."""


class DirectoryLocked(StorageError):
    """Another process holds the directory."""

    def __init__(self, directory: Path) -> None:
        super().__init__(
            f"{directory} is in use by another process; stop that peer or choose another directory"
        )


class WrongOwner(StorageError):
    """The directory belongs to another cluster or peer."""

    def __init__(self, path: Path, found: str, wanted: str) -> None:
        super().__init__(
            f"{path} belongs to {found}, not to {wanted}; "
            "correct the configuration or choose another directory"
        )


class Damaged(StorageError):
    """Bytes on disk are not what was written."""

    #: Of the process that finds it at its start: whoever starts it again finds it again.
    exit_code = 14

    def __init__(self, file: Path, offset: int, what: str, remedy: str) -> None:
        super().__init__(f"{file}: {what} at byte {offset}; {remedy}")
        self.file = file
        self.offset = offset
        self.remedy = remedy


class JournalDamaged(Damaged):
    """The journal, the hard state or the identity of a peer is damaged or incomplete."""


class SnapshotDamaged(Damaged):
    """A snapshot fails its checksums."""


#: What to do about damage nothing here can mend.  Starting empty under the same id is never right:
#: the peer may have voted, and acknowledged entries, that nobody else remembers.
REMEDY = (
    "keep a copy of the directory; remove this peer from the cluster and add it again under a new "
    "peer id with an empty directory"
)


class Disk(Protocol):
    """The file system as the journal and the snapshots use it.  Every method may raise OSError."""

    def open(self, path: Path, flags: int) -> int:
        """A descriptor; files are made with mode 0600."""

    def close(self, fd: int) -> None: ...

    def read(self, fd: int, size: int, offset: int) -> bytes:
        """At most ``size`` bytes from ``offset``; empty at the end."""

    def write(self, fd: int, data: bytes | memoryview, offset: int) -> int:
        """Write at ``offset``; returns how many bytes were, which may be fewer."""

    def size(self, fd: int) -> int: ...

    def truncate(self, fd: int, size: int) -> None: ...

    def allocate(self, fd: int, size: int) -> None:
        """Make sure that ``size`` bytes have room on the disk."""

    def datasync(self, fd: int) -> None:
        """Returns once the data, and the size, are on the disk."""

    def lock(self, fd: int) -> bool:
        """Lock for this process until closed; False when another one has it."""

    def rename(self, source: Path, target: Path) -> None: ...

    def unlink(self, path: Path) -> None: ...

    def make_directory(self, path: Path) -> None:
        """Make it and its parents, durably; does nothing when it is there."""

    def list_directory(self, path: Path) -> list[str]:
        """Names, sorted."""

    def sync_directory(self, path: Path) -> None:
        """Returns once names made, renamed and removed are so on the disk."""


class OsDisk:
    """The disk of this machine."""

    def open(self, path: Path, flags: int) -> int:
        return os.open(path, flags | os.O_CLOEXEC, 0o600)

    def close(self, fd: int) -> None:
        os.close(fd)

    def read(self, fd: int, size: int, offset: int) -> bytes:
        return os.pread(fd, size, offset)

    def write(self, fd: int, data: bytes | memoryview, offset: int) -> int:
        return os.pwrite(fd, data, offset)

    def size(self, fd: int) -> int:
        return os.fstat(fd).st_size

    def truncate(self, fd: int, size: int) -> None:
        os.ftruncate(fd, size)

    def allocate(self, fd: int, size: int) -> None:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(fd, 0, size)
        else:
            write_all(self, fd, bytes(size), 0)

    def datasync(self, fd: int) -> None:
        if hasattr(fcntl, "F_FULLFSYNC"):  # macOS: fsync alone stops at the drive's cache
            fcntl.fcntl(fd, fcntl.F_FULLFSYNC)
        else:
            os.fdatasync(fd)

    def lock(self, fd: int) -> bool:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def rename(self, source: Path, target: Path) -> None:
        source.replace(target)

    def unlink(self, path: Path) -> None:
        path.unlink()

    def make_directory(self, path: Path) -> None:
        if path.is_dir():
            return
        # Each parent that is made, too: a journal whose directory is lost is lost, however well
        # its bytes were synced, and its peer would start as one that never voted.
        self.make_directory(path.parent)
        path.mkdir(mode=0o700, exist_ok=True)
        self.sync_directory(path.parent)

    def list_directory(self, path: Path) -> list[str]:
        return sorted(entry.name for entry in path.iterdir())

    def sync_directory(self, path: Path) -> None:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


def write_all(disk: Disk, fd: int, data: bytes | memoryview, offset: int) -> int:
    """Write all of ``data`` at ``offset`` through short writes; returns the offset behind it."""
    view = memoryview(data)
    while len(view) > 0:
        written = disk.write(fd, view, offset)
        offset += written
        view = view[written:]
    return offset


def read_exactly(disk: Disk, fd: int, size: int, offset: int) -> bytes:
    """``size`` bytes from ``offset`` through short reads; fewer only at the end of the file."""
    data = disk.read(fd, size, offset)
    if len(data) == size or not data:
        return data
    parts = [data]
    got = len(data)
    while got < size and (data := disk.read(fd, size - got, offset + got)):
        parts.append(data)
        got += len(data)
    return b"".join(parts)


def read_file(disk: Disk, path: Path) -> bytes:
    """The whole file."""
    fd = disk.open(path, os.O_RDONLY)
    try:
        return read_exactly(disk, fd, disk.size(fd), 0)
    finally:
        disk.close(fd)


def write_atomic(disk: Disk, path: Path, data: bytes) -> None:
    """Make or replace ``path`` durably: a crash leaves the old file or the new one, never a part.

    One writer per path.  A leftover ``*.tmp`` means nothing and may be removed at any time.
    """
    temporary = path.with_name(path.name + _TEMPORARY)
    fd = disk.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    try:
        write_all(disk, fd, data, 0)
        disk.datasync(fd)
    finally:
        disk.close(fd)
    disk.rename(temporary, path)
    disk.sync_directory(path.parent)


def remove_temporary(disk: Disk, directory: Path) -> None:
    """Remove what unfinished writes left behind."""
    for name in disk.list_directory(directory):
        if name.endswith(_TEMPORARY):
            disk.unlink(directory / name)


def lock_directory(disk: Disk, directory: Path) -> int:
    """Make and lock ``directory``; the lock lasts until the returned descriptor is closed.

    Raises DirectoryLocked.
    """
    disk.make_directory(directory)
    fd = disk.open(directory / _LOCK, os.O_RDWR | os.O_CREAT)
    if not disk.lock(fd):
        disk.close(fd)
        raise DirectoryLocked(directory)
    return fd


def lock_existing(disk: Disk, directory: Path) -> int | None:
    """The same of a directory in which nothing is to be made; None: it has no lock, as a copy.

    Raises DirectoryLocked.
    """
    if _LOCK not in disk.list_directory(directory):
        return None
    fd = disk.open(directory / _LOCK, os.O_RDONLY)
    if not disk.lock(fd):
        disk.close(fd)
        raise DirectoryLocked(directory)
    return fd


class Identity(msgspec.Struct, frozen=True, array_like=True):
    """Whose directory it is."""

    cluster_id: str
    peer_id: str

    def __str__(self) -> str:
        return f"peer {self.peer_id!r} of cluster {self.cluster_id!r}"


def read_identity(disk: Disk, directory: Path) -> Identity | None:
    """Whose directory this is; None when it was never finished.  Raises JournalDamaged."""
    if _IDENTITY not in disk.list_directory(directory):
        return None
    path = directory / _IDENTITY
    data = read_file(disk, path)
    if len(data) < 4 or zlib.crc32(data[4:]) != int.from_bytes(data[:4], "little"):
        raise JournalDamaged(path, 0, "the checksum is wrong", REMEDY)
    return msgspec.msgpack.decode(data[4:], type=Identity)


def write_identity(disk: Disk, directory: Path, identity: Identity) -> None:
    """Say whose directory this is: the last step of making it."""
    body = msgspec.msgpack.encode(identity)
    write_atomic(disk, directory / _IDENTITY, zlib.crc32(body).to_bytes(4, "little") + body)
