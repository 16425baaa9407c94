"""``raftsched bench fanout``: a map of no-op calls and its join, three peers.

Beside it, in turns, as many tasks of their own by one bulk request: what a subtask costs more than
a task.  The join is counted by what its function appended to a file, not by what the cluster says.
"""

from __future__ import annotations

import json
import statistics
import time
from pathlib import Path

import click

from raftsched.cli.bench.cluster import END_SECONDS_MAX, OwnCluster, drain, own_cluster, wait_until
from raftsched.cli.bench.python import NOTHING
from raftsched.cli.exits import Failure
from raftsched.cli.output import hint
from raftsched.client.sync import Client

#: Of the benchmark's application: takes its item, and notes that it ran.
TAKING = NOTHING.replace("nothing", "take")
NOTING = NOTHING.replace("nothing", "note_run")
POLL_SECONDS = 0.02


@click.command()
@click.option("--items", type=click.IntRange(1, 1_000_000), default=10_000, show_default=True)
@click.option("--rounds", type=click.IntRange(1, 20), default=3, show_default=True)
@click.option("--base-port", type=click.IntRange(1024, 65_400), default=17_400)
def fanout(items: int, rounds: int, base_port: int) -> None:
    """Items of a map a second, with their join; JSON on stdout."""
    maps: list[float] = []
    plain: list[float] = []
    with own_cluster(3, base_port) as cluster, cluster.client(seconds=60) as client:
        _map(cluster, client, 500, "warm")
        for number in range(rounds):
            hint(f"a map of {items:,} items, round {number + 1}")
            maps.append(_map(cluster, client, items, f"map{number}"))
            hint(f"{items:,} tasks of their own, round {number + 1}")
            plain.append(_plain(client, items))
    ratio = statistics.median(a / b for a, b in zip(maps, plain, strict=True))
    report = {
        "map": {"unit": "items per second", "median": round(statistics.median(maps)),
                "runs": [round(run) for run in maps]},
        "plain": {"unit": "tasks per second", "median": round(statistics.median(plain)),
                  "runs": [round(run) for run in plain]},
        "of_plain": round(ratio, 2),
    }  # fmt: skip
    click.echo(json.dumps(report, indent=2))


def _map(cluster: OwnCluster, client: Client, items: int, name: str) -> float:
    """Items a second, from the submission to the end of the join."""
    joins = Path(cluster.directory) / f"{name}.joins"
    begin = time.perf_counter()
    each = {"range": [items], "task": {"python": {"function": TAKING}}}
    client.submit(id=name, map=each)
    client.submit(
        id=f"{name}-join",
        depends_on=[name],
        python={"function": NOTING, "args": [str(joins)]},
    )
    wait_until(
        lambda: client.get(f"{name}-join").is_terminal, END_SECONDS_MAX, "the join", POLL_SECONDS
    )
    seconds = time.perf_counter() - begin
    task = client.get(name)
    if task.state != "succeeded" or task["subtasks"] != items:
        raise Failure(f"{name} is {task.state} with {task['subtasks']} subtasks")
    count = len(joins.read_text().splitlines())
    if count != 1:
        raise Failure(f"the join of {name} ran {count} times")
    return items / seconds


def _plain(client: Client, count: int) -> float:
    """Tasks a second, from the submission to the end of the last one."""
    begin = time.perf_counter()
    result = client.submit_batch({"python": {"function": NOTHING}} for _ in range(count))
    if result.created != count:
        raise Failure(f"{result.created} of {count} tasks were made")
    drain(client, poll_seconds=POLL_SECONDS)
    return count / (time.perf_counter() - begin)
