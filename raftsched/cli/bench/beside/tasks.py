"""No-op tasks, from the first submission to the last end, of ours and of other queues in turns."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from raftsched.cli.bench.beside import queues
from raftsched.cli.bench.beside.writes import times
from raftsched.cli.bench.calls import CONNECTIONS, bulk_calls, single_calls
from raftsched.cli.bench.cluster import Report, own_cluster, summary
from raftsched.cli.exits import complain
from raftsched.cli.output import hint

PEERS = 3
#: Of each queue; ours are one a peer.
PROCESSES = PEERS
OURS_PROMISE = (
    "three replicas, fdatasync by a majority before the answer; leases and fencing tokens; "
    "results kept"
)
#: What we are called in the report.
OURS = "ours"
OURS_SINGLE = "ours_single"

#: Runs so many tasks, tells how many a second ended.
Contestant = Callable[[int], float]


def measure_tasks(python: str, count: int, rounds: int, base_port: int) -> Report:
    """``count`` tasks of each in every round; ``python`` has the packages of the others."""
    redis = queues.find_redis()
    versions = queues.versions(python)
    there, skipped = present(redis is not None, versions)
    for name, remedy in skipped.items():
        complain(f"{name} is left out, it is not installed: {remedy}")
    with ExitStack() as stack:
        cluster = stack.enter_context(own_cluster(PEERS, base_port))
        contestants: dict[str, Contestant] = {
            OURS: partial(bulk_calls, cluster),
            OURS_SINGLE: partial(single_calls, cluster),
        }
        if redis is not None and there:
            place = stack.enter_context(tempfile.TemporaryDirectory(prefix="raftsched-bench-"))
            running = queues.workers(redis, python, there, PROCESSES, Path(place))
            environment = stack.enter_context(running)
            versions = {"redis-server": queues.redis_version(redis), **versions}
            for queue in there:
                contestants[queue.name] = partial(_theirs, queue, python, environment)
        rates = in_turns(contestants, count, rounds)
    return {"versions": versions, "skipped": skipped, **task_report(rates, count)}


def present(
    has_redis: bool, versions: Mapping[str, str]
) -> tuple[list[queues.Queue], dict[str, str]]:
    """Those that can be measured, and what the others lack: its remedy by name."""
    there = []
    skipped = {}
    for queue in queues.QUEUES:
        if not has_redis:
            skipped[queue.name] = queues.INSTALL_REDIS
        elif queue.name not in versions or "redis" not in versions:
            skipped[queue.name] = queues.INSTALL_PACKAGES
        else:
            there.append(queue)
    return there, skipped


def in_turns(
    contestants: Mapping[str, Contestant], count: int, rounds: int
) -> dict[str, list[float]]:
    """Each of them once a round, after a small round that warms up; tasks a second."""
    for run in contestants.values():
        run(max(1, count // 10))
    rates: dict[str, list[float]] = {name: [] for name in contestants}
    for number in range(rounds):
        for name, run in contestants.items():
            hint(f"{count:,} tasks, {name}, round {number + 1}")
            rates[name].append(run(count))
    return rates


def task_report(rates: Mapping[str, Sequence[float]], count: int) -> Report:
    """Rates, promises, and how many times each of the others we are."""
    unit = "tasks per second, first submission to last end"
    report: Report = {
        "what": f"{count:,} functions that do nothing, {PROCESSES} worker processes each",
        OURS: {"promise": f"{OURS_PROMISE}; one bulk request"},
        OURS_SINGLE: {"promise": f"{OURS_PROMISE}; {CONNECTIONS} connections, a task a request"},
    }
    for queue in queues.QUEUES:
        if queue.name in rates:
            text = f"{queues.STORE_PROMISE}; {queue.promise}; a call each"
            report[queue.name] = {"promise": text}
    for name, each in rates.items():
        report[name].update(summary(each, unit))
    for ours in (OURS, OURS_SINGLE):
        others = [name for name in rates if name not in (OURS, OURS_SINGLE)]
        report[f"{ours}_of"] = {name: times(rates[ours], rates[name]) for name in others}
    return report


def _theirs(queue: queues.Queue, python: str, environment: dict[str, str], count: int) -> float:
    return count / queues.measure(queue, python, count, environment)["seconds"]
