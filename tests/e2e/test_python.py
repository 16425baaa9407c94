"""Python functions through real peers, by the same file as client and as worker."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

import raftsched
from tests.e2e.cluster import TOKEN, Cluster, until

pytestmark = pytest.mark.timeout(90)

EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "images.py"

JOBS = """
import os, time
from pathlib import Path
from raftsched import App, current

app = App("jobs")

@app.task
def once_fatal(mark):
    if current().attempt == 1:
        Path(mark).write_text(str(os.getpid()))
        time.sleep(60)
    return [current().attempt, current().fencing_token]

@app.task
def count(n):
    for step in range(n):
        current().raise_if_cancelled()
        current().report_progress(step / n, f"step {step}")
        time.sleep(0.05)
"""


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    shutil.copy(EXAMPLE, tmp_path)
    (tmp_path / "jobs.py").write_text(JOBS)
    # As for an operator: where peers are started is where their modules are.
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(Path(raftsched.__file__).parents[1]))
    cluster = Cluster(tmp_path)
    text = cluster.config.read_text() + '\napps = ["images:app", "jobs:app"]\nworkers = 1\n'
    cluster.config.write_text(text)
    with cluster:
        addresses = [f"127.0.0.1:{port}" for port in cluster.api.values()]
        monkeypatch.setenv("RAFTSCHED_ADDR", ",".join(addresses))
        monkeypatch.setenv("RAFTSCHED_TOKEN", TOKEN)
        yield cluster


def python(function: str, *args: object) -> dict[str, object]:
    return {"python": {"function": function, "args": list(args)}}


def submit(cluster: Cluster, peer: str, function: str, *args: object, **fields: object) -> str:
    body = {**python(function, *args), **fields}

    def accepted() -> str:
        answer = cluster.request(peer, "POST", "/v1/tasks", body)
        # A cluster that has just started does not know yet that all peers are of this version.
        assert answer.status == 201 or answer.json["code"] == "needs-version", answer
        return str(answer.json.get("id", ""))

    return str(until(accepted))


def test_the_example_is_client_and_worker(cluster: Cluster, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "images.py"], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr + cluster.logs()
    assert done.stdout.splitlines() == [
        "resized a.png",
        "here: {'path': 'a.png', 'width': 10, 'attempt': 0}",
        "there: {'path': 'a.png', 'width': 100, 'attempt': 1}",
        "widths: [200, 300, 800]",
        "http://example.org",
        "the same task: True",
    ]


def test_worker_that_dies_in_the_middle_fails_its_attempt_and_the_next_one_succeeds(
    cluster: Cluster, tmp_path: Path
) -> None:
    mark = tmp_path / "mark"
    task = submit(
        cluster, "n1", "jobs:once_fatal", str(mark), retry={"max_attempts": 2, "base": "100ms"}
    )
    pid = int(until(lambda: mark.exists() and mark.read_text()))
    os.kill(pid, signal.SIGKILL)
    document = cluster.finished("n2", task)
    first, second = cluster.attempts("n3", task)
    assert (first["status"], first["reason"]) == ("failed", "worker-died: signal-9")
    assert (document["state"], document["result"][0]) == ("succeeded", 2)
    assert document["result"][1] == second["token"] > first["token"]


def test_progress_is_seen_on_every_peer_and_cancel_reaches_the_function(cluster: Cluster) -> None:
    task = submit(cluster, "n1", "jobs:count", 1000)

    def words(peer: str) -> str:
        return str(cluster.task(peer, task)["progress_text"])

    for peer in cluster.ids:
        assert until(partial(words, peer)).startswith("step ")
    assert cluster.request("n2", "POST", f"/v1/tasks/{task}/cancel", {}).status == 200
    assert cluster.finished("n3", task)["state"] == "cancelled"
