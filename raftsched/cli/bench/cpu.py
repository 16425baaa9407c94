"""CPU that a cluster's processes use, by what they are.  Linux only, as the kernel counts.

CPU per task varies less from minute to minute than tasks a second do, and says whose it is.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping
from pathlib import Path

from raftsched.cli.bench.cluster import OwnCluster


class CpuMeter:
    """What was used while the ``with`` block ran, microseconds by role."""

    def __init__(self, cluster: OwnCluster) -> None:
        self._roles = _roles(cluster)
        self._begin: dict[int, int] = {}
        self._own = 0.0
        self.used: dict[str, float] = {}

    def __enter__(self) -> CpuMeter:
        self._begin = {pid: _nanoseconds(pid) for pid in self._roles}
        self._own = time.process_time()
        return self

    def __exit__(self, *_: object) -> None:
        used: dict[str, float] = {"load": (time.process_time() - self._own) * 1e6}
        for pid, role in self._roles.items():
            grown = _nanoseconds(pid) - self._begin[pid]
            used[role] = used.get(role, 0.0) + max(0, grown) / 1e3
        self.used = used

    def per_task(self, count: int) -> dict[str, float]:
        """Microseconds for each of ``count`` tasks, all processes of a role together."""
        return per_task(self.used, count)


def per_task(used: Mapping[str, float], count: int) -> dict[str, float]:
    """Each role's share of one task, and the sum."""
    shares = {role: round(value / max(1, count), 1) for role, value in sorted(used.items())}
    return {**shares, "all": round(sum(used.values()) / max(1, count), 1)}


def _roles(cluster: OwnCluster) -> dict[int, str]:
    """Pid -> leader, followers, runners or workers."""
    leader = cluster.leading()
    found: dict[int, str] = {}
    for peer in cluster.peers.values():
        if peer.process is not None:
            found[peer.process.pid] = "leader" if peer.id == leader else "followers"
        with contextlib.suppress(OSError, ValueError):
            runner = int((peer.data_dir / "node" / "runner.pid").read_text(encoding="ascii"))
            found[runner] = "runners"
            found.update(dict.fromkeys(_children(runner), "workers"))
    return found


def _children(pid: int) -> list[int]:
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii")
    return [int(word) for word in text.split()]


def _nanoseconds(pid: int) -> int:
    """CPU of all threads of a process so far; 0 when it has gone."""
    total = 0
    with contextlib.suppress(OSError, ValueError):
        for thread in Path(f"/proc/{pid}/task").iterdir():
            total += int((thread / "schedstat").read_text(encoding="ascii").split()[0])
    return total
