"""How long a loop stands still, and what the process weighs, while something goes on."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path
from typing import Any

from raftsched.cli.bench.raft.figures import percentile

#: The loop should come round this often.
TICK_SECONDS = 0.001
#: Delays kept for the percentile; of later ones only the longest counts.
DELAYS_MAX = 1_000_000


class Watch:
    """A window of time: loop delays (scheduling by the kernel included), CPU and memory."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.restart()
        self._due = self._loop.time() + TICK_SECONDS
        self._timer = self._loop.call_at(self._due, self._tick)

    def restart(self) -> None:
        """A new window begins."""
        self._delays: list[float] = []
        self._longest = 0.0
        self._begun_at = time.monotonic()
        self._cpu = time.process_time()
        self._resident_bytes = _status("VmRSS")
        # "5" resets the peak (proc(5)).
        Path("/proc/self/clear_refs").write_bytes(b"5")

    def _tick(self) -> None:
        now = self._loop.time()
        delay = (now - self._due) * 1e3
        self._longest = max(self._longest, delay)
        if len(self._delays) < DELAYS_MAX:
            self._delays.append(delay)
        self._due = now + TICK_SECONDS
        self._timer = self._loop.call_at(self._due, self._tick)

    def report(self) -> dict[str, Any]:
        """The window up to now; delays in milliseconds, memory in bytes."""
        delays = sorted(self._delays)
        return {
            "seconds": time.monotonic() - self._begun_at,
            "stall_p99_ms": percentile(delays, 99),
            "stall_longest_ms": self._longest,
            "cpu_seconds": time.process_time() - self._cpu,
            "resident_before": self._resident_bytes,
            "resident_peak": _status("VmHWM"),
        }

    def close(self) -> None:
        """Stop looking."""
        self._timer.cancel()


def _status(field: str) -> int:
    for line in Path(f"/proc/{os.getpid()}/status").read_text(encoding="ascii").splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) * 1024
    return 0
