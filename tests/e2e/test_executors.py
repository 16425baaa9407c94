"""What runs an attempt, from the task document to the stored task."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from raftsched import Peer, load_config
from tests.e2e.cluster import Cluster
from tests.unit.executor.test_http import echo, receiver

pytestmark = pytest.mark.timeout(60)


class One:
    """A single peer in this process, and its API."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    async def end_of(self, document: dict[str, Any]) -> Any:
        """The stored task once it is terminal."""
        answer = await asyncio.to_thread(self._cluster.request, "n1", "POST", "/v1/tasks", document)
        assert answer.status == 201, answer
        return await asyncio.to_thread(self._cluster.finished, "n1", answer.json["id"])


@contextlib.asynccontextmanager
async def _one(directory: Path) -> AsyncIterator[One]:
    cluster = Cluster(directory, size=1)
    async with Peer(load_config(cluster.config, "n1", cluster.directory / "n1")) as peer:
        async with asyncio.timeout(10):
            while peer.status().leader is None or not peer.status().is_current:
                await asyncio.sleep(0.02)
        yield One(cluster)


async def test_hooks_run_around_a_request_whose_response_is_the_result(tmp_path: Path) -> None:
    async with _one(tmp_path) as one, receiver(echo) as base:
        task = await one.end_of(
            {
                "http": {"method": "POST", "url": base + "/x", "body": {"a": 1}},
                "before": ["echo", "set up"],
                "after": ["sh", "-c", "echo clean up after $RAFTSCHED_STATUS"],
            }
        )
        assert task["state"] == "succeeded"
        assert (task["result"]["path"], task["result"]["body"]) == ("/x", '{"a":1}')
        assert task["result"]["headers"]["raftsched-fencing-token"] == str(task["token"])
        assert task["output_tail"] == "set up\nclean up after succeeded\n"
        task = await one.end_of({"http": {"url": "http://169.254.169.254/latest"}})
        assert (task["state"], task["reason"]) == ("failed", "http-address-denied: 169.254.169.254")


async def test_command_with_options_leaves_a_result(tmp_path: Path) -> None:
    line = "umask; nice; ulimit -n; echo '{\"pages\": 7}' > $RAFTSCHED_RESULT_FILE"
    async with _one(tmp_path) as one:
        task = await one.end_of(
            {
                "command": ["sh", "-c", line],
                "umask": "027",
                "nice": 3,
                "rlimits": {"open_files": 100},
            }
        )
        assert (task["state"], task["result"]) == ("succeeded", {"pages": 7})
        assert task["output_tail"] == "0027\n3\n100\n"
        task = await one.end_of({"command": ["true"], "before": ["sh", "-c", "exit 4"]})
        assert (task["state"], task["reason"]) == ("failed", "before-failed: exit-code-4")
