"""Runs that belong together: the suites, and the planted bugs that must be caught."""

from __future__ import annotations

import msgspec


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """One run of a suite."""

    workload: str
    nemesis: tuple[str, ...] = ()
    #: Of the faults.
    seconds: float = 45.0
    peers: int = 3
    lease_seconds: float = 5.0
    #: Faults by name; empty: all of the classes.
    faults: tuple[str, ...] = ()


class Planted(msgspec.Struct, frozen=True, kw_only=True):
    """A bug, the runs that are to show it, and the checkers of which one must."""

    name: str
    plan: Plan
    #: Any of these.
    caught_by: tuple[str, ...]
    #: Seeds that are tried.
    seeds: int = 3


#: One of each kind, within a minute.
SMOKE = (Plan(workload="mixed", nemesis=("kill", "partition", "pause"), seconds=20.0),)

_NETWORK = ("partition", "link")
_PROCESSES = ("kill", "crash", "pause", "runner", "restart")
_DISKS = ("power", "disk")

#: Every workload under every kind of fault; about forty minutes, one after the other.
FULL = (
    Plan(workload="tasks", seconds=15.0),
    Plan(workload="tasks", nemesis=("kill",)),
    Plan(workload="tasks", nemesis=("crash", "runner")),
    Plan(workload="tasks", nemesis=("pause",)),
    Plan(workload="tasks", nemesis=("partition",), seconds=60.0),
    Plan(workload="tasks", nemesis=("link",)),
    Plan(workload="tasks", nemesis=("restart",)),
    Plan(workload="register", nemesis=("kill", "pause")),
    Plan(workload="register", nemesis=_NETWORK),
    Plan(workload="register", nemesis=("partition",), peers=5),
    Plan(workload="schedules", nemesis=("kill", "crash")),
    Plan(workload="schedules", nemesis=_NETWORK),
    Plan(workload="schedules", nemesis=("restart", "pause")),
    Plan(workload="workflow", nemesis=("kill", "crash")),
    Plan(workload="workflow", nemesis=_NETWORK),
    Plan(workload="workflow", nemesis=("pause", "runner")),
    Plan(workload="limits", nemesis=("kill", "partition")),
    Plan(workload="limits", nemesis=("crash", "pause")),
    Plan(workload="fencing", nemesis=("pause", "partition")),
    Plan(workload="fencing", nemesis=("crash", "kill")),
    Plan(workload="drain", nemesis=("kill", "restart")),
    Plan(workload="drain", nemesis=("partition", "crash")),
    Plan(workload="mixed", nemesis=(*_PROCESSES, *_NETWORK), seconds=60.0),
    Plan(workload="mixed", nemesis=(*_PROCESSES, *_NETWORK), seconds=60.0, peers=5),
    Plan(workload="mixed", nemesis=("all",), seconds=60.0),
    Plan(workload="mixed", nemesis=("all",), seconds=60.0),
)

SUITES: dict[str, tuple[Plan, ...]] = {"smoke": SMOKE, "full": FULL}


def _planted(
    name: str,
    caught_by: str,
    workload: str,
    *nemesis: str,
    seconds: float = 30.0,
    seeds: int = 3,
    lease_seconds: float = 5.0,
) -> Planted:
    plan = Plan(workload=workload, nemesis=nemesis, seconds=seconds, lease_seconds=lease_seconds)
    return Planted(name=name, plan=plan, caught_by=tuple(caught_by.split()), seeds=seeds)


#: By the names of ``python -m tests.planted``.
PLANTED = (
    _planted("forget-keys", "once durability", "tasks", "kill-one"),
    _planted("read-what-is-applied-here", "linearizability witness", "register", "partition-mute",
             "pause-one"),
    _planted("read-without-asking-anybody", "linearizability", "register", "partition-leader",
             "pause-leader"),
    _planted("do-not-wait-for-the-lease", "exclusion", "tasks", "partition-leader",
             "partition-one", seconds=45.0),
    _planted("grant-without-a-quorum", "exclusion", "tasks", "partition-leader", seconds=45.0),
    _planted("believe-any-token", "exclusion", "tasks", "pause", seconds=45.0),
    _planted("run-what-was-cancelled-again", "cancels", "tasks", "crash-one", "crash-leader",
             seconds=45.0),
    _planted("start-what-may-start-once-again", "exclusion", "tasks", "crash-one", "crash-leader"),
    _planted("let-everybody-through", "limits", "limits", "kill-one", seconds=15.0),
    _planted("fire-what-has-fired", "slots", "schedules", "kill-leader"),
    _planted("begin-from-now", "slots", "schedules", "kill-majority", "kill-all"),
    _planted("take-any-end-for-the-right-one", "dependencies", "workflow", "kill-one"),
    _planted("join-as-soon-as-one-is-there", "dependencies", "workflow", "kill-one"),
    _planted("end-with-the-first-subtask", "dependencies termination", "workflow", "kill-one"),
    _planted("look-at-a-clock-in-apply", "replicas logs termination", "tasks", "kill-one",
             seconds=15.0),
    _planted("truncate-what-matches", "durability replicas logs", "tasks", "delay", "disorder"),
    _planted("never-sync", "durability replicas logs linearizability", "tasks", "power-all",
             "power-majority"),
    _planted("acknowledge-before-sync", "durability replicas logs linearizability", "tasks",
             "power-all", "power-aimed"),
    _planted("lead-on-with-a-full-disk", "termination availability", "tasks", "disk-full"),
    _planted("forget-votes", "leaders durability linearizability logs", "tasks", "power-all",
             "partition-flapping", seconds=60.0),
)  # fmt: skip
