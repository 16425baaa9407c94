"""A million tasks in the queue: what they weigh in each peer, and how long its loop stands still.

The stall is what a user would see: the longest answer of ``/health/live``, asked without a pause on
one connection of its own, while the cluster works.
"""

from __future__ import annotations

import http.client
import threading
import time
from pathlib import Path
from typing import Any

#: A probe that gets no answer for so long counts as that.
ANSWER_SECONDS_MAX = 30.0
PAUSE_SECONDS = 0.002


class StallProbe:
    """Longest answers of one peer while the ``with`` block runs, milliseconds."""

    def __init__(self, address: str) -> None:
        self._address = address.removeprefix("http://")
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._ask, name="stall probe", daemon=True)
        self.samples: list[float] = []

    def __enter__(self) -> StallProbe:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(ANSWER_SECONDS_MAX)

    def _ask(self) -> None:
        connection = http.client.HTTPConnection(self._address, timeout=ANSWER_SECONDS_MAX)
        while not self._stop.is_set():
            begin = time.perf_counter()
            try:
                connection.request("GET", "/health/live")
                connection.getresponse().read()
            except (OSError, http.client.HTTPException):
                connection.close()
            self.samples.append((time.perf_counter() - begin) * 1e3)
            self._stop.wait(PAUSE_SECONDS)
        connection.close()

    def summary(self) -> dict[str, Any]:
        """Milliseconds."""
        found = sorted(self.samples) or [0.0]
        return {
            "longest_ms": round(found[-1], 1),
            "p99_ms": round(found[len(found) * 99 // 100], 1),
            "probes": len(self.samples),
        }


def resident_bytes(pid: int) -> int:
    """Memory of a process that is in RAM."""
    for line in Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    return 0
