"""What functions write: into the output file of their attempt, which exists only if they write.

A worker that calls one function at a time has its descriptors 1 and 2 on a file without a name;
at the end of a call, or when the runner looks, it gets the attempt's name if something is in it.
So programs that a function starts are heard as well, and a call that writes nothing costs two
flushes and one seek.  Coroutines share a process: there only what goes through ``sys.stdout`` and
``sys.stderr`` finds its attempt.

A process that a function leaves behind may write into the file of a later call.
"""

from __future__ import annotations

import contextlib
import fcntl
import io
import os
import sys
import threading
from collections.abc import Callable
from typing import TextIO

from raftsched.executor.output import file_name
from raftsched.executor.spool import TAIL_BYTES
from raftsched.executor.worker_messages import Call

_BLANK = os.O_TMPFILE | os.O_RDWR | os.O_APPEND | os.O_CLOEXEC
_NAMED = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
_MODE = 0o600
COPY_BYTES = 256 * 1024


class Capture:
    """Descriptors 1 and 2 of a worker that calls one function at a time."""

    def __init__(self, folder: str, *, blank: int = _BLANK) -> None:
        """``blank``: how files without a name are opened; where they cannot be they have one."""
        self._folder = folder
        self._blank = blank
        #: A name of the file while it has no attempt's, where it needs one.
        self._blank_path = ""
        self._is_named = False
        #: The call under way; it stays the same while something is in the file and this is held.
        self.call: Call | None = None
        self._lock = threading.Lock()
        self._fresh()
        self._out = _text(1)
        self._err = _text(2)
        sys.stdout = sys.__stdout__ = self._out  # type: ignore[misc]
        sys.stderr = sys.__stderr__ = self._err  # type: ignore[misc]

    def end(self) -> tuple[bytes, int]:
        """(last bytes, how many in all) that the call wrote; the next one has a new file."""
        try:
            self._out.flush()
            self._err.flush()
            is_silent = not os.lseek(1, 0, os.SEEK_END)
        except (OSError, ValueError):  # The function closed it, or the disk is full.
            self._reopen()
            is_silent = True
        if is_silent:
            return b"", 0
        with self._lock:
            with contextlib.suppress(OSError, ValueError):
                self._name(is_over=True)
            size = os.lseek(1, 0, os.SEEK_END)
            tail = os.pread(1, TAIL_BYTES, max(0, size - TAIL_BYTES))
            self._fresh()
        return tail, size

    def look(self) -> None:
        """Name the file of the call under way if something is in it; from another thread."""
        with self._lock, contextlib.suppress(OSError, ValueError):
            # In this order: with something in the file the call cannot end without the lock.
            if os.lseek(1, 0, os.SEEK_END):
                self._name()

    def _name(self, *, is_over: bool = False) -> None:
        if self._is_named or self.call is None:
            return
        path = f"{self._folder}/{file_name(self.call.task_id, self.call.number, 'out')}"
        if self.call.appends and os.path.exists(path):  # noqa: PTH110 - with the calls around it
            if is_over:
                self._append(path)
        elif self._blank_path:
            os.rename(self._blank_path, path)  # noqa: PTH104 - with the calls around it
            self._is_named = True
        else:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)  # noqa: PTH108 - of an earlier runner's attempt
            os.link("/proc/self/fd/1", path, src_dir_fd=1, follow_symlinks=True)
            self._is_named = True

    def _append(self, path: str) -> None:
        """After what is there already, which becomes the file of the call."""
        file = os.open(path, _NAMED, _MODE)
        try:
            offset = 0
            while data := os.pread(1, COPY_BYTES, offset):
                offset += os.write(file, data)
            os.dup2(file, 1)
        finally:
            os.close(file)

    def _fresh(self) -> None:
        path = f"{self._folder}/.worker-{os.getpid()}"
        try:
            file = os.open(self._folder, self._blank, _MODE)
            self._blank_path = ""
        except OSError:  # Not on this file system.
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)  # noqa: PTH108
            file = os.open(path, _NAMED, _MODE)
            self._blank_path = path
        if file <= 2:  # The function has closed that one.
            file = fcntl.fcntl(file, fcntl.F_DUPFD_CLOEXEC, 3)
        os.dup2(file, 1)
        os.dup2(file, 2)
        os.close(file)
        self._is_named = False

    def _reopen(self) -> None:
        with self._lock:
            self._fresh()
        self._out, self._err = _text(1), _text(2)
        sys.stdout, sys.stderr = self._out, self._err

    def write(self, text: str) -> None:
        """Into the output of the call under way, as an error."""
        with contextlib.suppress(OSError, ValueError):
            self._err.write(text)


def _text(descriptor: int) -> io.TextIOWrapper:
    raw = io.FileIO(descriptor, "w", closefd=False)
    return io.TextIOWrapper(
        io.BufferedWriter(raw), encoding="utf-8", errors="backslashreplace", line_buffering=True
    )


class Sink:
    """The output file of one coroutine, made when it first writes."""

    __slots__ = ("_appends", "_file", "_path", "size", "tail")

    def __init__(self, folder: str, call: Call) -> None:
        self._path = f"{folder}/{file_name(call.task_id, call.number, 'out')}"
        self._file = -1
        self._appends = call.appends
        self.size = 0
        self.tail = b""

    def write(self, text: str) -> None:
        """Append.  Raises OSError."""
        data = text.encode(errors="backslashreplace")
        if self._file < 0:
            truncates = 0 if self._appends else os.O_TRUNC
            self._file = os.open(self._path, _NAMED | truncates, _MODE)
            self.size = os.fstat(self._file).st_size
        view = memoryview(data)
        while view:
            view = view[os.write(self._file, view) :]
        self.size += len(data)
        self.tail = (self.tail + data)[-TAIL_BYTES:]

    def close(self) -> None:
        """Nothing more is written."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


class Stream(io.TextIOBase):
    """``sys.stdout`` of a process in which many coroutines write."""

    def __init__(self, sink: Callable[[], Sink | None], log: TextIO) -> None:
        self._sink = sink
        self._log = log

    def write(self, text: str) -> int:
        """Into the file of the coroutine that writes; of nobody, into the worker's log."""
        sink = self._sink()
        if sink is None:
            return self._log.write(text)
        sink.write(text)
        return len(text)

    def writable(self) -> bool:
        """Always."""
        return True

    def flush(self) -> None:
        """Files of coroutines are never behind."""
        self._log.flush()

    def fileno(self) -> int:
        """That of the log: programs that coroutines start write there."""
        return self._log.fileno()

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """Of what is written."""
        return "utf-8"
