"""Directories that attempts work in: empty at the start, gone with all in them after the end.

To make and remove a directory costs a tenth of what starting a program does, and most leave nothing
in theirs.  So one that is as it was made is used again, few files are removed at once, and anything
more by a program of its own (``rm``), for which nothing here waits.

Rules
1. An attempt has its own if it is a command that names no directory and no user: those start at
   home.
2. At most ``TRASH_MAX`` wait to be removed: past that no attempt that needs one begins.
3. What a runner leaves is removed by the next one.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import stat
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from raftsched.core.spec import TaskSpec
from raftsched.executor.children import Children

#: Empty directories kept for the next attempts.
SPARE_MAX = 64
#: So many files are removed at once; a directory with more, or with directories, is trash.
FILES_MAX = 16
#: Directories that wait to be removed.
TRASH_MAX = 1_000
#: Directories that one program removes.
PART_MAX = 64
#: What happened this long ago has another time than what happens now, on any file system.
RECENT_NANOSECONDS = 100_000_000
_MODE = 0o700
_UNTOUCHED = stat.S_IFDIR | _MODE


class Places:
    """Those of one node's attempts."""

    def __init__(self, directory: Path, children: Children) -> None:
        self._folder = str(directory / "work")
        self._children = children
        self._spares: list[str] = []
        #: When something last changed in those that were seen to be empty, long enough ago.
        self._changed: dict[str, int] = {}
        self._made = 0
        self._trash: list[str] = []
        #: Under removal, and what is run on it next if this program fails.
        self._doomed: list[str] = []
        self._then: list[Sequence[str]] = []
        os.makedirs(self._folder, _MODE, exist_ok=True)  # noqa: PTH103 - with the text around it
        left = os.listdir(self._folder)  # noqa: PTH208
        self._trash += [f"{self._folder}/{name}" for name in left]
        self._made = max([int(name) for name in left if name.isdecimal()], default=0)
        self._remove()

    @property
    def has_room(self) -> bool:
        """May an attempt begin that needs one?"""
        return len(self._trash) < TRASH_MAX

    def open(self, spec: TaskSpec) -> str:
        """A directory for an attempt, or nothing if it is to have none.  Raises OSError."""
        if spec.cwd or spec.user:
            return ""
        if self._spares:
            path = self._spares.pop()
            if time.time_ns() - self._changed[path] < RECENT_NANOSECONDS:
                del self._changed[path]
            return path
        self._made += 1
        path = f"{self._folder}/{self._made}"
        # With its parent, should an attempt have removed that.
        os.makedirs(path, _MODE)  # noqa: PTH103 - with the text around it
        return path

    def close(self, path: str) -> None:
        """The attempt has ended, and nothing of it runs."""
        if not path:
            return
        changed = self._changed.pop(path, -1)
        found = _emptied(path, changed)
        if found < 0:
            self._trash.append(path)
            self._remove()
        elif len(self._spares) < SPARE_MAX:
            self._spares.append(path)
            self._changed[path] = found
        else:
            _remove_empty(path)

    def end(self) -> None:
        """The runner ends."""
        for path in (*self._spares, self._folder):
            _remove_empty(path)

    # The program that removes --------------------------------------------------------------------

    def _remove(self) -> None:
        """Start one, if none runs and there is something to remove."""
        if self._doomed or not self._trash:
            return
        self._doomed = self._trash[:PART_MAX]
        # Directories that were made unreadable are opened up for the second try.
        self._then = [("rm", "-rf"), ("chmod", "-R", "u+rwX"), ("rm", "-rf")]
        self._run(0)

    def _run(self, status: int) -> None:
        """The next program; ``status``: what the one before ended with."""
        left = [path for path in self._doomed if os.path.lexists(path)]
        while left and self._then:
            command = self._then.pop(0)
            try:
                pid = _spawn((*command, "--", *left))
            except OSError as error:
                print(f"{command[0]} cannot be started: {error}", file=sys.stderr)
                break
            self._children.add(pid, self._run)
            return
        if left:
            print(f"not removed, until the next start: {' '.join(left)}", file=sys.stderr)
        del self._trash[: len(self._doomed)]
        self._doomed = []
        self._remove()


def _emptied(path: str, changed: int) -> int:
    """When it changed last, if it is as it was made, without what little is in it; else -1.

    ``changed``: it was empty when it had changed at that time.
    """
    try:
        found = os.lstat(path)
        if found.st_mode != _UNTOUCHED:
            return -1
        if found.st_mtime_ns == changed:
            return changed
        names = os.listdir(path)  # noqa: PTH208 - with the calls around it
        if len(names) > FILES_MAX:
            return -1
        for name in names:
            os.unlink(f"{path}/{name}")  # noqa: PTH108 - with the calls around it
        return os.lstat(path).st_mtime_ns if names else found.st_mtime_ns
    except OSError:
        return -1  # A directory in it, or it was removed itself.


def _remove_empty(path: str) -> None:
    with contextlib.suppress(OSError):
        os.rmdir(path)  # noqa: PTH106 - with the calls around it


def _spawn(command: Sequence[str]) -> int:
    """Start a program of the system's.  Raises OSError."""
    found = shutil.which(command[0], path=os.defpath)
    if found is None:
        raise FileNotFoundError(f"no {command[0]} in {os.defpath}")
    null = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.posix_spawn(
            found,
            tuple(command),
            {},
            file_actions=((os.POSIX_SPAWN_DUP2, null, 0),),
            setsid=True,
            setsigmask=(),
            setsigdef=(signal.SIGPIPE, signal.SIGINT, signal.SIGHUP),
        )
    finally:
        os.close(null)
