"""What a simulation is like: its faults, the size of the cluster, the work, the log's limits."""

from __future__ import annotations

from typing import Any

import msgspec

from raftsched.testing.asks import USUAL, WORKFLOWS, Wishes


class Profile(msgspec.Struct, frozen=True, kw_only=True):
    """One kind of run."""

    #: How likely each kind of fault is, relative to the others (`faults.Nemesis`).
    faults: dict[str, float]
    peers: int = 3
    #: Operations of clients in a second.
    per_second: float = 4.0
    #: Bytes of a task's specification: at least, at most.
    spec_bytes: tuple[int, int] = (20, 400)
    #: What the tasks ask for beside running.
    wishes: Wishes = USUAL
    #: Schedules that fire all the while.
    schedules: int = 0
    #: Seconds a packet takes: at least, at most.
    delay: tuple[float, float] = (0.0001, 0.0008)
    lease_seconds: float = 4.0
    #: Fields of ``raft.config.LogConfig``: small ones make compaction happen all the time.
    log: dict[str, Any] = {}


_NET = {
    "isolate": 3.0, "one_way": 2.0, "bridge": 1.0, "split": 3.0, "flap": 1.0,
    "slow": 2.0, "reset": 2.0, "pause": 2.0, "transfer": 0.5,
}  # fmt: skip
_KILL = {
    "kill": 4.0,
    "kill_at": 3.0,
    "kill_point": 4.0,
    "kill_all": 0.5,
    "restart": 1.0,
    "runner": 0.5,
}
_POWER = {"power": 3.0, "power_at": 4.0, "power_point": 4.0, "power_all": 2.0, "kill": 1.0}
_DISK = {
    "disk_full": 2.0,
    "disk_slow": 2.0,
    "disk_error": 1.0,
    "bit": 0.5,
    "wipe": 0.5,
    "kill_at": 1.0,
}
_CLOCK = {
    "clock_step": 3.0, "clock_right": 4.0, "clock_drift": 2.0, "pause": 1.0, "kill": 0.5,
    "transfer": 1.0,
}  # fmt: skip
#: Compacted every hundred entries or so; a full disk leaves room in memory for a few of them.
_SMALL = {
    "journal_bytes_max": 48 * 1024,
    "segment_bytes": 12 * 1024,
    "paused_bytes_max": 4 * 1024,
}

PROFILES: dict[str, Profile] = {
    "net": Profile(faults=_NET, log=_SMALL),
    "lag": Profile(
        faults={"slow": 4.0, "reset": 2.0, "pause": 2.0, "kill": 1.0, "kill_point": 1.0},
        delay=(0.02, 0.09),
        log=_SMALL,
    ),
    "kill": Profile(faults=_KILL, log=_SMALL),
    "power": Profile(faults=_POWER, log=_SMALL),
    "disk": Profile(faults=_DISK, log=_SMALL),
    "big": Profile(
        faults={**_NET, "kill": 1.0},
        per_second=2.0,
        spec_bytes=(1_000, 60_000),
        log={"journal_bytes_max": 1024 * 1024, "segment_bytes": 256 * 1024},
    ),
    "five": Profile(faults={**_NET, **_KILL}, peers=5, per_second=3.0, log=_SMALL),
    "single": Profile(faults={**_KILL, **_POWER}, peers=1, per_second=2.5, log=_SMALL),
    "snapshot": Profile(
        faults={
            "isolate": 4.0,
            "kill": 2.0,
            "kill_at": 3.0,
            "power_at": 2.0,
            "reset": 2.0,
            "kill_point": 1.0,
        },
        per_second=4.0,
        log={"journal_bytes_max": 6 * 1024, "segment_bytes": 2 * 1024},
    ),
    "members": Profile(
        faults={**_NET, **_KILL, "power": 1.0, "members": 14.0},
        per_second=3.0,
        log=_SMALL,
    ),
    "clock": Profile(faults=_CLOCK, log=_SMALL),
    "slots": Profile(
        faults={**_NET, **_KILL, "clock_step": 1.0, "clock_right": 1.5},
        per_second=1.0,
        schedules=4,
        log=_SMALL,
    ),
    "workflows": Profile(
        faults={**_NET, **_KILL, "power": 1.0}, per_second=1.5, wishes=WORKFLOWS, log=_SMALL
    ),
    "all": Profile(faults={**_NET, **_KILL, **_POWER, **_DISK, **_CLOCK}, log=_SMALL),
}
