"""Pipelines of both clients while the leader is killed: every submission once, none lost."""

from __future__ import annotations

import asyncio
import collections
from pathlib import Path

import pytest

from raftsched.client import AsyncClient, Client
from raftsched.client.aio_pipeline import AsyncSubmission
from raftsched.client.pipeline import Submission
from tests.e2e.cluster import TOKEN, Cluster

pytestmark = pytest.mark.timeout(120)

COUNT = 3_000
#: The leader is killed after so many.
KILL_AT = 1_000


def addresses(cluster: Cluster) -> list[str]:
    """Of all peers, the leader first."""
    leader = cluster.leader()
    peers = [leader, *(peer for peer in cluster.ids if peer != leader)]
    return [f"127.0.0.1:{cluster.api[peer]}" for peer in peers]


def names(client: Client, prefix: str) -> collections.Counter[str]:
    """How many tasks there are of each name."""
    found = (task["name"] for task in client.list(page=1_000, q=prefix))
    return collections.Counter(found)


def test_what_is_pipelined_while_the_leader_dies_is_made_once(tmp_path: Path) -> None:
    with Cluster(tmp_path) as cluster, Client(addresses(cluster), token=TOKEN) as client:
        for peer in cluster.ids:
            client.cordon(peer)
        with client.pipeline() as pipe:
            submissions: list[Submission] = []
            for number in range(COUNT):
                if number == KILL_AT:
                    submissions[0].result()
                    dead = cluster.leader()
                    cluster.kill(dead)
                submissions.append(pipe.submit(["true"], name=f"threads-{number}"))
        made = {submission.result().id for submission in submissions}
        assert len(made) == COUNT
        cluster.start(dead)
        cluster.ready(dead)

        async def pipelined() -> set[str]:
            async with AsyncClient(addresses(cluster), token=TOKEN) as other:
                async with other.pipeline() as pipe:
                    waiting: list[AsyncSubmission] = []
                    for number in range(COUNT):
                        if number == KILL_AT:
                            await waiting[0]
                            await asyncio.to_thread(cluster.kill, cluster.leader())
                        waiting.append(await pipe.submit(["true"], name=f"awaited-{number}"))
                return {(await submission).id for submission in waiting}

        assert len(asyncio.run(pipelined())) == COUNT
        for prefix in ("threads", "awaited"):
            expected = {f"{prefix}-{number}": 1 for number in range(COUNT)}
            assert dict(names(client, f"{prefix}-")) == expected
