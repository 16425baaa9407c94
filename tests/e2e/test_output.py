"""Output of a task through any peer: as it comes, whole, and never silently cut."""

from __future__ import annotations

import hashlib
import http.client
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.cluster import TOKEN, Cluster

pytestmark = pytest.mark.timeout(60)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Cluster(tmp_path_factory.mktemp("output")) as cluster:
        for peer in cluster.ids:
            cluster.ready(peer)
        yield cluster


def _other(cluster: Cluster, node: str) -> str:
    return next(peer for peer in cluster.ids if peer != node)


def _gated(gate: Path) -> list[str]:
    """Says hello, waits for the gate, and says good-bye."""
    wait = f"while [ ! -e {gate} ]; do sleep 0.02; done"
    return ["sh", "-c", f"echo hello; echo trouble >&2; {wait}; echo bye; exit 3"]


def test_output_is_followed_through_another_peer_as_it_comes_to_its_end(
    cluster: Cluster, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    task = cluster.submit("n1", _gated(gate))
    node = cluster.running("n1", task)
    for peer in (node, _other(cluster, node)):
        gate.unlink(missing_ok=True)
        pieces = cluster.follow(peer, task)
        seen = b""
        while b"trouble\n" not in seen:
            seen += next(pieces)
        # What was written is there while the task still runs; the rest comes with its end.
        assert seen == b"hello\ntrouble\n"
        if peer == node:
            assert cluster.task("n1", task)["state"] == "running"
            pieces.close()
            continue
        gate.touch()
        assert seen + b"".join(pieces) == b"hello\ntrouble\nbye\n"
    document = cluster.finished("n1", task)
    assert (document["state"], document["exit_code"]) == ("failed", 3)
    assert document["output_tail"] == "hello\ntrouble\nbye\n"


def test_long_output_is_whole_through_every_peer_and_by_tail_and_offset(cluster: Cluster) -> None:
    count = 300_000
    wanted = b"".join(b"%d\n" % i for i in range(1, count + 1))
    task = cluster.submit("n1", ["seq", str(count)])
    cluster.finished("n1", task)
    path = f"/v1/tasks/{task}/attempts/1/output"
    for peer in cluster.ids:
        found = cluster.request(peer, "GET", path)
        assert found.status == 200
        assert hashlib.sha256(found.raw).digest() == hashlib.sha256(wanted).digest(), peer
        tail = cluster.request(peer, "GET", f"{path}?tail=70000")
        assert tail.raw == wanted[-70_000:]
        assert tail.headers["raftsched-output-offset"] == str(len(wanted) - 70_000)
        rest = cluster.request(peer, "GET", f"{path}?offset=1000000")
        assert rest.raw == wanted[1_000_000:]
        assert b"".join(cluster.follow(peer, task)) == wanted


def test_command_line_follows_a_task_through_another_peer(cluster: Cluster, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    task = cluster.submit("n1", _gated(gate))
    other = _other(cluster, cluster.running("n1", task))
    environment = {
        **os.environ,
        "RAFTSCHED_ADDR": f"http://127.0.0.1:{cluster.api[other]}",
        "RAFTSCHED_TOKEN": TOKEN,
    }
    command = [sys.executable, "-m", "raftsched.cli.main", "logs", "-f", task]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"hello\n"
            gate.touch()
            assert process.stdout.read() == b"trouble\nbye\n"
            assert process.wait(15) == 0
        finally:
            process.kill()


def test_output_of_a_node_that_dies_ends_in_an_error_and_is_there_again_after(
    cluster: Cluster, tmp_path: Path
) -> None:
    task = cluster.submit("n1", _gated(tmp_path / "gate"))
    node = cluster.running("n1", task)
    other = _other(cluster, node)
    pieces = cluster.follow(other, task)
    seen = b""
    while b"trouble\n" not in seen:
        seen += next(pieces)
    cluster.kill(node)
    # A stream that was cut must not look like one that ended.
    with pytest.raises((http.client.HTTPException, OSError)):
        for _ in pieces:
            pass
    cluster.leader(among=[peer for peer in cluster.ids if peer != node])
    began = time.monotonic()
    answer = cluster.request(other, "GET", f"/v1/tasks/{task}/attempts/1/output?follow=1")
    assert (answer.status, answer.json["code"]) == (502, "node-unreachable")
    assert time.monotonic() - began < 5.0

    cluster.start(node)
    (tmp_path / "gate").touch()
    cluster.finished(other, task)
    assert b"".join(cluster.follow(other, task)) == b"hello\ntrouble\nbye\n"
