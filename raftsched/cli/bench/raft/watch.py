"""How long a loop stands still, and what the process weighs, while something goes on."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path
from typing import Any

#: The loop should come round this often.
TICK_SECONDS = 0.001
#: Shorter delays are not told one by one.
TOLD_SECONDS = 0.005
#: So many are told, the first ones of a window; of later ones only the longest.
TOLD_MAX = 20_000


class Watch:
    """A window of time: when the loop came late and by how much, CPU and memory.

    A delay has what the loop did itself, what it waited for (the disk, the interpreter's lock) and
    what the kernel gave to others; the loop's own CPU time between two rounds is the first alone.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._due = time.monotonic() + TICK_SECONDS
        self.restart()
        self._timer = self._loop.call_later(TICK_SECONDS, self._tick)

    def restart(self) -> None:
        """A new window begins."""
        self._told: list[tuple[float, float, float]] = []
        self._longest = self._busiest = 0.0
        self._thread_seconds = time.thread_time()
        self._begun_at = time.monotonic()
        self._cpu_seconds = time.process_time()
        self._resident_bytes = _status("VmRSS")
        # "5" resets the peak (proc(5)).
        Path("/proc/self/clear_refs").write_bytes(b"5")

    def _tick(self) -> None:
        now, thread_seconds = time.monotonic(), time.thread_time()
        delay, busy = now - self._due, thread_seconds - self._thread_seconds
        self._longest, self._busiest = max(self._longest, delay), max(self._busiest, busy)
        if delay >= TOLD_SECONDS and len(self._told) < TOLD_MAX:
            self._told.append((now, delay * 1e3, busy * 1e3))
        self._thread_seconds = thread_seconds
        self._due = now + TICK_SECONDS
        self._timer = self._loop.call_later(TICK_SECONDS, self._tick)

    def report(self) -> dict[str, Any]:
        """The window up to now; delays in milliseconds, memory in bytes.

        ``delays``: when the loop came round, how late that was, and its own CPU time till then.
        """
        return {
            "seconds": time.monotonic() - self._begun_at,
            "longest_ms": self._longest * 1e3,
            "busiest_ms": self._busiest * 1e3,
            "delays": self._told,
            "cpu_seconds": time.process_time() - self._cpu_seconds,
            "resident_before": self._resident_bytes,
            "resident_peak": _status("VmHWM"),
        }


def _status(field: str) -> int:
    for line in Path(f"/proc/{os.getpid()}/status").read_text(encoding="ascii").splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) * 1024
    return 0
