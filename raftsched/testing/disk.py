"""A ``Disk`` in memory that can crash at any operation, lose power, fill up and fail.

Model: a process kill keeps everything written, synced or not; a power loss keeps what was synced
and, of the rest, some of the changes of each file and a random number of the earliest changes of
names.  Of a file that is a random number of its earliest changes, the last one torn; or, with an
odd seed, that of each page by itself, as pages are written in any order.  A failed sync leaves
pages clean in the cache, not on disk.
"""

from __future__ import annotations

import errno
import os
import random
from collections import Counter
from collections.abc import Callable
from enum import Enum
from pathlib import Path

#: What reaches a disk by itself.
PAGE_BYTES = 4_096


class Crash(BaseException):
    """The process dies here."""


class Content:
    """Bytes, and room kept free behind them, which reads as zeros and costs no memory."""

    def __init__(self, data: bytes | bytearray = b"", room: int = 0) -> None:
        self.data = bytearray(data)
        #: Bytes the file was made to hold, whatever was written.
        self.room = room

    def __len__(self) -> int:
        return max(len(self.data), self.room)

    def copy(self) -> Content:
        return Content(self.data, self.room)

    def read(self, at: int, size: int) -> bytes:
        found = bytes(self.data[at : at + size])
        return found + bytes(max(min(at + size, len(self)) - max(at, len(self.data)), 0))

    def change(self, at: int, what: bytes | Resize) -> None:
        if what is Resize.ALLOCATE:
            self.room = max(self.room, at)
            return
        self.data.extend(bytes(max(at - len(self.data), 0)))
        if isinstance(what, Resize):
            del self.data[at:]
            self.room = min(self.room, at)
        else:
            self.data[at : at + len(what)] = what


class Resize(Enum):
    """What is done to a file's size."""

    #: To this, exactly.
    TRUNCATE = "truncate"
    #: To no less than this.
    ALLOCATE = "allocate"


class File:
    """What a file holds, what of it is on the disk, and what was done since."""

    def __init__(self, content: Content | None = None) -> None:
        self.content = content or Content()
        self.synced = self.content.copy()
        #: (offset or size, bytes or what is done to the size), since the last sync.
        self.unsynced: list[tuple[int, bytes | Resize]] = []

    @property
    def data(self) -> bytearray:
        """What was written."""
        return self.content.data

    @property
    def durable(self) -> bytearray:
        """What of it is on the disk."""
        return self.synced.data

    def change(self, at: int, what: bytes | Resize) -> None:
        self.content.change(at, what)
        self.unsynced.append((at, what))

    def sync(self) -> None:
        for at, what in self.unsynced:
            self.synced.change(at, what)
        self.unsynced.clear()

    def copy(self) -> File:
        copy = File(self.content.copy())
        copy.synced = self.synced.copy()
        copy.unsynced[:] = self.unsynced
        return copy

    def after_power_loss(self, rng: random.Random, *, is_scattered: bool = False) -> File:
        """``is_scattered``: each page has a fate of its own."""
        survivor = self.synced.copy()
        if is_scattered:
            for at, what in _scattered(self.unsynced, rng):
                survivor.change(at, what)
            return File(survivor)
        kept = rng.randint(0, len(self.unsynced))
        for number, (at, what) in enumerate(self.unsynced[:kept]):
            if isinstance(what, bytes) and number == kept - 1:
                what = what[: rng.randint(0, len(what))]
            survivor.change(at, what)
        return File(survivor)


def _scattered(
    changes: list[tuple[int, bytes | Resize]], rng: random.Random
) -> list[tuple[int, bytes | Resize]]:
    """Of each page, and of the file's sizes, a random number of the earliest changes."""
    by_page: dict[int, list[tuple[int, int, bytes | Resize]]] = {}
    for number, (at, what) in enumerate(changes):
        if isinstance(what, Resize):
            by_page.setdefault(-1, []).append((number, at, what))
            continue
        end = at + len(what)
        while at < end:
            page = at // PAGE_BYTES
            upto = min(end, (page + 1) * PAGE_BYTES)
            piece = what[len(what) - (end - at) : len(what) - (end - upto)]
            by_page.setdefault(page, []).append((number, at, piece))
            at = upto
    kept: list[tuple[int, int, bytes | Resize]] = []
    for pieces in by_page.values():
        those = pieces[: rng.randint(0, len(pieces))]
        if those:
            number, at, last = those.pop()
            torn = last[: rng.randint(0, len(last))] if isinstance(last, bytes) else last
            those.append((number, at, torn))
        kept += those
    return [(at, what) for _, at, what in sorted(kept, key=lambda one: one[:2])]


class MemoryDisk:
    """See the module.  ``operations`` counts what changes the disk or syncs it."""

    def __init__(self) -> None:
        self.names: dict[Path, File] = {}
        self.durable_names: dict[Path, File] = {}
        #: Changes of names since their directory was synced: (path, file or None).
        self.renames: list[list[tuple[Path, File | None]]] = []
        self.handles: dict[int, File] = {}
        self.locked: set[int] = set()
        self.operations = 0
        self.calls: Counter[str] = Counter()
        #: Crash before this operation (a write: in its middle).
        self.crash_at: int | None = None
        #: Bytes all files may hold together.
        self.capacity: int | None = None
        #: Name of an operation -> errno it raises.
        self.errors: dict[str, int] = {}
        #: Called when one is raised.
        self.on_error: Callable[[], None] = lambda: None
        #: Called before every operation that changes the disk or syncs it; may raise.
        self.on_operation: Callable[[str], None] | None = None
        #: Longest single write, to see that short writes are gone on with.
        self.write_max = 1 << 30

    def restarted(self, power_loss_seed: int | None = None) -> MemoryDisk:
        """The disk as the next process finds it."""
        disk = MemoryDisk()
        if power_loss_seed is None:
            copies: dict[int, File] = {}

            def copied(file: File) -> File:
                return copies.setdefault(id(file), file.copy())

            disk.names = {path: copied(file) for path, file in self.names.items()}
            disk.durable_names = {path: copied(file) for path, file in self.durable_names.items()}
            disk.renames = [
                [(path, None if file is None else copied(file)) for path, file in step]
                for step in self.renames
            ]
        else:
            rng = random.Random(power_loss_seed)
            found = dict(self.durable_names)
            for step in self.renames[: rng.randint(0, len(self.renames))]:
                _apply_names(found, step)
            scatters = bool(power_loss_seed % 2)
            disk.names = {
                path: file.after_power_loss(rng, is_scattered=scatters)
                for path, file in found.items()
            }
            disk.durable_names = dict(disk.names)
        return disk

    def synced(self) -> MemoryDisk:
        """A disk with what surely survives a loss of power now, and nothing else."""
        disk = MemoryDisk()
        disk.names = {path: File(file.synced.copy()) for path, file in self.durable_names.items()}
        disk.durable_names = dict(disk.names)
        return disk

    def bytes_used(self) -> int:
        return sum(len(file.content) for file in self.names.values())

    def flip_bit(self, choice: float) -> bool:
        """One bit somewhere on the disk, chosen by a number of 0..1; False if there is none.

        Not in the room that is only kept free.
        """
        named = sorted(self.names.items())
        files = [file for path, file in named if file.data and path.name != "reserve"]
        at = int(choice * sum(len(file.data) for file in files) * 8)
        for file in files:
            if at < len(file.data) * 8:
                file.data[at >> 3] ^= 1 << (at & 7)
                file.durable[:] = file.data
                return True
            at -= len(file.data) * 8
        return False

    # The port.

    def open(self, path: Path, flags: int) -> int:
        if path not in self.names:
            if not flags & os.O_CREAT:
                raise FileNotFoundError(errno.ENOENT, "no such file", str(path))
            self._operation("create")
            if self.capacity is not None and self.bytes_used() >= self.capacity:
                raise OSError(errno.ENOSPC, "no space left on device", str(path))
            self._rename([(path, File())])
        elif flags & os.O_TRUNC:
            self._operation("truncate")
            self.names[path].change(0, Resize.TRUNCATE)
        fd = max(self.handles, default=2) + 1
        self.handles[fd] = self.names[path]
        return fd

    def close(self, fd: int) -> None:
        del self.handles[fd]
        self.locked.discard(fd)

    def read(self, fd: int, size: int, offset: int) -> bytes:
        return self.handles[fd].content.read(offset, size)

    def write(self, fd: int, data: bytes | memoryview, offset: int) -> int:
        file, data = self.handles[fd], bytes(data)[: self.write_max]
        if self.crash_at == self.operations + 1:
            file.change(offset, data[: len(data) // 2])
        self._operation("write")
        room = len(data)
        if self.capacity is not None:
            free = self.capacity - self.bytes_used() + max(len(file.content) - offset, 0)
            room = max(min(room, free), 0)
            if not room:
                raise OSError(errno.ENOSPC, "no space left on device")
        file.change(offset, data[:room])
        return room

    def size(self, fd: int) -> int:
        return len(self.handles[fd].content)

    def truncate(self, fd: int, size: int) -> None:
        self._operation("truncate")
        self.handles[fd].change(size, Resize.TRUNCATE)

    def allocate(self, fd: int, size: int) -> None:
        self._operation("allocate")
        if self.capacity is not None and self.bytes_used() + size > self.capacity:
            raise OSError(errno.ENOSPC, "no space left on device")
        self.handles[fd].change(size, Resize.ALLOCATE)

    def datasync(self, fd: int) -> None:
        try:
            self._operation("datasync")
        except OSError:
            self.handles[fd].unsynced.clear()
            raise
        self.handles[fd].sync()

    def lock(self, fd: int) -> bool:
        if any(self.handles[other] is self.handles[fd] for other in self.locked):
            return False
        self.locked.add(fd)
        return True

    def rename(self, source: Path, target: Path) -> None:
        self._operation("rename")
        self._rename([(target, self.names[source]), (source, None)])

    def unlink(self, path: Path) -> None:
        self._operation("unlink")
        if path not in self.names:
            raise FileNotFoundError(errno.ENOENT, "no such file", str(path))
        self._rename([(path, None)])

    def make_directory(self, path: Path) -> None:
        pass

    def list_directory(self, path: Path) -> list[str]:
        return sorted(name.name for name in self.names if name.parent == path)

    def sync_directory(self, path: Path) -> None:
        self._operation("sync_directory")
        for step in self.renames:
            _apply_names(self.durable_names, step)
        self.renames.clear()

    def _operation(self, name: str) -> None:
        if self.on_operation is not None:
            self.on_operation(name)
        self.operations += 1
        self.calls[name] += 1
        if self.crash_at == self.operations:
            raise Crash(name)
        if name in self.errors:
            self.on_error()
            raise OSError(self.errors[name], os.strerror(self.errors[name]))

    def _rename(self, step: list[tuple[Path, File | None]]) -> None:
        _apply_names(self.names, step)
        self.renames.append(step)


def _apply_names(names: dict[Path, File], step: list[tuple[Path, File | None]]) -> None:
    for path, file in step:
        if file is None:
            names.pop(path, None)
        else:
            names[path] = file
