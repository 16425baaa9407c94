"""Processes as the kernel lists them, each known by its pid and the tick at which it started.

A pid alone is nobody's name: it goes to another process once its own is gone.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path
from typing import NamedTuple

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
#: Of the boot clock that start times are counted in, a second.
_TICKS = os.sysconf("SC_CLK_TCK")
_NANOSECONDS = 1_000_000_000
#: More than any line of ``stat``.
_STAT_BYTES = 4096
#: States of processes that run no more: zombie, dead.
_DEAD = b"ZXx"


class Process(NamedTuple):
    """One process, at one moment."""

    pid: int
    #: Ticks since the boot of the machine.
    started: int
    parent: int
    #: Pid of the session's leader, who may be gone.
    session: int
    #: It has ended, and was not reaped yet.
    is_dead: bool = False


def ticks_now() -> int:
    """What a process that starts now has as its start."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) * _TICKS // _NANOSECONDS


def boot_id() -> str:
    """Of this boot of the machine.  Raises OSError where there is none."""
    return BOOT_ID.read_text(encoding="ascii").strip()


def pids() -> list[int]:
    """Of all processes but this one; none where the system does not say."""
    if not Path("/proc/self/stat").exists():
        return []
    names = os.listdir("/proc")  # noqa: PTH208 - of hundreds, many times
    return sorted(int(name) for name in names if name.isdigit() and int(name) != os.getpid())


def look(pid: int) -> Process | None:
    """The process that has this pid now."""
    try:
        descriptor = os.open(f"/proc/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
        try:
            line = os.read(descriptor, _STAT_BYTES)
        finally:
            os.close(descriptor)
    except OSError:
        return None
    if not line:
        return None
    # Its name stands in parentheses, and may hold any of them.
    state, parent, _, session, *others = line[line.rfind(b")") + 2 :].split()
    return Process(pid, int(others[15]), int(parent), int(session), state in _DEAD)


def everyone() -> dict[int, Process]:
    """All processes but this one."""
    found = (look(pid) for pid in pids())
    return {process.pid: process for process in found if process is not None}


def send(process: Process, number: int) -> None:
    """Signal this very process, never another one that got its pid."""
    with contextlib.suppress(OSError):
        descriptor = os.pidfd_open(process.pid)
        try:
            now = look(process.pid)
            if now is not None and now.started == process.started:
                signal.pidfd_send_signal(descriptor, number)
        finally:
            os.close(descriptor)
