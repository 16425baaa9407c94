"""Output on the node's disk: one file an attempt (both streams as written), bounded, by offset.

Beside it stands a result that is too large to be replicated (`filing`), in the same bound.

A child appends to its file.  The runner looks at the files of running attempts and, past the bound,
gives the blocks of the older part back to the disk: a hole at the front of the file.  So offsets
count all bytes ever written, nothing a child writes meanwhile is lost, and a reader that asks for
the hole is told where the bytes go on.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path

#: Bytes of one stream on the disk; the newest half of them stays when there are more.
STREAM_BYTES_MAX = 16 * 1024 * 1024
#: Bytes of all output on one node; the oldest files go first.
NODE_BYTES_MAX = 1024 * 1024 * 1024
#: Files looked at, or removed, in one step of a sweep.
SWEEP_FILES = 2_000
#: What ``stat`` counts blocks in, whatever the file system's own are.
_BLOCK_BYTES = 512
#: Holes begin and end at multiples of this.
_PAGE_BYTES = 64 * 1024
#: FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE, see fallocate(2).
_PUNCH = 0x01 | 0x02
_NOT_HERE = (errno.EOPNOTSUPP, errno.ENOSYS)
_NEW = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
#: What files of an attempt are called behind its task and number: what it wrote, a result that is
#: too large to be replicated, and one that is not whole yet.
OUT, RESULT, PART = KINDS = ("out", "result", "part")


class CannotTrim(Exception):
    """The file system cannot free a part of a file, so output here has no bound."""


def file_name(task_id: str, number: int, stream: str) -> str:
    """A stream's file in the output directory.  Ids are checked by the API; none may climb."""
    name = f"{task_id}.{number}.{stream}"
    if "/" in name or name.startswith("."):
        raise ValueError(f"{task_id!r} cannot be a task id")
    return name


def stream_path(directory: Path, task_id: str, number: int, stream: str) -> Path:
    """Where a stream of an attempt is, once something is in it.  Raises ValueError."""
    return directory / "output" / file_name(task_id, number, stream)


def sync(folder: str) -> None:
    """Have the names in a folder outlast a power loss.  Raises OSError."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def trim(path: str) -> None:
    """Keep the newest half of a stream that is past its bound.  Raises CannotTrim or OSError."""
    found = os.stat(path)  # noqa: PTH116 - of many attempts, many times a second
    if found.st_blocks * _BLOCK_BYTES <= STREAM_BYTES_MAX:
        return
    end = (found.st_size - STREAM_BYTES_MAX // 2) // _PAGE_BYTES * _PAGE_BYTES
    if end <= 0:
        return
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        _punch(descriptor, end)
    except OSError as error:
        if error.errno in _NOT_HERE:
            raise CannotTrim(f"the file system of {path} cannot free a part of a file") from error
        raise
    finally:
        os.close(descriptor)


def _punch(descriptor: int, end: int) -> None:
    """Free the blocks before ``end``; the standard library has no call for it."""
    libc = ctypes.CDLL(None, use_errno=True)
    call = getattr(libc, "fallocate64", None) or libc.fallocate
    call.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)
    if call(descriptor, _PUNCH, 0, end):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def tail_of(path: Path, limit: int) -> tuple[bytes, int]:
    """(the last bytes of a stream, how many were written in all)."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            file.seek(max(0, size - limit))
            return file.read(limit), size
    except FileNotFoundError:
        return b"", 0


def sweep(directory: Path, is_running: Callable[[str], bool]) -> Iterator[None]:
    """Remove the oldest output past the node's bound, in steps that take some milliseconds.

    Files for whose name ``is_running`` says so are spared.
    """
    entries = []
    with os.scandir(directory / "output") as found:
        for number, entry in enumerate(found, 1):
            with contextlib.suppress(FileNotFoundError):
                stat = entry.stat()
                entries.append((stat.st_mtime_ns, entry.name, stat.st_blocks * _BLOCK_BYTES))
            if not number % SWEEP_FILES:
                yield
    excess = sum(size for _, _, size in entries) - NODE_BYTES_MAX
    entries.sort()
    for number, (_, name, size) in enumerate(entries, 1):
        if excess <= 0:
            return
        if not is_running(name):
            (directory / "output" / name).unlink(missing_ok=True)
            excess -= size
        if not number % SWEEP_FILES:
            yield


def keep_result(folder: str, task_id: str, number: int, data: bytes) -> None:
    """Make this an attempt's result in the output directory, whole or not at all.

    Once this returns it outlasts a power loss.  Raises OSError.
    """
    part = f"{folder}/{file_name(task_id, number, PART)}"
    try:
        descriptor = os.open(part, _NEW, 0o600)
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(descriptor, view) :]
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.rename(part, f"{folder}/{file_name(task_id, number, RESULT)}")  # noqa: PTH104
        sync(folder)
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(part)  # noqa: PTH108 - with the calls around it
        raise


def not_kept(error: OSError) -> str:
    """The reason of an attempt whose result could not be put on the disk."""
    return f"result-not-kept: {error.strerror or error}"


class OutputReader:
    """Reads what attempts on this node wrote."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def read(
        self, task_id: str, number: int, stream: str, offset: int, limit: int
    ) -> tuple[bytes, int, bool]:
        """(data, next offset, at the end for now).  Raises FileNotFoundError.

        An attempt that wrote nothing has no file.  A negative offset counts from the end.  Where
        the bytes asked for are gone, those after them are returned: data ends at the next offset.
        """
        path = stream_path(self._directory, task_id, number, stream)
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            size = os.fstat(descriptor).st_size
            start = max(0, size + offset) if offset < 0 else offset
            while True:
                start = _next_data(descriptor, start, size)
                data = os.pread(descriptor, limit, start)
                # Trimmed meanwhile, it would read as zeros.
                if _next_data(descriptor, start, size) == start:
                    return data, start + len(data), start + len(data) >= size
        finally:
            os.close(descriptor)


def _next_data(descriptor: int, offset: int, size: int) -> int:
    """Where the bytes at or after ``offset`` are; ``offset`` itself at the end of the file."""
    if offset >= size:
        return offset
    try:
        return os.lseek(descriptor, offset, os.SEEK_DATA)
    except OSError as error:
        if error.errno == errno.ENXIO:
            return size
        raise
