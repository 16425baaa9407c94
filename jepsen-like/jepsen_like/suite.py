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
    #: A minority stays dead after the faults.
    leaves_dead: bool = False
    #: Never two faults at once, and all peers ready between them.
    is_single: bool = False


class Planted(msgspec.Struct, frozen=True, kw_only=True):
    """A bug, the runs that are to show it, and the checkers of which one must."""

    name: str
    plan: Plan
    #: Any of these.
    caught_by: tuple[str, ...]
    #: Seeds that are tried.
    seeds: int = 3


#: The leader dies, is cut off and stands still, within a minute.
SMOKE = (
    Plan(
        workload="mixed",
        nemesis=("kill-leader", "partition-leader", "pause-leader"),
        seconds=20.0,
    ),
)


def _plans(workload: str, *nemeses: str, peers: int = 3) -> tuple[Plan, ...]:
    """A run for each of these, which are what ``--nemesis`` takes."""
    return tuple(
        Plan(workload=workload, nemesis=tuple(words.split(",")), peers=peers) for words in nemeses
    )


#: Every workload under every kind of fault; about half an hour on two cores, two at a time.
FULL = (
    Plan(workload="mixed", seconds=20.0),  # Without any: what is broken then is the harness.
    *_plans(
        "tasks", "kill", "crash,runner", "pause", "partition", "partition", "link,transfer",
        "restart", "power", "power,torn", "disk", "disk,kill-leader", "clock,restart", "bitflip",
        "bitflip,kill", "snapshot", "snapshot", "snapshot,partition", "members",
    ),
    *_plans("register", "kill,pause", "partition", "link,transfer", "power,disk", "clock,kill",
            "bitflip,torn,runner"),
    *_plans("register", "partition,kill", peers=5),
    *_plans("schedules", "kill,crash", "partition", "link,restart", "pause,kill-leader",
            "clock,transfer", "clock,partition-leader", "clock-change,kill-leader",
            "clock-change,clock-all", "power"),
    *_plans("workflow", "kill,crash", "partition", "pause,runner", "power,torn", "disk,restart"),
    *_plans("limits", "kill,partition", "crash,pause", "clock,kill-leader"),
    *_plans("fencing", "pause,partition", "crash,kill", "clock,pause-leader",
            "pause-machine-long"),
    *_plans("drain", "kill,restart", "partition,crash", "members,kill"),
    *(
        Plan(workload=workload, nemesis=(nemesis,), leaves_dead=True, peers=peers, seconds=30.0)
        for workload, nemesis, peers in
        (("tasks", "kill", 3), ("workflow", "partition", 3), ("mixed", "crash", 5))
    ),
    *(
        Plan(workload="availability", nemesis=("kill-one", "kill-leader"), peers=peers,
             seconds=60.0, is_single=True)
        for peers in (3, 5)
    ),
    *_plans("mixed", "all", "all", "all", "all"),
    *_plans("mixed", "kill,crash,pause,partition,link", "all", peers=5),
)  # fmt: skip

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
    # Of six cuts about two outlast the lease by enough for an attempt elsewhere.
    _planted("grant-without-a-quorum", "exclusion", "tasks", "partition-leader", seconds=100.0,
             seeds=5),
    # Nodes mostly see for themselves that a lease is over, and say nothing of what it was for.
    _planted("believe-any-token", "outcomes exclusion", "tasks", "pause", seconds=100.0, seeds=5),
    _planted("run-what-was-cancelled-again", "cancels", "tasks", "crash-one", "crash-leader",
             seconds=45.0),
    _planted("cancel-a-whole-and-leave-its-parts", "cancels", "workflow", "kill-one"),
    _planted("start-what-may-start-once-again", "exclusion", "tasks", "crash-one", "crash-leader"),
    _planted("let-everybody-through", "limits", "limits", "kill-one", seconds=4.0),
    _planted("fire-what-has-fired", "slots", "schedules", "kill-leader"),
    _planted("begin-from-now", "slots", "schedules", "kill-majority", "kill-all"),
    _planted("fire-and-lose-the-run", "slots", "schedules", "kill-one", seconds=10.0),
    _planted("come-again-when-clocks-go-back", "slots", "schedules", "kill-one", seconds=25.0),
    _planted("take-any-end-for-the-right-one", "dependencies", "workflow", "kill-one"),
    _planted("join-as-soon-as-one-is-there", "dependencies", "workflow", "kill-one"),
    _planted("end-with-the-first-subtask", "dependencies termination", "workflow", "kill-one"),
    _planted("look-at-a-clock-in-apply", "replicas logs termination", "tasks", "kill-one",
             seconds=15.0),
    _planted("never-sync", "durability replicas logs linearizability", "tasks", "power-all",
             "power-majority"),
    _planted("acknowledge-before-sync", "durability replicas logs linearizability", "tasks",
             "power-while-syncing", seeds=6),
    _planted("show-what-is-cached", "witness", "register", "kill-one", seconds=10.0),
    _planted("show-another-token", "witness", "tasks", "kill-one", seconds=10.0),
    _planted("forget-votes", "leaders durability linearizability logs", "tasks", "power-all",
             "partition-flapping", seconds=60.0),
)  # fmt: skip
