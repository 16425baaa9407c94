"""Attempts that outlived a killed runner: found by the mark in their environment, and ended.

Every attempt inherits ``RAFTSCHED_NODE_MARK``, and so does what it forks and what leaves its
process group, so no pid has to be recorded and none can be mistaken for another process's.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import signal
import time
from pathlib import Path

MARK = "RAFTSCHED_NODE_MARK"


def mark_of(directory: Path) -> str:
    """The mark of all attempts under one node directory."""
    return hashlib.sha256(str(directory.resolve()).encode()).hexdigest()[:32]


def find(directory: Path) -> list[int]:
    """Pids of living processes with this directory's mark."""
    wanted = f"{MARK}={mark_of(directory)}".encode()
    found = []
    for entry in sorted(path.name for path in Path("/proc").iterdir()):
        if not entry.isdigit() or int(entry) == os.getpid():
            continue
        with contextlib.suppress(OSError):
            variables = Path("/proc", entry, "environ").read_bytes()
            if wanted in variables.split(b"\0"):
                found.append(int(entry))
    return found


def clean_up(directory: Path, timeout_seconds: float = 5.0) -> bool:
    """Kill what is left and see it dead; False if something still lives at the timeout."""
    if not Path("/proc/self/environ").exists():
        return False
    deadline = time.monotonic() + timeout_seconds
    empty_looks = 0
    while True:
        pids = find(directory)
        empty_looks = 0 if pids else empty_looks + 1
        # A process has no environment to read for a moment in the middle of its exec.
        if empty_looks == 2:
            return True
        if time.monotonic() > deadline:
            return False
        for pid in pids:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.02)
