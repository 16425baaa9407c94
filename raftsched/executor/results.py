"""What an attempt says by files: its result, and how far it is.

``RAFTSCHED_RESULT_FILE`` and ``RAFTSCHED_PROGRESS_FILE`` name files that are not there; an attempt
that writes to one of them makes it.  Names have the fencing token in them, so none is ever of
another attempt.  What an attempt as another user wrote is believed only if it is that user's.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import stat
import tempfile
from pathlib import Path

import msgspec

from raftsched.core.model import RESULT_BYTES_MAX, RESULT_FILE_BYTES_MAX

#: Read of the end of a progress file; a line is shorter.
PROGRESS_BYTES = 1_024
#: A progress file past this is emptied.
PROGRESS_FILE_BYTES_MAX = 64 * 1024
#: Characters of the text beside the fraction.
PROGRESS_CHARS_MAX = 200
_PLAIN = os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK


class BadResult(Exception):
    """The attempt left what is no result; the text is its reason."""


class Answers:
    """Where the attempts of one node leave their results."""

    def __init__(self, directory: Path) -> None:
        self._folder = str(directory / "results")
        #: For attempts as other users, who cannot enter the node's directory; made when needed.
        self._shared = ""
        # Of an earlier runner, whose attempts are dead.
        shutil.rmtree(self._folder, ignore_errors=True)
        os.makedirs(self._folder, 0o700, exist_ok=True)  # noqa: PTH103 - with the text around it

    def open(self, token: int, *, is_private: bool) -> Answer:
        """Where an attempt answers.  ``is_private``: in a directory that its user is to make."""
        if not is_private:
            return Answer(f"{self._folder}/{token}", "")
        if not self._shared:
            self._shared = tempfile.mkdtemp(prefix="raftsched-")
            Path(self._shared).chmod(0o711)
        return Answer(f"{self._shared}/{token}/answer", f"{self._shared}/{token}")

    def close(self) -> None:
        """The runner ends."""
        if self._shared:
            shutil.rmtree(self._shared, ignore_errors=True)


class Answer:
    """The two files of one attempt."""

    __slots__ = ("_seen", "private", "progress", "result")

    def __init__(self, base: str, private: str) -> None:
        #: Paths, for the attempt's environment.
        self.result = base + ".json"
        #: The directory of an attempt as another user, or empty.
        self.private = private
        self.progress = base + ".progress"
        self._seen = (0, 0)

    def look(self) -> tuple[int, str] | None:
        """(thousandths, text) if the attempt said how far it is since the last look."""
        try:
            found = os.stat(self.progress, follow_symlinks=False)  # noqa: PTH116 - ten times a second
        except OSError:
            return None
        seen = (found.st_mtime_ns, found.st_size)
        if seen == self._seen:
            return None
        self._seen = seen
        with contextlib.suppress(OSError):
            descriptor, size = self._open(self.progress, os.O_RDWR)
            try:
                data = os.pread(descriptor, PROGRESS_BYTES, max(0, size - PROGRESS_BYTES))
                if size > PROGRESS_FILE_BYTES_MAX:
                    os.ftruncate(descriptor, 0)
            finally:
                os.close(descriptor)
            return _progress(data)
        return None

    def take(self, large_from: int = RESULT_BYTES_MAX, *, may_be_large: bool) -> bytes | int:
        """The result, if there is one, and no file of that name any more.  Raises BadResult.

        Of one of more than ``large_from`` bytes, unless that is refused, a descriptor of what is
        there, unchecked.
        """
        # Mostly there is none, and an exception costs three times as much as to ask.
        if not os.access(self.result, os.F_OK):
            return b""
        bytes_max = RESULT_FILE_BYTES_MAX if may_be_large else RESULT_BYTES_MAX
        try:
            if not os.lstat(self.result).st_size:
                return b""
            descriptor, size = self._open(self.result, os.O_RDONLY)
            is_large = may_be_large and large_from < size <= bytes_max
            try:
                data = b"" if is_large else os.pread(descriptor, RESULT_BYTES_MAX, 0)
                os.unlink(self.result)  # noqa: PTH108 - with the calls around it
            except OSError:
                is_large = False
                raise
            finally:
                if not is_large:
                    os.close(descriptor)
        except OSError as error:
            raise BadResult(f"result-unreadable: {error.strerror}") from error
        if is_large:
            return descriptor
        if size > bytes_max:
            raise BadResult(f"result-too-large: {size} bytes, at most {bytes_max}")
        return as_json(data)

    def close(self) -> None:
        """Remove what the attempt wrote."""
        if os.access(self.progress, os.F_OK):
            with contextlib.suppress(OSError):
                os.unlink(self.progress)  # noqa: PTH108 - with the calls around it
        if self.private:
            # What else is there goes with the runner: it may be very much.
            with contextlib.suppress(OSError):
                Path(self.result).unlink(missing_ok=True)
                Path(self.private).rmdir()

    def _open(self, path: str, flags: int) -> tuple[int, int]:
        """(descriptor, size) of a plain file that is the attempt's own.  Raises OSError."""
        descriptor = os.open(path, flags | _PLAIN)
        found = os.fstat(descriptor)
        is_own = not self.private or found.st_uid == os.lstat(self.private).st_uid
        if not is_own or not stat.S_ISREG(found.st_mode):
            os.close(descriptor)
            raise PermissionError(errno.EPERM, "it is no plain file of the attempt's own")
        return descriptor, found.st_size


def as_json(data: bytes) -> bytes:
    """The bytes, if they are JSON.  Raises BadResult."""
    try:
        msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadResult(f"result-not-json: {error}") from error
    return data.strip()


def _progress(data: bytes) -> tuple[int, str] | None:
    """The last whole line: a fraction from 0 to 1, and what one likes to say."""
    lines = data[: data.rfind(b"\n") + 1].splitlines()
    number, _, text = (lines[-1] if lines else b"").decode(errors="replace").partition(" ")
    try:
        permille = round(float(number) * 1000)
    except (ValueError, OverflowError):
        return None
    return min(1000, max(0, permille)), text.strip()[:PROGRESS_CHARS_MAX]
