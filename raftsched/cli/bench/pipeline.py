"""``raftsched bench pipeline``: single submissions through the client library, three peers.

Nothing runs: all nodes are cordoned.  Taken in turns: one submission a request over many
connections (bytes made before), the blocking client alone, the pipelines of both clients, and one
request for all that the library makes of a list.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import click

from raftsched.cli.bench.load import single_submits
from raftsched.cli.exits import Failure
from raftsched.cli.local import LocalCluster
from raftsched.cli.output import hint
from raftsched.client import AsyncClient, Client

COMMAND = ["/bin/true"]
BODY = b'{"command":["/bin/true"]}'
CONNECTIONS = 64
#: Submissions of the client that waits for each answer: it is slow, and a second says enough.
ALONE_MAX = 1_000
READY_SECONDS = 30.0

Measure = Callable[[Client, str, int], float]


@click.command()
@click.option("--count", type=click.IntRange(1_000), default=30_000, show_default=True)
@click.option("--rounds", type=click.IntRange(1, 20), default=3, show_default=True)
@click.option("--seconds", type=click.FloatRange(0.2, 60), default=3.0, show_default=True)
@click.option("--base-port", type=click.IntRange(1024, 65_400), default=17_400)
def pipeline(count: int, rounds: int, seconds: float, base_port: int) -> None:
    """Single submissions a second through the clients' pipelines; JSON on stdout."""
    runs: dict[str, list[float]] = {"single": []}
    measures: dict[str, Measure] = {
        "client": _alone, "pipeline": _pipelined, "async_pipeline": _awaited, "batch": _batch,
    }  # fmt: skip
    with tempfile.TemporaryDirectory(prefix="raftsched-bench-") as directory:
        cluster = LocalCluster(Path(directory) / "cluster", peers=3, base_port=base_port)
        cluster.prepare()
        try:
            cluster.start_all()
            cluster.wait_ready()
            token = cluster.token_path.read_text(encoding="ascii").strip()
            address = _leading(cluster)
            with Client(address, token=token) as client:
                for number in range(rounds):
                    hint(f"single submits over {CONNECTIONS} connections, round {number + 1}")
                    load = single_submits(
                        [address], token, BODY, connections=CONNECTIONS, seconds=seconds
                    )
                    runs["single"].append(asyncio.run(load).per_second)
                    for name, measure in measures.items():
                        hint(f"{name}, round {number + 1}")
                        runs.setdefault(name, []).append(measure(client, token, count))
        finally:
            cluster.stop()
    click.echo(json.dumps(_report(runs), indent=2))


def _report(runs: dict[str, list[float]]) -> dict[str, object]:
    single = statistics.median(runs["single"])
    return {
        name: {
            "median": round(statistics.median(values)),
            "unit": "submissions per second",
            "runs": [round(value) for value in values],
            "of_single": round(statistics.median(values) / single, 2),
        }
        for name, values in runs.items()
    }


def _leading(cluster: LocalCluster) -> str:
    """The leader's address, once all nodes are there and cordoned."""
    leader = cluster.leader()
    if leader is None:
        raise Failure("the temporary cluster has no leader; try again")
    with cluster.client(seconds=READY_SECONDS) as client:
        until = time.monotonic() + READY_SECONDS
        while len(client.nodes()) < len(cluster.peers):
            if time.monotonic() > until:
                raise Failure(f"waited {READY_SECONDS:g} s in vain for the nodes to register")
            time.sleep(0.05)
        for node_id in cluster.peers:
            client.cordon(node_id)
    return cluster.peers[leader].api


def _alone(client: Client, _token: str, count: int) -> float:
    count = min(count, ALONE_MAX)
    begin = time.perf_counter()
    for _ in range(count):
        client.submit(COMMAND)
    return count / (time.perf_counter() - begin)


def _pipelined(client: Client, _token: str, count: int) -> float:
    begin = time.perf_counter()
    with client.pipeline() as pipe:
        submissions = [pipe.submit(COMMAND) for _ in range(count)]
    assert len({submission.result().id for submission in submissions}) == count
    return count / (time.perf_counter() - begin)


def _awaited(client: Client, token: str, count: int) -> float:
    async def submit() -> float:
        async with AsyncClient(client.endpoints, token=token) as other:
            begin = time.perf_counter()
            async with other.pipeline() as pipe:
                submissions = [await pipe.submit(COMMAND) for _ in range(count)]
            tasks = [await submission for submission in submissions]
            assert len({task.id for task in tasks}) == count
            return count / (time.perf_counter() - begin)

    return asyncio.run(submit())


def _batch(client: Client, _token: str, count: int) -> float:
    begin = time.perf_counter()
    result = client.submit_batch({"command": COMMAND} for _ in range(count))
    assert result.created == count
    return count / (time.perf_counter() - begin)
