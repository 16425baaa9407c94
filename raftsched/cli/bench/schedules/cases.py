"""Many schedules at once: spread over the seconds, all in step, and all at one instant.

Rules
1. When the case begins and ends is in the schedules themselves (``start`` and ``end``), so that
   making them is over before, and nothing fires while they are counted.
2. Runs may overlap: an instant that is not to run is none of the answers looked for.
"""

from __future__ import annotations

import datetime as dt
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from raftsched.cli.bench.cluster import OwnCluster, Report, drain, own_cluster
from raftsched.cli.bench.cpu import CpuMeter
from raftsched.cli.bench.figures import bar
from raftsched.cli.bench.schedules.evidence import is_exact
from raftsched.cli.bench.schedules.witness import READS_PER_SECOND, Watched
from raftsched.cli.exits import Failure
from raftsched.cli.output import hint

PEERS = 3
#: Both kinds of schedules begin and end with such a round; and when they all are due once.
ROUND_MS = 10_000
SECOND_MS = 1_000
#: Schedules made a second, at the least that is hoped for, and a few for the first of them.
MADE_PER_SECOND = 200
MADE_SECONDS = 3
#: How long after the last instant is waited for runs that are late.
LATE_SECONDS_MAX = 60.0
#: Slots are read before so many are there: the cluster keeps the last hundred.
SLOTS_READ_AT = 60
#: What is to be reached, in milliseconds; of `INSTANT` until the last of all starts.
BARS_MS = {"dense": 250, "aligned": 1_500, "instant": 3_000}


class Options(NamedTuple):
    """How much of it."""

    minutes: float
    schedules: int
    at_once: int
    kills: int
    base_port: int
    #: For the functions' files.
    directory: Path


def dense(options: Options) -> Report:
    """Five in nine every 5 s, the others every 10 s, their seconds drawn by ``H``."""
    return _steady("dense", options, "H/")


def aligned(options: Options) -> Report:
    """The same, all in step."""
    return _steady("aligned", options, "*/")


def instant(options: Options) -> Report:
    """All of them due once, at the same instant."""
    with watched_cluster("instant", options) as (cluster, watched):
        begin_ms = _begin_after(options.at_once, SECOND_MS)
        documents = {
            f"i{number}": {"at": [_text(begin_ms)], "overlap": "allow"}
            for number in range(options.at_once)
        }
        _make(watched, documents, ROUND_MS, begin_ms)
        report = _measure(cluster, watched, begin_ms, begin_ms + 1)
        last_ms = report["start_lag_ms"]["longest"]
        return {**report, "bar": bar(last_ms, BARS_MS["instant"], at_most=True)}


def _steady(name: str, options: Options, step: str) -> Report:
    with watched_cluster(name, options) as (cluster, watched):
        begin_ms = _begin_after(options.schedules, ROUND_MS)
        rounds = max(1, round(options.minutes * 60_000 / ROUND_MS))
        end_ms = begin_ms + rounds * ROUND_MS
        often = max(1, options.schedules * 5 // 9)
        for kind, seconds, count in (("a", 5, often), ("b", 10, options.schedules - often)):
            documents = {
                f"{kind}{number}": _cron(f"{step}{seconds}", begin_ms, end_ms)
                for number in range(count)
            }
            if documents:
                _make(watched, documents, seconds * 1_000, begin_ms)
        report = _measure(cluster, watched, begin_ms, end_ms)
        p99 = report["start_lag_ms"]["p99"]
        return {**report, "bar": bar(p99, BARS_MS[name], at_most=True)}


@contextmanager
def watched_cluster(name: str, options: Options) -> Iterator[tuple[OwnCluster, Watched]]:
    """Peers of our own that take schedules."""
    with own_cluster(PEERS, options.base_port) as cluster:
        watched = Watched(cluster, options.directory / name)
        watched.in_force()
        yield cluster, watched


def _cron(seconds: str, begin_ms: int, end_ms: int) -> dict[str, Any]:
    bounds = {"start": _text(begin_ms), "end": _text(end_ms)}
    return {"cron": f"{seconds} * * * * *", "overlap": "allow", **bounds}


def _begin_after(count: int, round_ms: int) -> int:
    """A whole round that begins when so many schedules are surely made."""
    made_ms = time.time() * 1_000 + 1_000 * (MADE_SECONDS + count / MADE_PER_SECOND)
    return int(made_ms) // round_ms * round_ms + round_ms


def _text(at_ms: int) -> str:
    return dt.datetime.fromtimestamp(at_ms / 1_000, dt.UTC).isoformat()


def _make(
    watched: Watched, documents: dict[str, dict[str, Any]], step_ms: int, begin_ms: int
) -> None:
    hint(f"{len(documents):,} schedules are made")
    watched.make(documents, step_ms)
    if time.time() * 1_000 > begin_ms - SECOND_MS:
        raise Failure("the schedules were not made in time: the machine is too busy")
    for name in documents:
        if not begin_ms <= watched.first[name] < begin_ms + step_ms:
            raise Failure(f"{name} is not due within the first {step_ms // 1_000} s")


def _measure(cluster: OwnCluster, watched: Watched, begin_ms: int, end_ms: int) -> Report:
    """Until all is over, and then what it came to."""
    expected = sum(
        len(range(first, end_ms, watched.steps[name])) for name, first in watched.first.items()
    )
    time.sleep(max(0.0, begin_ms / 1_000 - time.time()))
    with CpuMeter(cluster) as meter:
        hint(f"{(end_ms - begin_ms) / 60_000:.1f} minutes begin")
        with _reading(watched, begin_ms, end_ms):
            time.sleep(max(0.0, end_ms / 1_000 - time.time()))
        watched.wait(expected, LATE_SECONDS_MAX)
        with cluster.client() as client:
            drain(client)
    hint("counting")
    report = watched.account(end_ms)
    return {
        "schedules": len(watched.steps),
        "seconds": (end_ms - begin_ms) / 1_000,
        **report,
        "is_exact": is_exact(report),
        "cpu_microseconds_per_slot": meter.per_task(report["due"]),
    }


@contextmanager
def _reading(watched: Watched, begin_ms: int, end_ms: int) -> Iterator[None]:
    """Read slots beside, now and then, before the cluster forgets them."""
    over = threading.Event()
    pause_seconds = SLOTS_READ_AT * min(watched.steps.values()) / 1_000

    def read() -> None:
        due_at = begin_ms / 1_000 + pause_seconds
        while due_at < end_ms / 1_000 and not over.wait(max(0.0, due_at - time.time())):
            watched.read(READS_PER_SECOND)
            due_at += pause_seconds

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    try:
        yield
    finally:
        over.set()
        reader.join()
