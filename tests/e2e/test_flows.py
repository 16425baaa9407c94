"""Maps of Python functions and what is behind them, on three peers: each join once."""

from __future__ import annotations

import importlib
import sys
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import raftsched
from raftsched.app import TaskFailed
from raftsched.core.versions import WORKFLOWS
from tests.e2e.cluster import TOKEN, Cluster, until

pytestmark = pytest.mark.timeout(90)

ITEMS = 200
JOBS = """
import os
import time
from pathlib import Path

from raftsched import App, current

app = App("flow_jobs")
HERE = Path(__file__).parent


def note(name, text):
    # One write to the end of the file: whole, whoever writes beside it.
    with (HERE / name).open("ab", buffering=0) as file:
        file.write(f"{text}\\n".encode())


@app.task
def square(n):
    time.sleep(0.02)
    note("squares", n)
    return n * n


@app.task
def total(squares, label):
    note(label, current().task_id)
    return sum(squares)


@app.task
def text(n):
    return str(n) * n


@app.task
async def lengths(texts):
    return [len(one) for one in texts]


@app.task
def numbers(n):
    return list(range(n))


@app.task
def picky(n):
    if n % 2:
        raise ValueError(f"{n} is odd")
    return n


@app.task
def seen(*values):
    return list(values)
"""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    directory = tmp_path_factory.mktemp("flows")
    (directory / "flow_jobs.py").write_text(JOBS)
    cluster = Cluster(directory)
    text = cluster.config.read_text() + '\napps = ["flow_jobs:app"]\nworkers = 2\n'
    cluster.config.write_text(text)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(directory)
        patch.setenv("PYTHONPATH", str(Path(raftsched.__file__).parents[1]))
        patch.delenv("RAFTSCHED_ADDR", raising=False)
        with cluster:
            for peer in cluster.ids:
                until(partial(_knows_workflows, cluster, peer))
            # Only now: peers and their workers are to find their way without it.
            ports = cluster.api.values()
            patch.setenv("RAFTSCHED_ADDR", ",".join(f"127.0.0.1:{port}" for port in ports))
            patch.setenv("RAFTSCHED_TOKEN", TOKEN)
            yield cluster


def _knows_workflows(cluster: Cluster, peer: str) -> bool:
    document = cluster.request(peer, "GET", "/v1/cluster").json
    return bool(document["cluster_version"] >= WORKFLOWS)


@pytest.fixture(scope="module")
def jobs(cluster: Cluster) -> Iterator[Any]:
    sys.path.insert(0, str(cluster.directory))
    module = importlib.import_module("flow_jobs")
    yield module
    module.app.close()
    sys.path.remove(str(cluster.directory))
    del sys.modules["flow_jobs"]


def _noted(cluster: Cluster, name: str) -> list[str]:
    path = cluster.directory / name
    return path.read_text().splitlines() if path.exists() else []


def test_merge_runs_once_though_the_leader_is_killed_in_the_middle(
    cluster: Cluster, jobs: Any
) -> None:
    flow = jobs.app.map(jobs.square, range(ITEMS)).then(jobs.total.bind("merged"))
    handle = flow.with_options(idempotency_key="squares").submit()
    until(lambda: len(_noted(cluster, "squares")) > ITEMS // 5)
    leader = cluster.leader()
    cluster.kill(leader)
    before = handle.progress()
    assert not handle.refresh().is_terminal, "it was killed in the middle"
    cluster.start(leader)
    assert handle.result(60) == sum(n * n for n in range(ITEMS))
    assert _noted(cluster, "merged") == [f"{handle.id}.total"]
    assert set(_noted(cluster, "squares")) == {str(n) for n in range(ITEMS)}
    again = Counter(_noted(cluster, "squares")).most_common(1)
    assert again[0][1] <= 2, "an item runs again only if its node was lost"
    assert before.done <= handle.progress().done == ITEMS + 1
    assert flow.with_options(idempotency_key="squares").submit().id == handle.id
    assert len(_noted(cluster, "merged")) == 1
    cluster.ready(leader)


def test_large_results_reach_the_merge_from_every_node(cluster: Cluster, jobs: Any) -> None:
    sizes = [70_000 + n for n in range(6)]
    spread = jobs.text.with_options(placement={"strategy": "round_robin"})
    handle = jobs.app.map(spread, sizes).then(jobs.lengths).submit()
    assert handle.result(60) == [size * 5 for size in sizes]
    lines = list(jobs.app.client.results(f"{handle.id}.text"))
    assert all(line["result"] is None and line["result_bytes"] > 64 << 10 for line in lines)
    nodes = {jobs.app.client.get(line["id"])["node"] for line in lines}
    assert len(nodes) > 1, "some were fetched"


def test_items_of_a_function_are_more_than_a_submission_holds(cluster: Cluster, jobs: Any) -> None:
    handle = jobs.app.map(jobs.picky, jobs.numbers.bind(3_000), on_failure="ignore").submit()
    values = handle.result(60)
    assert values == [None if n % 2 else n for n in range(3_000)]
    assert handle.progress()[:2] == (3_001, 3_001)


def test_groups_and_chains_hand_on_their_values(cluster: Cluster, jobs: Any) -> None:
    app, seen = jobs.app, jobs.seen
    group = app.group(seen.bind(1), app.map(jobs.picky, [2, 4]), app.chain(seen.bind(3), seen))
    assert group.submit().result(30) == [[1], [2, 4], [[3]]]
    assert group.then(seen.bind("last")).submit().result(30) == [[[1], [2, 4], [[3]]], "last"]
    assert app.map(jobs.picky, []).then(seen).submit().result(30) == [[]]


def test_failure_of_an_item_is_told_with_its_traceback(cluster: Cluster, jobs: Any) -> None:
    handle = jobs.app.map(jobs.picky, [2, 3]).then(jobs.total.bind("never")).submit()
    with pytest.raises(TaskFailed, match="ValueError: 3 is odd") as caught:
        handle.result(30)
    assert caught.value.task["id"] == f"{handle.id}.picky.1"
    assert _noted(cluster, "never") == []
