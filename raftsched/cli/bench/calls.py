"""Calls of Python functions through three peers: ``raftsched bench singles`` and ``offered``.

Rules
1. `singles` asks what goes through: every connection submits as soon as it has its answer.
2. `offered` asks how long a task waits under a load that does not wait for us: each submission is
   due at its time, and a start counts from that, late submissions included.
"""

from __future__ import annotations

import asyncio
import json
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

import click

from raftsched.cli.bench.cluster import (
    BASE_PORT,
    OwnCluster,
    Report,
    drain,
    own_cluster,
    summary,
    this_machine,
)
from raftsched.cli.bench.cpu import CpuMeter
from raftsched.cli.bench.figures import bar, spread
from raftsched.cli.bench.load import (
    Load,
    Request,
    bulk_submit,
    post_for,
    single_submits,
    submission,
)
from raftsched.cli.bench.noop import START
from raftsched.cli.bench.python import NOTHING, NOTING
from raftsched.cli.exits import Failure
from raftsched.cli.output import hint

PEERS = 3
CONNECTIONS = 64
SUBMIT_SECONDS_MAX = 120.0
#: How close together it is asked whether all have ended.
POLL_SECONDS = 0.01
WARM_SECONDS = 2.0
#: What is to be reached: tasks a second, and milliseconds.
SINGLES_BAR = 2_500
START_BAR_MS = 50
CALL = json.dumps({"python": {"function": NOTHING}}).encode()

base_port_option = click.option("--base-port", type=click.IntRange(1024, 65_400), default=BASE_PORT)


@click.command()
@click.option("--count", type=click.IntRange(1), default=10_000, show_default=True, help="Tasks.")
@click.option("--rounds", type=click.IntRange(1, 20), default=3, show_default=True)
@base_port_option
def singles(count: int, rounds: int, base_port: int) -> None:
    """No-op functions end to end, one a request over 64 connections; JSON on stdout."""
    rates = []
    with own_cluster(PEERS, base_port) as cluster:
        single_calls(cluster, max(1, count // 5))
        with CpuMeter(cluster) as meter:
            for number in range(rounds):
                hint(f"{count:,} calls, a request each, round {number + 1}")
                rates.append(single_calls(cluster, count))
    found = summary(rates, "tasks per second, first submission to last end")
    report = {
        "connections": CONNECTIONS,
        **found,
        "cpu_microseconds_per_task": meter.per_task(count * rounds),
        "bar": bar(found["median"], SINGLES_BAR),
    }
    click.echo(json.dumps({"machine": this_machine(), "singles": report}, indent=2))


@click.command()
@click.option("--rate", type=click.IntRange(1, 100_000), default=2_000, show_default=True)
@click.option("--seconds", type=click.FloatRange(0.2, 600), default=30.0, show_default=True)
@click.option(
    "--together", type=click.IntRange(1, 1_000), default=1, show_default=True, help="In a request."
)
@base_port_option
def offered(rate: int, seconds: float, together: int, base_port: int) -> None:
    """Submit to start under a load of so many tasks a second; JSON on stdout."""
    load = Offer(rate, together)
    with (
        tempfile.TemporaryDirectory(prefix="raftsched-bench-") as directory,
        own_cluster(PEERS, base_port) as cluster,
    ):
        hint(f"{rate:,} a second, to get warm")
        _offer(cluster, Path(directory, "warm"), load, min(seconds, WARM_SECONDS))
        hint(f"{rate:,} a second for {seconds:g} s")
        report = _offer(cluster, Path(directory, "starts"), load, seconds)
    click.echo(json.dumps({"machine": this_machine(), "offered": report}, indent=2))


class Offer(NamedTuple):
    """A load that does not wait for answers."""

    #: Tasks a second.
    rate: int
    #: Tasks of one request, all due at once.
    together: int = 1

    def requests(self, seconds: float) -> int:
        """How many there are in that time."""
        return max(1, round(self.rate * seconds / self.together))

    def after_ns(self, number: int) -> int:
        """When the request with this number (from 0) is due, nanoseconds after the first."""
        return number * self.together * 1_000_000_000 // self.rate


def bulk_calls(cluster: OwnCluster, count: int) -> float:
    """No-op calls a second, from one bulk request to the last end."""
    address = cluster.leading_api()
    return _end_to_end(cluster, lambda: asyncio.run(_bulk(address, cluster.token, count)))


async def _bulk(address: str, token: str, count: int) -> int:
    await bulk_submit(address, token, CALL, count)
    return count


def single_calls(cluster: OwnCluster, count: int) -> float:
    """The same with a task a request, at all peers."""

    def submit() -> int:
        load = single_submits(
            list(cluster.addresses),
            cluster.token,
            CALL,
            connections=CONNECTIONS,
            seconds=SUBMIT_SECONDS_MAX,
            count=count,
        )
        return asyncio.run(load).answered

    return _end_to_end(cluster, submit)


def _end_to_end(cluster: OwnCluster, submit: Callable[[], int]) -> float:
    with cluster.client() as client:
        begin = time.perf_counter()
        count = submit()
        drain(client, poll_seconds=POLL_SECONDS)
        return count / (time.perf_counter() - begin)


def _offer(cluster: OwnCluster, path: Path, offer: Offer, seconds: float) -> Report:
    count = offer.requests(seconds)
    addresses = [cluster.addresses[n % PEERS] for n in range(CONNECTIONS)]
    # Both clocks at one instant: the generator's, and the one that the functions read.
    begin, begin_ns = time.perf_counter(), time.time_ns()
    # Bytes are made by replacing: what the generator uses, the cluster lacks.
    mark = b"1" * len(str(begin_ns))
    args = [str(path), int(mark)]
    body = json.dumps({"python": {"function": NOTING, "args": args}}).encode()
    token = cluster.token

    def due(number: int) -> float:
        return begin + offer.after_ns(number) / 1e9

    def requests(address: str) -> Request:
        plain = submission(address, token, body, offer.together)

        def request(number: int) -> bytes:
            return plain(number).replace(mark, b"%d" % (begin_ns + offer.after_ns(number)))

        return request

    posts = [(address, requests(address)) for address in addresses]
    with CpuMeter(cluster) as meter:
        load = asyncio.run(post_for(posts, seconds + SUBMIT_SECONDS_MAX, count, due))
        with cluster.client() as client:
            drain(client)
    report = offered_report(load, offer, waits(path.read_bytes()))
    used = meter.per_task(count * offer.together)
    return {**report, "cpu_microseconds_per_task": used}


def waits(data: bytes) -> list[float]:
    """Milliseconds from when it was due until it started, for each `START` in a file."""
    if len(data) % START.size:
        raise Failure("a start was written in part; is the disk full?")
    return [(started - due) / 1e6 for due, started in START.iter_unpack(data)]


def offered_report(load: Load, offer: Offer, starts: Iterable[float]) -> Report:
    """What was offered, what was answered, and how long the starts took."""
    found = spread(list(starts))
    return {
        "offered_per_second": offer.rate,
        "tasks_a_request": offer.together,
        "answered_per_second": round(load.per_second * offer.together, 1),
        "errors": load.errors,
        "answer_ms": {"p50": round(load.p50_ms, 2), "p99": round(load.p99_ms, 2)},
        "start_ms": found,
        "never_started": load.answered * offer.together - found["samples"],
        "bar": bar(found["p99"], START_BAR_MS, at_most=True),
    }
