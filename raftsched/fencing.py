"""Refusing the writes of attempts that are over: what a sink does with a fencing token.

An attempt that was cut off (its machine was paused, its network gone) may go on for a moment after
another one has taken its place.  No lease can help a machine that stands still as a whole, but the
place that is written to can: every attempt has a token, higher than that of any attempt before it
in the cluster, and a sink that remembers the highest it saw refuses a lower one.

    from raftsched.fencing import Fence, token

    fence = Fence()
    with fence.held("report-2026", token()):     # raises StaleToken
        write_the_report()

`Fence` serves one process, which then is the sink.  Where several processes write, the token must
stand beside the data and be compared in the same step that writes: docs/guides/fencing.md shows it
for files and for an SQL table.

Errors: `StaleToken` (an older attempt came after a newer one: give up, nothing was written);
`NoToken` (this process is no attempt).
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

#: In the environment of every command, and the header of every HTTP request.
VARIABLE = "RAFTSCHED_FENCING_TOKEN"
HEADER = "Raftsched-Fencing-Token"
#: Names a `Fence` remembers unless told otherwise.
NAMES_MAX = 100_000


class StaleToken(Exception):
    """A newer attempt has been here.  Nothing was written; this attempt is over."""

    def __init__(self, name: str, token: int, highest: int) -> None:
        super().__init__(f"{name}: token {token} is older than {highest}, which was here already")
        self.name = name
        self.token = token
        #: The highest token seen under this name.
        self.highest = highest


class NoToken(Exception):
    """There is no fencing token: this does not run as an attempt."""


class Full(Exception):
    """The fence knows as many names as it may, and forgetting one would let old tokens pass."""


def token(environ: Mapping[str, str] = os.environ) -> int:
    """The token of the attempt that this process is.  Raises NoToken."""
    text = environ.get(VARIABLE, "")
    if not text.isascii() or not text.isdigit():
        raise NoToken(f"{VARIABLE} is not set; only attempts have a token")
    return int(text)


def token_of(headers: Mapping[str, str]) -> int:
    """The token of the attempt that made an HTTP request.  Raises NoToken.

    Names of headers are compared without regard to case, as HTTP has it.
    """
    values = [value for name, value in headers.items() if name.lower() == HEADER.lower()]
    if len(values) != 1 or not values[0].isascii() or not values[0].isdigit():
        raise NoToken(f"the request has no {HEADER} header, or no number in it")
    return int(values[0])


class Fence:
    """Remembers the highest token under each name.  Safe to use from several threads.

    It forgets with its process: a sink that restarts passes ``seen``, what it stored with its data.
    """

    def __init__(
        self, seen: Mapping[str, int] | None = None, *, names_max: int = NAMES_MAX
    ) -> None:
        self._highest = dict(seen or {})
        self._names_max = names_max
        self._guard = threading.Lock()
        #: Of names that somebody holds or waits for: the lock, and how many these are.
        self._locks: dict[str, tuple[threading.Lock, int]] = {}

    def highest(self, name: str) -> int:
        """The highest token seen under a name; 0 if there was none."""
        with self._guard:
            return self._highest.get(name, 0)

    def check(self, name: str, token: int) -> None:
        """Remember the token.  Raises StaleToken for one lower than another seen, and Full.

        A token that was seen before passes: one attempt may write many times.
        """
        with self._guard:
            highest = self._highest.get(name, 0)
            if token < highest:
                raise StaleToken(name, token, highest)
            if not highest and len(self._highest) >= self._names_max:
                raise Full(f"{self._names_max} names are known; `forget` those that are done")
            self._highest[name] = token

    @contextmanager
    def held(self, name: str, token: int) -> Iterator[None]:
        """Like `check`, and nobody else passes under this name until the block ends.

        So what a newer attempt writes is never overwritten by an older one that had passed before.
        """
        with self._lock(name):
            self.check(name, token)
            yield

    def forget(self, name: str) -> None:
        """Nothing is written under this name any more: old tokens would pass again."""
        with self._guard:
            self._highest.pop(name, None)

    @contextmanager
    def _lock(self, name: str) -> Iterator[None]:
        """A lock for the name, which is there as long as somebody has or wants it."""
        with self._guard:
            lock, users = self._locks.get(name, (threading.Lock(), 0))
            self._locks[name] = lock, users + 1
        try:
            with lock:
                yield
        finally:
            with self._guard:
                _, users = self._locks.pop(name)
                if users > 1:
                    self._locks[name] = lock, users - 1
