"""Results too large to be replicated: through every peer, after a restart, and JSON alone."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import raftsched
from raftsched.client import Client, errors
from raftsched.core.versions import WORKFLOWS
from tests.e2e.cluster import TOKEN, Cluster, until

pytestmark = pytest.mark.timeout(90)

SIZE = 5 << 20
JOBS = """
from raftsched import App

app = App("jobs")

@app.task
def words(count, text): return [text] * count

@app.task
async def words_later(count, text): return [text] * count
"""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    directory = tmp_path_factory.mktemp("results")
    (directory / "jobs.py").write_text(JOBS)
    cluster = Cluster(directory)
    text = cluster.config.read_text() + '\napps = ["jobs:app"]\nworkers = 1\n'
    cluster.config.write_text(text)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(directory)
        patch.setenv("PYTHONPATH", str(Path(raftsched.__file__).parents[1]))
        with cluster:
            for peer in cluster.ids:
                until(partial(_knows_large_results, cluster, peer))
            yield cluster


def _knows_large_results(cluster: Cluster, peer: str) -> bool:
    document = cluster.request(peer, "GET", "/v1/cluster").json
    return bool(document["cluster_version"] >= WORKFLOWS)


def _client(cluster: Cluster, *peers: str) -> Client:
    return Client([f"127.0.0.1:{cluster.api[peer]}" for peer in peers or cluster.ids], token=TOKEN)


def _writer(size: int) -> list[str]:
    """A program that leaves one string of random digits, so many bytes of JSON."""
    text = "import os; f = open(os.environ['RAFTSCHED_RESULT_FILE'], 'w'); "
    return [sys.executable, "-c", f"{text}f.write('\"' + os.urandom({size // 2 - 1}).hex() + '\"')"]


def _kept(cluster: Cluster, node: str, task: str) -> Path:
    return cluster.node_directory(node) / "output" / f"{task}.1.result"


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def test_large_result_is_read_through_every_peer(cluster: Cluster) -> None:
    task = cluster.submit("n1", _writer(SIZE))
    document = cluster.finished("n1", task)
    assert (document["state"], document["reason"]) == ("succeeded", "")
    assert (document["result"], document["result_bytes"]) == (None, SIZE)
    assert document["result_url"] == f"/v1/tasks/{task}/attempts/1/result"
    data = _kept(cluster, document["node"], task).read_bytes()
    for peer in cluster.ids:
        for path in (f"/v1/tasks/{task}/result", document["result_url"]):
            answer = cluster.request(peer, "GET", path)
            assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
            assert _digest(answer.raw) == _digest(data)
        with _client(cluster, peer) as client:
            assert client.result(task) == client.get(task).result() == json.loads(data)
    own = [peer for peer in cluster.ids if _kept(cluster, peer, task).exists()]
    assert own == [document["node"]], "it is replicated nowhere"


def test_node_that_was_killed_still_has_its_results(cluster: Cluster) -> None:
    task = cluster.submit("n1", _writer(SIZE))
    node = cluster.finished("n1", task)["node"]
    other = next(peer for peer in cluster.ids if peer != node)
    before = cluster.request(other, "GET", f"/v1/tasks/{task}/result").raw
    cluster.kill(node)
    cluster.leader(among=[peer for peer in cluster.ids if peer != node])
    answer = cluster.request(other, "GET", f"/v1/tasks/{task}/result")
    assert (answer.status, answer.json["code"]) == (502, "node-unreachable")
    with _client(cluster, other) as client, pytest.raises(errors.OutputGone, match=node):
        client.result(task)
    cluster.start(node)
    cluster.ready(node)
    for peer in cluster.ids:
        answer = cluster.request(peer, "GET", f"/v1/tasks/{task}/result")
        assert (answer.status, _digest(answer.raw)) == (200, _digest(before))


@pytest.mark.parametrize("function", ["jobs:words", "jobs:words_later"])
def test_value_of_a_function_may_be_large(cluster: Cluster, function: str) -> None:
    with _client(cluster) as client:
        count = SIZE // 8
        # The worker may still import.
        task = client.submit(python={"function": function, "args": [count, "größe"]}).wait(30)
        assert (task.state, task["result"]) == ("succeeded", None), task
        assert task["result_bytes"] > SIZE
        for peer in cluster.ids:
            with _client(cluster, peer) as other:
                assert other.result(task.id) == ["größe"] * count


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("head -c 5000000 /dev/zero | tr '\\0' x", "result-not-json: "),
        ("printf '\"'; head -c 16777215 /dev/zero | tr '\\0' x; printf '\"'",
         "result-too-large: 16777217 bytes, at most 16777216"),
    ],
)  # fmt: skip
def test_what_is_no_result_fails_its_task_and_is_nowhere(
    cluster: Cluster, line: str, reason: str
) -> None:
    task = cluster.submit("n1", [f"({line}) > $RAFTSCHED_RESULT_FILE"], shell=True)
    document = cluster.finished("n1", task)
    assert document["state"] == "failed" and document["reason"].startswith(reason)
    assert (document["result_bytes"], document["result_url"]) == (0, None)
    answer = cluster.request("n2", "GET", f"/v1/tasks/{task}/result")
    assert (answer.status, answer.json["code"]) == (404, "no-result")
    assert not _kept(cluster, document["node"], task).exists()


def test_result_goes_with_its_task_and_a_swept_one_is_gone(cluster: Cluster) -> None:
    tasks = [cluster.submit("n1", _writer(100_000)) for _ in range(2)]
    documents = [cluster.finished("n1", task) for task in tasks]
    paths = [_kept(cluster, each["node"], each["id"]) for each in documents]
    paths[0].unlink()  # As a sweep does.
    for peer in cluster.ids:
        answer = cluster.request(peer, "GET", f"/v1/tasks/{tasks[0]}/result")
        assert (answer.status, answer.json["code"]) == (410, "output-gone")
    assert paths[1].stat().st_size == 100_000
    assert cluster.request("n2", "DELETE", f"/v1/tasks/{tasks[1]}").status == 204
    until(lambda: not paths[1].exists())


def test_command_line_prints_a_large_result(cluster: Cluster) -> None:
    task = cluster.submit("n1", _writer(SIZE))
    waiting = cluster.submit("n1", ["true"], not_before="1h")
    node = cluster.finished("n1", task)["node"]
    other = next(peer for peer in cluster.ids if peer != node)

    def call(identity: str) -> Any:
        environment = {
            **os.environ,
            "RAFTSCHED_ADDR": f"127.0.0.1:{cluster.api[other]}",
            "RAFTSCHED_TOKEN": TOKEN,
        }
        command = [sys.executable, "-m", "raftsched.cli.main", "result", identity]
        return subprocess.run(command, env=environment, capture_output=True, timeout=30)

    done = call(task)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout == _kept(cluster, node, task).read_bytes() + b"\n"
    none = call(waiting)
    assert (none.returncode, none.stdout) == (3, b"")
    assert b"is waiting and has not run" in none.stderr
    assert cluster.request("n1", "POST", f"/v1/tasks/{waiting}/cancel", {}).status == 200
