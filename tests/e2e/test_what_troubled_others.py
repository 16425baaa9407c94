"""Cases that other schedulers were reported for (``docs/conformance.md``), on real peers."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.cluster import Answer, Cluster

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Cluster(tmp_path_factory.mktemp("others")) as cluster:
        yield cluster


def note(path: Path, then: str = "true") -> list[str]:
    """A program that appends a line to a file, in one write, and does something."""
    return ["sh", "-c", f"echo ran >> {path}; {then}"]


def times(path: Path) -> int:
    return len(path.read_text().split()) if path.exists() else 0


def test_one_key_at_two_peers_at_once_is_one_task(cluster: Cluster, tmp_path: Path) -> None:
    pairs = list(itertools.permutations(cluster.ids, 2)) * 3

    def submit(peer: str, number: int) -> Answer:
        document = {"command": note(tmp_path / str(number))}
        key = {"Idempotency-Key": f"one-key-{number}"}
        return cluster.request(peer, "POST", "/v1/tasks", document, headers=key)

    with ThreadPoolExecutor(2) as at_once:
        for number, pair in enumerate(pairs):
            answers = list(at_once.map(submit, pair, [number, number]))
            assert all(answer.status in (200, 201) for answer in answers), answers
            (task,) = {answer.json["id"] for answer in answers}
            replayed = [answer.headers.get("idempotency-replayed") for answer in answers]
            assert replayed.count("true") == 1, answers
            assert cluster.finished(pair[0], task)["state"] == "succeeded"
    assert [times(tmp_path / str(number)) for number in range(len(pairs))] == [1] * len(pairs)


def workflow(cluster: Cluster, task_id: str, *parts: dict[str, Any]) -> Any:
    """The end of a workflow."""
    document = {"id": task_id, "workflow": {"tasks": list(parts)}}
    assert cluster.request(cluster.ids[0], "POST", "/v1/tasks", document).status == 201
    return cluster.finished(cluster.ids[1], task_id)


def test_a_join_with_a_child_that_failed_ends_and_runs_only_if_it_minds_that(
    cluster: Cluster, tmp_path: Path
) -> None:
    strict, lenient = tmp_path / "strict", tmp_path / "lenient"
    end = workflow(
        cluster,
        "failed-child",
        {"name": "good", "command": ["true"]},
        {"name": "bad", "command": ["false"]},
        {"name": "strict", "command": note(strict), "depends_on": ["good", "bad"]},
        {
            "name": "lenient",
            "command": note(lenient),
            "depends_on": ["good", {"task": "bad", "on": "always"}],
        },
    )
    assert (end["state"], times(strict), times(lenient)) == ("failed", 0, 1)
    never = cluster.task(cluster.ids[2], "failed-child.strict")
    assert (never["state"], never["reason"]) == ("cancelled", "depends-on: failed-child.bad failed")


def test_a_child_runs_once_after_a_parent_that_failed_and_then_succeeded(
    cluster: Cluster, tmp_path: Path
) -> None:
    parent, child = tmp_path / "parent", tmp_path / "child"
    again = f"test $(wc -l < {parent}) -ge 2"
    end = workflow(
        cluster,
        "at-last",
        {
            "name": "parent",
            "command": note(parent, again),
            "retry": {"max_attempts": 3, "base": "100ms"},
        },
        {"name": "child", "command": note(child), "depends_on": ["parent"]},
    )
    assert (end["state"], times(parent), times(child)) == ("succeeded", 2, 1)
