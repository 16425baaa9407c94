"""The runner's children: who is told when one of them ends."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable


class Children:
    """Every process the runner started and has not seen dead.  Each leads a group of its own."""

    def __init__(self) -> None:
        self._on_exit: dict[int, Callable[[int], None]] = {}

    def add(self, pid: int, on_exit: Callable[[int], None]) -> None:
        """``on_exit`` is called by `reap`, with the status that ``waitpid`` gives."""
        self._on_exit[pid] = on_exit

    def reap(self) -> None:
        """Collect the dead, and first end what they left in their process group."""
        while self._on_exit:
            try:
                found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                return
            if found is None:
                return
            pid = found.si_pid
            signal_group(pid, signal.SIGKILL)
            _, status = os.waitpid(pid, 0)
            on_exit = self._on_exit.pop(pid, None)
            if on_exit is not None:
                on_exit(status)


def signal_group(pid: int, number: int) -> None:
    """Send a signal to a child's process group; nobody may be left there."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)


def is_dead(pid: int) -> bool:
    """Has the child ended, though it was not reaped yet?"""
    return bool(os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT))
