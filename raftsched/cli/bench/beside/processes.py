"""Programs of others: started in a process group of their own, and stopped whatever happens.

Rules
1. Every program gets a directory of its own, where its data and its output go, and free ports on
   loopback.
2. At the end of the ``with`` block its whole group gets SIGTERM, after a while SIGKILL.  Should
   this process be killed, the kernel sends the program SIGTERM.
3. Nothing is signalled but what was started here, by its pid.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from raftsched.cli.exits import Failure

START_SECONDS_MAX = 30.0
STOP_SECONDS_MAX = 10.0
POLL_SECONDS = 0.05
#: The end of a program's output that a failure shows.
TAIL_CHARACTERS = 500
#: prctl(2): the signal that this process gets when its parent ends.
_PR_SET_PDEATHSIG = 1
#: Loaded before the fork, after which little is safe.
_LIBC = ctypes.CDLL(None)


def free_ports(count: int) -> list[int]:
    """Ports of loopback that nobody listens on just now."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for sock in sockets:
            sock.bind(("127.0.0.1", 0))
        return [int(sock.getsockname()[1]) for sock in sockets]


class Program:
    """One started program, as a context."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        directory: Path,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """``environment``: variables beside those of this process."""
        self.name = name
        self._command = command
        self._directory = directory
        self._environment = {**os.environ, **(environment or {})}
        self._log = directory / f"{name}.log"
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Program:
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                self._command,
                cwd=self._directory,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self._environment,
                start_new_session=True,
                preexec_fn=_end_with_parent,
            )
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process is not None
        group = self._process.pid  # Of its own session, so the group's number, too.
        _signal(group, signal.SIGTERM)
        deadline = time.monotonic() + STOP_SECONDS_MAX
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(STOP_SECONDS_MAX)
        while _signal(group, 0) and time.monotonic() < deadline:
            time.sleep(POLL_SECONDS)
        _signal(group, signal.SIGKILL)
        self._process.wait()

    @property
    def pid(self) -> int:
        """Of the program, and of its process group."""
        assert self._process is not None
        return self._process.pid

    def wait_until(self, is_ready: Callable[[], bool], seconds: float = START_SECONDS_MAX) -> None:
        """Ask until it is.  Raises Failure when the program ends before, or takes too long."""
        deadline = time.monotonic() + seconds
        while not is_ready():
            assert self._process is not None
            if self._process.poll() is not None:
                raise Failure(f"{self.name} ended: {self._last_words()}")
            if time.monotonic() > deadline:
                raise Failure(f"{self.name} not ready after {seconds:g} s: {self._last_words()}")
            time.sleep(POLL_SECONDS)

    def _last_words(self) -> str:
        return self._log.read_text(errors="replace")[-TAIL_CHARACTERS:]


def _end_with_parent() -> None:
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)


def _signal(group: int, number: int) -> bool:
    """Was there anybody in the group to get it?"""
    try:
        os.killpg(group, number)
    except ProcessLookupError:
        return False
    return True
