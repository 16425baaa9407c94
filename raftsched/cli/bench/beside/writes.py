"""Durable writes: single submits at our leader, and as many bytes at that of etcd, in turns."""

from __future__ import annotations

import asyncio
import json
import statistics
import tempfile
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from raftsched.cli.bench.beside import etcd
from raftsched.cli.bench.cluster import OwnCluster, Report, own_cluster, summary
from raftsched.cli.bench.load import Load, single_submits
from raftsched.cli.exits import complain
from raftsched.cli.output import hint

PEERS = 3
CONNECTIONS = (16, 64)
WARM_SECONDS = 1.0
PROMISES = {
    "ours": "three replicas, fdatasync by a majority before the answer; a task, taken once per key",
    "etcd": "three replicas, fdatasync by a majority before the answer; a key's value",
}


def task_of(size: int) -> bytes:
    """A submission of so many bytes."""
    empty = json.dumps({"command": ["/bin/true", ""]})
    return json.dumps({"command": ["/bin/true", "x" * (size - len(empty))]}).encode()


def measure_writes(seconds: float, rounds: int, base_port: int) -> Report:
    """Both for ``seconds``, in so many rounds, at each number of connections."""
    program = etcd.find()
    if program is None:
        complain(f"etcd is left out, it is not installed: {etcd.INSTALL}")
        return {"skipped": {"etcd": etcd.INSTALL}}
    loads: dict[str, list[Load]] = {}
    with (
        tempfile.TemporaryDirectory(prefix="raftsched-bench-") as directory,
        etcd.cluster(program, Path(directory)) as theirs,
        own_cluster(PEERS, base_port) as cluster,
    ):
        with cluster.client() as client:
            for node_id in cluster.peers:
                client.cordon(node_id)
        for warm in (partial(_submits, cluster), partial(etcd.writes, theirs)):
            warm(CONNECTIONS[0], min(seconds, WARM_SECONDS))
        for number in range(rounds):
            for connections in CONNECTIONS:
                hint(f"durable writes over {connections} connections, round {number + 1}")
                ours = _submits(cluster, connections, seconds)
                loads.setdefault(f"ours_{connections}", []).append(ours)
                found = etcd.writes(theirs, connections, seconds)
                loads.setdefault(f"etcd_{connections}", []).append(found)
    return {"versions": {"etcd": etcd.version(program)}, **write_report(loads)}


def _submits(cluster: OwnCluster, connections: int, seconds: float) -> Load:
    body = task_of(etcd.VALUE_BYTES)
    leader = [cluster.leading_api()]
    return asyncio.run(
        single_submits(leader, cluster.token, body, connections=connections, seconds=seconds)
    )


def write_report(loads: Mapping[str, Sequence[Load]]) -> Report:
    """Rates, latencies and ratios of ``ours_N`` and ``etcd_N``, N being `CONNECTIONS`."""
    report: Report = {
        "what": f"{etcd.VALUE_BYTES} bytes a request, at the leader, each connection one at a time",
        "promises": PROMISES,
    }
    for name, each in loads.items():
        report[name] = {
            **summary([load.per_second for load in each], "per second"),
            "p50_ms": round(statistics.median(load.p50_ms for load in each), 2),
            "p99_ms": round(statistics.median(load.p99_ms for load in each), 2),
            "errors": sum(load.errors for load in each),
        }
    report["ours_of_etcd"] = {
        f"{connections} connections": times(
            [load.per_second for load in loads[f"ours_{connections}"]],
            [load.per_second for load in loads[f"etcd_{connections}"]],
        )
        for connections in CONNECTIONS
    }
    return report


def times(ours: Sequence[float], theirs: Sequence[float]) -> Report:
    """Round by round: how many times theirs is ours."""
    pairs = zip(ours, theirs, strict=True)
    return summary([one / other if other else 0.0 for one, other in pairs], "times theirs", 2)
