"""The command: which measures are taken, in which order, of which cluster.

Rules
1. Numbers of one machine drift by a factor of two between minutes, so what is to be compared is
   taken in turns (our way, the bare loop, our way, ...) and given as median and every run.
2. Submitting is measured with all nodes cordoned, so that running tasks does not take part.
3. A cluster named by ``--addr`` is not cordoned and nobody in it is killed.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from typing import Any

import click

from raftsched.cli.bench import constrained, core
from raftsched.cli.bench.beside.command import beside
from raftsched.cli.bench.calls import offered, singles
from raftsched.cli.bench.cluster import (
    BASE_PORT,
    OwnCluster,
    Report,
    drain,
    own_cluster,
    summary,
    this_machine,
)
from raftsched.cli.bench.fanout import fanout
from raftsched.cli.bench.killed import killed
from raftsched.cli.bench.load import Load, bare_loops, bulk_submit, single_submits
from raftsched.cli.bench.pipeline import pipeline
from raftsched.cli.bench.python import NOTHING, python
from raftsched.cli.bench.queued import StallProbe, resident_bytes
from raftsched.cli.bench.raft.command import raft
from raftsched.cli.bench.schedules.command import schedules
from raftsched.cli.output import hint
from raftsched.client.discovery import find_target
from raftsched.client.sync import Client

CONNECTIONS = 64
LATENCY_SAMPLES = 200
FAILOVERS = 3
#: Tasks of one bulk submission while the queue is filled.
QUEUED_STEP = 100_000
BODY = b'{"command":["/bin/true"]}'


@click.group(invoke_without_command=True)
@click.option("--addr", default="", metavar="HOST:PORT,...", help="Measure this cluster instead.")
@click.option("--token-file", default="", metavar="FILE", help="Its token.")
@click.option("--seconds", type=click.FloatRange(0.2, 600), default=5.0, show_default=True)
@click.option("--rounds", type=click.IntRange(1, 20), default=3, show_default=True)
@click.option("--bulk", type=click.IntRange(1), default=20_000, show_default=True, help="Tasks.")
@click.option(
    "--queued",
    type=click.IntRange(0),
    default=1_000_000,
    show_default=True,
    help="Tasks in the queue while memory and stalls are measured; 0 leaves that out.",
)
@click.option("--true", "count", type=click.IntRange(2), default=2_000, show_default=True)
@click.option("--peers", type=click.IntRange(1, 9), default=3, show_default=True)
@click.option("--base-port", type=click.IntRange(1024, 65_400), default=BASE_PORT)
@click.pass_context
def bench(context: click.Context, /, **options: Any) -> None:
    """Measure submits, latency, /bin/true end to end and failover; JSON on stdout.

    Starts a temporary cluster of its own unless --addr is given.  The subcommands measure
    consensus, or a runner of Python functions, alone, and take options of their own.
    """
    if context.invoked_subcommand is not None:
        return
    report: Report = {"machine": this_machine(), "options": {k: v for k, v in options.items() if v}}
    if options["addr"]:
        target = find_target(options["addr"], None, options["token_file"] or None)
        with Client(options["addr"], token=target.token) as client:
            addresses = list(target.addresses)
            _submits(report, client, addresses, addresses[:1], target.token, options)
            drain(client)
            _executions(report, client, options)
    else:
        _own_clusters(report, options)
    click.echo(json.dumps(report, indent=2))


bench.add_command(raft)
bench.add_command(python)
bench.add_command(pipeline)
bench.add_command(beside)
bench.add_command(killed)
bench.add_command(offered)
bench.add_command(singles)
bench.add_command(schedules)
bench.add_command(fanout)


@bench.command("core")
@click.option("--queued", type=click.IntRange(1_000), default=1_000_000, show_default=True)
@click.option("--sets", type=click.IntRange(1, 10_000), default=1_000, show_default=True)
def core_only(queued: int, sets: int) -> None:
    """Measure the state alone: planning, applying, and planning among sets of constraints."""
    report = {"core": core.measure(queued), "constrained": constrained.measure(queued, sets)}
    click.echo(json.dumps({"machine": this_machine(), **report}, indent=2))


def _own_clusters(report: Report, options: dict[str, Any]) -> None:
    start = partial(own_cluster, options["peers"], options["base_port"])
    if options["queued"]:
        hint(f"the state alone with {options['queued']:,} tasks")
        report["core"] = core.measure(options["queued"])
        report["constrained"] = constrained.measure(options["queued"])
    with start() as cluster, cluster.client(seconds=30) as client:
        report["start_to_ready"] = {
            "median": round(cluster.ready_seconds, 2),
            "unit": "seconds, all peers",
        }
        report["ls"] = _ls(cluster, options["rounds"])
        for node_id in cluster.peers:
            client.cordon(node_id)
        leader = cluster.leading()
        followers = [p.api for p in cluster.peers.values() if p.id != leader]
        leading = [cluster.peers[leader].api]
        _submits(report, client, leading, followers, cluster.token, options)
    with start() as cluster, cluster.client(seconds=30) as client:
        _executions(report, client, options)
        _calls(report, cluster, client, options)
        if options["peers"] > 2:
            report["leader_kill_to_assignment"] = _failovers(cluster)
    if options["queued"]:
        with start() as cluster, cluster.client(seconds=30) as client:
            report["queued"] = _queued(cluster, client, options)


def _submits(
    report: Report,
    client: Client,
    leading: list[str],
    followers: list[str],
    token: str,
    options: dict[str, Any],
) -> None:
    runs: dict[str, list[Load]] = {"leader": [], "follower": []}
    for number in range(options["rounds"]):
        for name, addresses in (("leader", leading), ("follower", followers)):
            if not addresses:
                continue
            hint(f"single submits at the {name}, round {number + 1}")
            load = single_submits(
                addresses, token, BODY, connections=CONNECTIONS, seconds=options["seconds"]
            )
            runs[name].append(asyncio.run(load))
    for name, loads in runs.items():
        if loads:
            report[f"single_submit_{name}"] = {
                **summary([load.per_second for load in loads], "per second"),
                "p50_ms": round(statistics.median(load.p50_ms for load in loads), 2),
                "p99_ms": round(statistics.median(load.p99_ms for load in loads), 2),
                "errors": sum(load.errors for load in loads),
                "connections": CONNECTIONS,
            }
    _bulk(report, client, leading[0], token, options)


def _bulk(
    report: Report, client: Client, address: str, token: str, options: dict[str, Any]
) -> None:
    plain, library = [], []
    for number in range(options["rounds"]):
        hint(f"bulk submit of {options['bulk']:,} tasks, round {number + 1}")
        plain.append(asyncio.run(bulk_submit(address, token, BODY, options["bulk"])))
        begin = time.perf_counter()
        result = client.submit_batch(_true(options["bulk"]))
        library.append(result.created / (time.perf_counter() - begin))
    report["bulk_submit"] = summary(plain, "tasks per second, bytes made before")
    report["bulk_submit_client"] = summary(library, "tasks per second by the Python client")


def _queued(cluster: OwnCluster, client: Client, options: dict[str, Any]) -> Report:
    """Memory and stalls with many tasks waiting."""
    for node_id in cluster.peers:
        client.cordon(node_id)
    leader = cluster.peers[cluster.leading()]
    pids = [p.process.pid for p in cluster.peers.values() if p.process is not None]
    before = [resident_bytes(pid) for pid in pids]
    left, rates = options["queued"], []
    with StallProbe(leader.api) as filling:
        while left:
            hint(f"filling the queue, {left:,} tasks to go")
            count = min(left, QUEUED_STEP)
            rates.append(asyncio.run(bulk_submit(leader.api, cluster.token, BODY, count)))
            left -= count
    client.cluster()
    grown = [resident_bytes(pid) - was for pid, was in zip(pids, before, strict=True)]
    hint(f"working with {options['queued']:,} tasks in the queue")
    with StallProbe(leader.api) as working:
        for node_id in cluster.peers:
            client.uncordon(node_id)
        time.sleep(options["seconds"])
    return {
        "queued": options["queued"],
        "bytes_per_task_per_peer": [round(each / options["queued"]) for each in grown],
        "submitted_per_second": round(statistics.median(rates), 1),
        "leader_stall_while_filling": filling.summary(),
        "leader_stall_while_working": working.summary(),
    }


def _ls(cluster: OwnCluster, rounds: int) -> Report:
    """The wall time of the whole command, interpreter included."""
    command = [sys.executable, "-m", "raftsched.cli.main", "ls", "--addr", cluster.addresses[0]]
    command += ["--token-file", str(cluster.token_path)]
    times = []
    for _ in range(rounds):
        begin = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        times.append(time.perf_counter() - begin)
    return summary(times, "seconds", digits=3)


def _true(count: int) -> Iterator[dict[str, Any]]:
    return ({"command": ["/bin/true"]} for _ in range(count))


def _executions(report: Report, client: Client, options: dict[str, Any]) -> None:
    report["submit_to_start"] = _latency(client)
    ours: list[float] = []
    bare: list[float] = []
    for number in range(options["rounds"]):
        hint(f"/bin/true × {options['count']:,}, round {number + 1}")
        bare.append(bare_loops(options["count"]))
        begin = time.perf_counter()
        client.submit_batch(_true(options["count"]))
        drain(client)
        ours.append(options["count"] / (time.perf_counter() - begin))
    report["true_end_to_end"] = summary(ours, "tasks per second")
    report["true_bare_posix_spawn"] = summary(bare, "processes per second, two loops")
    ratios = [a / b for a, b in zip(ours, bare, strict=True)]
    report["true_ratio"] = summary(ratios, "of the bare loops", digits=3)


def _calls(report: Report, cluster: OwnCluster, client: Client, options: dict[str, Any]) -> None:
    """No-op functions from the bulk submission to the last one's end, on every peer's worker."""
    address = cluster.leading_api()
    body = json.dumps({"python": {"function": NOTHING}}).encode()
    rates = []
    for number in range(options["rounds"] + 1):
        hint(f"no-op functions × {options['bulk']:,}, round {number}")
        begin = time.perf_counter()
        asyncio.run(bulk_submit(address, cluster.token, body, options["bulk"]))
        drain(client)
        rates.append(options["bulk"] / (time.perf_counter() - begin))
    # The first one warms up.
    report["python_end_to_end"] = summary(rates[1:], "no-op functions per second")


def _latency(client: Client) -> Report:
    """From before the POST to the task's own first look at the clock (so with its exec)."""
    hint(f"submit to start, {LATENCY_SAMPLES} idle samples")
    samples = []
    for _ in range(LATENCY_SAMPLES):
        begin = time.time_ns()
        task = client.submit(["/bin/date", "+%s%N"]).wait(30)
        text = b"".join(task.output()).decode("ascii", "replace").strip()
        if text.isdigit():
            samples.append((int(text) - begin) / 1e6)
    if not samples:
        return {"error": "no task printed its time"}
    samples.sort()
    return {
        "unit": "ms, idle cluster, exec of /bin/date included",
        "p50": round(samples[len(samples) // 2], 2),
        "p99": round(samples[min(len(samples) - 1, len(samples) * 99 // 100)], 2),
        "samples": len(samples),
    }


def _failovers(cluster: OwnCluster) -> Report:
    times = []
    for number in range(FAILOVERS):
        leader = cluster.leader()
        if leader is None:
            continue
        hint(f"leader {leader} is killed, round {number + 1}")
        rest = [peer.api for peer in cluster.peers.values() if peer.id != leader]
        with Client(rest, token=cluster.token) as client:
            begin = time.perf_counter()
            cluster.kill(leader)
            task = client.submit(["/bin/true"])
            while not task.get("attempt"):
                task = client.watch_task(task, 5.0)
            times.append(time.perf_counter() - begin)
        cluster.start(leader)
        cluster.wait_ready()
        time.sleep(1.0)
    return summary(times, "seconds from SIGKILL to the first new assignment", digits=3)
