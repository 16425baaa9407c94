"""``raftsched bench killed``: the leader dies with attempts running, half of them on other nodes.

Rules
1. What happened is read from files that the attempts themselves append to, by a clock that all
   processes of a machine share (monotonic): what the cluster says of itself is no witness.
2. Only the leader's peer is killed.  Its runner, which lives on, has to end the attempts at the end
   of their lease, before others take their place.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import click

from raftsched.cli.bench.cluster import (
    BASE_PORT,
    OwnCluster,
    Report,
    own_cluster,
    this_machine,
    wait_until,
)
from raftsched.cli.bench.figures import bar, spread
from raftsched.cli.output import hint
from raftsched.client.sync import Client

PEERS = 3
START_SECONDS_MAX = 60.0
#: After the bar: how long is waited for what misses it.
LATE_SECONDS_MAX = 30.0
END_SECONDS_MAX = 60.0
#: A re-run is to begin within the lease and so much.
BEYOND_LEASE_SECONDS = 3.0
#: How often an attempt writes.
BEAT_SECONDS = 0.2
#: How long they run before the leader is killed.
STEADY_SECONDS = 1.0

#: An attempt: appends its number and the time to a file of its task, until another file is there.
BEAT = f"""
import os, sys, time
path, stop = sys.argv[1:]
number = os.environ["RAFTSCHED_ATTEMPT"]
with open(path, "a", 1) as log:
    while True:
        log.write(number + " " + str(time.monotonic()) + "\\n")
        if os.path.exists(stop):
            break
        time.sleep({BEAT_SECONDS})
"""

#: When each attempt of a task wrote, by its number.
Beats = dict[int, list[float]]


@click.command()
@click.option("--attempts", type=click.IntRange(4, 2_000), default=200, show_default=True)
@click.option("--lease-seconds", type=click.FloatRange(2, 60), default=5.0, show_default=True)
@click.option("--base-port", type=click.IntRange(1024, 65_400), default=BASE_PORT)
def killed(attempts: int, lease_seconds: float, base_port: int) -> None:
    """Kill the leader under running attempts: who is disturbed, what runs again when; JSON."""
    with (
        tempfile.TemporaryDirectory(prefix="raftsched-bench-") as directory,
        own_cluster(PEERS, base_port, lease_seconds=lease_seconds, slots=attempts) as cluster,
    ):
        report = _measure(cluster, Path(directory), attempts, lease_seconds)
    click.echo(json.dumps({"machine": this_machine(), "killed": report}, indent=2))


def _measure(cluster: OwnCluster, directory: Path, count: int, lease_seconds: float) -> Report:
    leader = cluster.leading()
    rest = [peer.api for peer in cluster.peers.values() if peer.id != leader]
    logs = [directory / f"{number}.log" for number in range(count)]
    stop = directory / "stop"
    with Client(rest, token=cluster.token) as client:
        hint(f"{count} attempts start")
        client.submit_batch(_tasks(cluster, leader, logs, stop))
        wait_until(lambda: all(map(_has_begun, logs)), START_SECONDS_MAX, "attempts start")
        time.sleep(STEADY_SECONDS)
        nodes = {task["name"]: task["node"] for task in client.list(page=1_000)}
        hint(f"{leader} is killed")
        killed_at = time.monotonic()
        cluster.kill(leader)
        hit = [log for log in logs if nodes[log.name] == leader]
        patience = lease_seconds + BEYOND_LEASE_SECONDS + LATE_SECONDS_MAX
        wait_until(lambda: _is_lost(client, leader), patience, f"node {leader} is lost")
        lost_at = time.monotonic()
        wait_until(lambda: all(2 in beats(log) for log in hit), patience, "they run again")
        stop.touch()
        ended = _ends(client, count)
    found = {log.name: beats(log) for log in logs}
    dead = {log.name: found.pop(log.name) for log in hit}
    report = killed_report(dead, found, ended, killed_at, lease_seconds)
    return {**report, "node_lost_after_seconds": round(lost_at - killed_at, 2)}


def _tasks(
    cluster: OwnCluster, leader: str, logs: Sequence[Path], stop: Path
) -> Iterator[dict[str, Any]]:
    """Half of them rather at the leader's node, the others at those of its followers in turns."""
    others = [peer for peer in cluster.peers if peer != leader]
    for number, log in enumerate(logs):
        node = leader if number % 2 else others[number // 2 % len(others)]
        yield {
            "name": log.name,
            "command": [sys.executable, "-I", "-S", "-c", BEAT, str(log), str(stop)],
            "affinity": [{"match": f"node.id = {node}", "weight": 100}],
        }


def _has_begun(log: Path) -> bool:
    return log.exists() and log.stat().st_size > 0


def _is_lost(client: Client, node_id: str) -> bool:
    return any(node["id"] == node_id and node["status"] == "lost" for node in client.nodes())


def _ends(client: Client, count: int) -> list[str]:
    """How the tasks ended, once all have; those that did not in time have their state."""
    deadline = time.monotonic() + END_SECONDS_MAX
    tasks = list(client.list(page=1_000))
    while time.monotonic() < deadline and not all(task.is_terminal for task in tasks):
        time.sleep(BEAT_SECONDS)
        tasks = list(client.list(page=1_000))
    return [task.state for task in tasks] + ["missing"] * (count - len(tasks))


def beats(log: Path) -> Beats:
    """When each attempt wrote; a line that was cut short by the attempt's end is left out."""
    found: Beats = {}
    for line in log.read_text(encoding="ascii").splitlines(keepends=True):
        number, _, at = line.partition(" ")
        if at.endswith("\n"):
            found.setdefault(int(number), []).append(float(at))
    return found


def overlaps(found: Beats) -> int:
    """How many attempts wrote when, or after, a later one had begun."""
    order = [found[number] for number in sorted(found)]
    return sum([max(one) >= min(following) for one, following in pairwise(order)])


def longest_gap(found: Beats) -> float:
    """Longest pause between two lines of the first attempt, seconds."""
    return max([later - one for one, later in pairwise(found.get(1, []))], default=0.0)


def killed_report(
    dead: Mapping[str, Beats],
    others: Mapping[str, Beats],
    ended: Sequence[str],
    killed_at: float,
    lease_seconds: float,
) -> Report:
    """What became of the dead node's attempts, and of all the others.

    ``killed_at``: by the clock of the beats.  ``ended``: state of every task in the end.
    """
    again = spread([found[2][0] - killed_at for found in dead.values() if 2 in found])
    every = [*dead.values(), *others.values()]
    return {
        "attempts": len(every),
        "on_the_dead_node": len(dead),
        "lease_seconds": lease_seconds,
        "run_again_seconds": again,
        "bar": bar(again["longest"], lease_seconds + BEYOND_LEASE_SECONDS, at_most=True),
        "overlaps": sum(map(overlaps, every)),
        "lost": sum([state != "succeeded" for state in ended]),
        "others_started_again": sum([set(found) != {1} for found in others.values()]),
        "others_longest_pause_seconds": round(max(map(longest_gap, others.values()), default=0), 2),
    }
