"""Files as the library's modules see them, on a simulated disk.

Every store into a mapped file, every write and every rename is one operation of the disk, so a
process can die between any two.  Nothing is ever synced, as the library never does; `Machine`
writes back what is dirty every few seconds, as a kernel does.
"""

from __future__ import annotations

import errno
import gzip
import os
import types
from pathlib import Path
from typing import Any, Protocol

from raftsched.testing.disk import MemoryDisk


class ChildExit(BaseException):
    """A forked child ends here: what follows in the parent's code is not for it."""


class Child:
    """What a forked child, whose memory is that of the moment, is going to write."""

    def __init__(self) -> None:
        self.files: dict[str, bytearray] = {}
        self.rename: tuple[str, str] = ("", "")


class Process(Protocol):
    """The process that calls: the part of it that deals with files."""

    disk: MemoryDisk
    #: While the library's code is run as a forked child.
    child: Child | None

    def begin_child(self) -> int:
        """fork(): 0, as in the child; `child` is set."""

    def child_status(self, pid: int) -> tuple[int, int]:
        """waitpid(pid, WNOHANG)."""


class File:
    """What ``open`` gives."""

    def __init__(self, disk: MemoryDisk, name: str, mode: str) -> None:
        flags = {"rb": 0, "r+b": 0, "wb": os.O_CREAT | os.O_TRUNC, "ab": os.O_CREAT}[mode]
        self._disk = disk
        self._fd = disk.open(Path(name), flags)
        self._at = disk.size(self._fd) if mode == "ab" else 0

    def fileno(self) -> int:
        return self._fd

    def read(self, size: int = -1) -> bytes:
        size = self._disk.size(self._fd) if size < 0 else size
        data = self._disk.read(self._fd, size, self._at)
        self._at += len(data)
        return data

    def write(self, data: Any) -> int:
        done = self._disk.write(self._fd, bytes(data), self._at)
        self._at += done
        return done

    def seek(self, at: int) -> int:
        self._at = at
        return at

    def tell(self) -> int:
        return self._at

    def flush(self) -> None:
        """Into the kernel, where it is already."""

    def close(self) -> None:
        """The table of open files is the process's, and ends with it."""

    def __enter__(self) -> File:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _ChildFile:
    """A file a forked child writes."""

    def __init__(self, data: bytearray) -> None:
        self._data = data

    def write(self, data: Any) -> int:
        self._data += bytes(data)
        return len(data)

    def flush(self) -> None:
        pass

    def __enter__(self) -> _ChildFile:
        return self

    def __exit__(self, *_: object) -> None:
        pass


class Mapping:
    """What ``mmap.mmap`` gives."""

    def __init__(self, disk: MemoryDisk, fd: int) -> None:
        if not disk.size(fd):
            raise ValueError("cannot mmap an empty file")
        self._disk, self._fd = disk, fd

    def size(self) -> int:
        return self._disk.size(self._fd)

    def resize(self, size: int) -> None:
        self._disk.allocate(self._fd, size)

    def __getitem__(self, part: slice) -> bytes:
        return self._disk.read(self._fd, part.stop - part.start, part.start)

    def __setitem__(self, part: slice, data: bytes) -> None:
        self._disk.write(self._fd, data, part.start)

    def flush(self) -> None:
        """msync."""
        self._disk.datasync(self._fd)

    def close(self) -> None:
        pass


class System:
    """The names ``open``, ``os``, ``mmap``, ``shutil``, ``gzip`` of whichever process runs."""

    def __init__(self, process: Any) -> None:
        """``process``: called for the `Process` that runs just now."""
        self._process = process
        path = types.SimpleNamespace(exists=self._exists, isfile=self._exists)
        self.os = types.SimpleNamespace(
            path=path,
            WNOHANG=os.WNOHANG,
            fork=self._fork,
            waitpid=self._waitpid,
            _exit=self._exit,
        )
        self.mmap = types.SimpleNamespace(mmap=self._map)
        self.shutil = types.SimpleNamespace(move=self.rename)
        self.gzip = types.SimpleNamespace(GzipFile=_gzip_file)

    def open(self, name: str, mode: str) -> Any:
        process: Process = self._process()
        if process.child is not None and mode == "wb":
            return _ChildFile(process.child.files.setdefault(name, bytearray()))
        return File(process.disk, name, mode)

    def rename(self, source: str, target: str) -> None:
        process: Process = self._process()
        if process.child is not None:
            process.child.rename = (source, target)
        elif Path(source) not in process.disk.names:
            raise FileNotFoundError(errno.ENOENT, "no such file", source)
        else:
            process.disk.rename(Path(source), Path(target))

    def _exists(self, name: str) -> bool:
        process: Process = self._process()
        return Path(name) in process.disk.names

    def _map(self, fd: int, _length: int) -> Mapping:
        process: Process = self._process()
        return Mapping(process.disk, fd)

    def _fork(self) -> int:
        process: Process = self._process()
        return process.begin_child()

    def _waitpid(self, pid: int, _options: int) -> tuple[int, int]:
        process: Process = self._process()
        return process.child_status(pid)

    def _exit(self, _status: int) -> None:
        raise ChildExit


def _gzip_file(**options: Any) -> gzip.GzipFile:
    """Without the time of day in it."""
    return gzip.GzipFile(**options, mtime=0)
