"""Results too large to be replicated: files beside the attempts' output, checked before they count.

To check 16 MiB of JSON takes up to a quarter of a second, and to sync them as long as the disk
likes.  The runner has leases to keep and waits for neither; a thread would hold it up all the same,
as the check does not let go of the interpreter.  So a process that it forks does both
(docs/decisions/0024).

What was checked is what is kept: the attempt's file is read once and written anew, so that nobody
who has it open, or another name for it, changes a result.
"""

from __future__ import annotations

import codecs
import os
import signal
import time
from collections.abc import Callable
from typing import NoReturn

import msgspec

from raftsched.core.model import RESULT_FILE_BYTES_MAX
from raftsched.executor.children import Children
from raftsched.executor.fork import DEFAULTED
from raftsched.executor.output import keep_result, not_kept
from raftsched.executor.results import BadResult

#: A result that is not checked and on the disk by then fails its attempt.
FILING_SECONDS_MAX = 30.0
#: Text is decoded in pieces of this: a character may take four times its bytes.
_PIECE_BYTES = 1 << 20
_SAID_BYTES_MAX = 4_096

#: Called with how many bytes are kept, and why none are: one of them is empty.
Filed = Callable[[int, str], None]


class Filing:
    """A process that checks and keeps the result of one attempt."""

    def __init__(
        self, source: int, folder: str, task_id: str, number: int, children: Children, filed: Filed
    ) -> None:
        """Start it on the file that ``source`` has open, and which is closed here.

        Raises OSError when there is no room for another process.
        """
        self._children = children
        self._filed = filed
        self._until = time.monotonic() + FILING_SECONDS_MAX
        self._is_late = False
        try:
            self._said = os.memfd_create("filing", os.MFD_CLOEXEC)
            # A signal for the child waits: none may run the runner's handlers there.
            before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
            try:
                self._pid = os.fork()
                if not self._pid:
                    _be_filing(source, self._said, folder, task_id, number)
            except OSError:
                os.close(self._said)
                raise
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, before)
        finally:
            os.close(source)
        children.add(self._pid, self._exited)

    def look(self, now: float) -> None:
        """Give up on a disk that is too slow."""
        if now >= self._until:
            self._is_late = True
            self.kill()

    def kill(self) -> None:
        """End it; what it had not finished is no result."""
        self._children.signal(self._pid, signal.SIGKILL)

    def _exited(self, status: int) -> None:
        said = os.pread(self._said, _SAID_BYTES_MAX, 0).decode(errors="replace")
        os.close(self._said)
        size, _, reason = said.partition(" ")
        if not said:
            reason = "result-not-kept: what checked it was killed"
            if self._is_late:
                reason = f"result-not-kept: not on the disk within {FILING_SECONDS_MAX:g} s"
        self._filed(int(size or 0), reason)


# In the child ------------------------------------------------------------------------------------


def _be_filing(source: int, said: int, folder: str, task_id: str, number: int) -> NoReturn:
    """Do it, say how it went, and end."""
    try:
        _part_from_the_runner((source, said))
        try:
            data = checked(_read(source))
            keep_result(folder, task_id, number, data)
            answer = f"{len(data)} "
        except BadResult as error:
            answer = f"0 {error}"
        except OSError as error:
            answer = f"0 {not_kept(error)}"
        os.pwrite(said, answer.encode(errors="replace")[:_SAID_BYTES_MAX], 0)
    finally:
        os._exit(0)


def _part_from_the_runner(needed: tuple[int, ...]) -> None:
    """Keep nothing of it that others wait for: its signals, its sockets, its locks."""
    os.setsid()
    signal.set_wakeup_fd(-1)
    for number in DEFAULTED:
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    begin = 3
    for descriptor in sorted(needed):
        os.closerange(begin, descriptor)
        begin = descriptor + 1
    os.closerange(begin, os.sysconf("SC_OPEN_MAX"))


def _read(source: int) -> bytes:
    """All of it.  Raises BadResult for more than is kept, or OSError."""
    pieces: list[bytes] = []
    size = 0
    while piece := os.pread(source, RESULT_FILE_BYTES_MAX + 1 - size, size):
        pieces.append(piece)
        size += len(piece)
        if size > RESULT_FILE_BYTES_MAX:
            raise BadResult(f"result-too-large: more than {RESULT_FILE_BYTES_MAX} bytes")
    return b"".join(pieces)


def checked(data: bytes) -> bytes:
    """The bytes, if they are JSON.  Raises BadResult.

    Nothing is made of them: the objects of 16 MiB may take a gigabyte, and seconds.
    """
    try:
        msgspec.json.decode(data, type=msgspec.Raw)
        # What is passed over is not looked at for its characters.
        decode = codecs.getincrementaldecoder("utf-8")().decode
        for begin in range(0, len(data), _PIECE_BYTES):
            end = begin + _PIECE_BYTES
            decode(data[begin:end], end >= len(data))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadResult(f"result-not-json: {error}") from error
    return data.strip()
