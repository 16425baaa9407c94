"""Files for the output of attempts, made so that an attempt which writes nothing costs no file.

An attempt starts with an empty file that has no name (``O_TMPFILE``).  The file gets its name once
something is in it, at the runner's next look or at the attempt's end; until then nothing about it
is on the disk.  One that stayed empty is used again.

Rules
1. A file is used again only if no other process can ever write to it: it is empty, has no name, and
   the kernel grants a write lease on it, which it does only to the sole opener.  Children get an
   opening of their own, so that a daemon that outlived its attempt shows.
2. An attempt whose end is reported and which wrote something has its file under its name.
3. Files without a name are held open, at most ``HELD_MAX``; past that, and where the file system
   cannot make or reopen them, a file has its name from the start.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from raftsched.executor import output

#: Files without a name that are open at once; the usual limit is 1,024 descriptors a process.
HELD_MAX = 256
#: Empty files kept for the next attempts.
SPARE_MAX = 32
#: Bytes of output in a report.
TAIL_BYTES = 2_048

_BLANK = os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC
_APPEND = os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC
_NAMED = _APPEND | os.O_CREAT | os.O_TRUNC
_MODE = 0o600
#: (bytes, names, type and mode) of a file nobody has touched.
_UNTOUCHED = (0, 0, stat.S_IFREG | _MODE)


class Spool:
    """Makes the output files of one node directory."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        (directory / "output").mkdir(parents=True, exist_ok=True, mode=0o700)
        self._folder = str(directory / "output")
        # What is kept there for good is not to vanish with the folder itself.
        output.sync(str(directory))
        output.sync(str(directory.parent))
        self._spares: list[int] = []
        self._held = 0
        #: Names, present or to come, of files that attempts write to.
        self._running: set[str] = set()
        #: Names of attempts of several programs, one after the other.
        self._chained: set[str] = set()

    def chain(self, task_id: str, number: int) -> None:
        """From now on what is opened for this attempt goes on after what was closed.

        Raises ValueError for a task id that cannot be a file's name.
        """
        name = output.file_name(task_id, number, "out")
        with contextlib.suppress(OSError):  # Of a deleted task of the same id.
            os.unlink(f"{self._folder}/{name}")  # noqa: PTH108 - with the calls around it
        self._chained.add(name)

    def unchain(self, task_id: str, number: int) -> None:
        """Nothing more is opened for this attempt."""
        self._chained.discard(output.file_name(task_id, number, "out"))

    @property
    def folder(self) -> str:
        """Where the files are."""
        return self._folder

    def open(self, task_id: str, number: int) -> tuple[Output, int]:
        """A new attempt's output, and the descriptor for its process, which the caller closes.

        Both streams append by that one descriptor, so that they stand as they were written.
        Raises OSError, and ValueError for a task id that cannot be a file's name.
        """
        name = output.file_name(task_id, number, "out")
        path = f"{self._folder}/{name}"
        if name in self._chained:
            with contextlib.suppress(FileNotFoundError):
                child = os.open(path, _APPEND)
                self._running.add(name)
                return Output(self, path, -1), child
        if self._held < HELD_MAX:
            held = self._blank()
            if held >= 0:
                try:
                    child = os.open(f"/proc/self/fd/{held}", _APPEND)
                except OSError:
                    os.close(held)
                else:
                    # Of a deleted task of the same id; it must not pass for this one's.  There is
                    # none, mostly, and an exception costs three times as much as to ask.
                    if os.access(path, os.F_OK):
                        os.unlink(path)  # noqa: PTH108 - with the calls around it
                    self._held += 1
                    self._running.add(name)
                    return Output(self, path, held), child
        child = os.open(path, _NAMED, _MODE)
        self._running.add(name)
        return Output(self, path, -1), child

    def began(self, path: str) -> None:
        """Somebody else makes this file, and writes to it: it is not to be swept away."""
        self._running.add(path.rpartition("/")[2])

    def ended(self, path: str) -> None:
        """Nothing writes to this file any more."""
        self._running.discard(path.rpartition("/")[2])

    def sweep(self) -> Iterator[None]:
        """Remove the oldest output past the node's bound, step by step; not of what runs."""
        return output.sweep(
            self._directory, lambda name: name in self._running or name in self._chained
        )

    def _blank(self) -> int:
        if self._spares:
            return self._spares.pop()
        try:
            return os.open(self._folder, _BLANK, _MODE)
        except OSError:
            return -1  # Not on this file system; or it is full, and the named file will say so.

    def release(self, held: int, *, blank: bool) -> None:
        """Take a file back from its output: close it, or keep it if it is surely blank."""
        self._held -= 1
        if blank and len(self._spares) < SPARE_MAX and _is_alone(held):
            # Asked for after the lease: nobody can write from there on.
            found = os.fstat(held)
            if (found.st_size, found.st_nlink, found.st_mode) == _UNTOUCHED:
                self._spares.append(held)
                return
        os.close(held)


class Output:
    """What one attempt writes, bounded while it runs."""

    __slots__ = ("_held", "_spool", "path")

    def __init__(self, spool: Spool, path: str, held: int) -> None:
        self._spool = spool
        #: Where the file is, or will be once something is in it.
        self.path = path
        #: The file while it has no name, else -1.
        self._held = held

    def look(self) -> None:
        """Name the file if something is in it, and keep it within its bound.

        Raises OSError, or CannotTrim.
        """
        if self._held >= 0:
            if not os.fstat(self._held).st_size:
                return
            self._name()
        output.trim(self.path)

    def close(self) -> tuple[bytes, int]:
        """(the last bytes, how many were written in all); a file that is empty goes."""
        self._spool.ended(self.path)
        if self._held >= 0:
            size = os.fstat(self._held).st_size
            if not size:
                self._spool.release(self._held, blank=True)
                self._held = -1
                return b"", 0
            tail = os.pread(self._held, TAIL_BYTES, max(0, size - TAIL_BYTES))
            try:
                self._name()
            except OSError:
                # The disk takes no more names: the tail in the report is what is left.
                self._drop()
                return tail, size
        else:
            path = Path(self.path)
            tail, size = output.tail_of(path, TAIL_BYTES)
            if not size:
                path.unlink(missing_ok=True)
                return tail, size
        # What it wrote since the last look may be much.
        with contextlib.suppress(OSError, output.CannotTrim):
            output.trim(self.path)
        return tail, size

    def _name(self) -> None:
        source = f"/proc/self/fd/{self._held}"
        try:
            _link(source, self._held, self.path)
        except FileExistsError:
            # Of an attempt that an earlier runner had under this number.
            os.unlink(self.path)  # noqa: PTH108 - with the calls around it
            _link(source, self._held, self.path)
        self._drop()

    def _drop(self) -> None:
        self._spool.release(self._held, blank=False)
        self._held = -1


def _link(source: str, descriptor: int, path: str) -> None:
    # With a descriptor given, though an absolute source needs none, os.link calls linkat, which can
    # follow the link in /proc to the file itself.
    os.link(source, path, src_dir_fd=descriptor, follow_symlinks=True)


def _is_alone(descriptor: int) -> bool:
    """Has nobody else the file open?  False also where the file system cannot tell."""
    try:
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_WRLCK)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    except OSError:
        return False
    return True
