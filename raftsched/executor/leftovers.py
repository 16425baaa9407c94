"""What outlived a peer or a runner and must not: found in three ways, and ended.

1. The runner's keeper ends all that is left of it (`executor.keeper`), and is waited for.
2. If it was killed as well, the runner's ledger names what ran (`executor.ledger`).
3. Every attempt inherits ``RAFTSCHED_NODE_MARK``, and so does what it forks and what leaves its
   process group.  So no pid can be mistaken for another process's.

A runner that lives has its directory's lock file open, which it never hands on.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import signal
import time
from pathlib import Path

from raftsched.executor import ledger, proc

MARK = "RAFTSCHED_NODE_MARK"
#: The file in the node's directory that its runner locks.
LOCK = "runner.lock"


def mark_of(directory: Path) -> str:
    """The mark of all attempts under one node directory."""
    return hashlib.sha256(str(directory.resolve()).encode()).hexdigest()[:32]


def find(directory: Path) -> list[int]:
    """Pids of living processes with this directory's mark."""
    wanted = f"{MARK}={mark_of(directory)}".encode()
    found = []
    for pid in proc.pids():
        with contextlib.suppress(OSError):
            variables = Path("/proc", str(pid), "environ").read_bytes()
            if wanted in variables.split(b"\0"):
                found.append(pid)
    return found


def _kill(pids: list[int]) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)


def runners(directory: Path) -> list[int]:
    """Pids of living runners of this directory, answering or not."""
    try:
        lock = (directory / LOCK).stat()
    except FileNotFoundError:
        return []
    return [process.pid for process in ledger.openers(lock)]


def end_runner(directory: Path, timeout_seconds: float = 5.0) -> bool:
    """Kill the directory's runner, then its attempts; False if anything lives at the timeout."""
    deadline = time.monotonic() + timeout_seconds
    while pids := runners(directory):
        _kill(pids)
        if time.monotonic() > deadline:
            break
        time.sleep(0.02)
    # A runner that cannot die starts nothing any more.
    return clean_up(directory, timeout_seconds) and not pids


def clean_up(directory: Path, timeout_seconds: float = 5.0) -> bool:
    """Kill what is left and see it dead; False if something may still live at the timeout.

    The directory's runner is dead.
    """
    if not Path("/proc/self/environ").exists():
        return False
    deadline = time.monotonic() + timeout_seconds
    is_settled = ledger.settle(directory, deadline)
    empty_looks = 0
    while True:
        pids = find(directory)
        empty_looks = 0 if pids else empty_looks + 1
        # A process has no environment to read for a moment in the middle of its exec.
        if empty_looks == 2:
            return is_settled
        if time.monotonic() > deadline:
            return False
        _kill(pids)
        time.sleep(0.02)
