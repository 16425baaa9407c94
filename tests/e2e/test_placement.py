"""Queues, limits and labels through the front door, while the leader is killed."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.cluster import Cluster, until

pytestmark = pytest.mark.timeout(120)

TASKS = 18


def test_a_queue_of_three_never_shows_four_also_when_the_leader_dies(tmp_path: Path) -> None:
    with Cluster(tmp_path, lease_seconds=8.0) as cluster:
        leader = cluster.leader()
        peer = next(peer for peer in cluster.ids if peer != leader)
        for name in cluster.ids:
            cluster.ready(name)
        put = cluster.request(peer, "PUT", "/v1/queues/q", {"concurrency": 3})
        assert put.status == 200, put
        marks = tmp_path / "marks"
        line = f"echo $(date +%s%N) + >> {marks}; sleep 0.3; echo $(date +%s%N) - >> {marks}"
        tasks = [cluster.submit(peer, ["sh", "-c", line], queue="q") for _ in range(TASKS)]
        until(lambda: marks.exists() and len(marks.read_text().splitlines()) > 6, 20)
        cluster.kill(leader)
        cluster.start(leader)
        cluster.leader()
        assert {cluster.finished(peer, task)["state"] for task in tasks} == {"succeeded"}
        held = 0
        for _, sign in sorted(mark.split() for mark in marks.read_text().splitlines()):
            held += 1 if sign == "+" else -1
            assert held <= 3
        view = cluster.request(peer, "GET", "/v1/queues/q").json
        assert (view["open"], view["running"]) == (0, 0)


def test_a_task_says_why_it_waits_and_goes_where_it_may(tmp_path: Path) -> None:
    with Cluster(tmp_path) as cluster:
        leader = cluster.leader()
        for name in cluster.ids:
            cluster.ready(name)
        labels = {"labels": {"zone": "a"}}
        task = cluster.submit(leader, ["true"], constraints=["zone = a"], queue="q")
        explained = cluster.request(leader, "GET", f"/v1/tasks/{task}/explain").json
        assert [b["kind"] for b in explained["blockers"]] == ["no_matching_node"]
        assert {node["reason"] for node in explained["nodes"]} == {"constraint"}
        cluster.request(leader, "POST", "/v1/queues/q/pause", {})
        cluster.request(leader, "PUT", f"/v1/nodes/{cluster.ids[1]}/labels", labels)
        explained = cluster.request(leader, "GET", f"/v1/tasks/{task}/explain").json
        assert [b["kind"] for b in explained["blockers"]] == ["queue_paused"]
        cluster.request(leader, "POST", "/v1/queues/q/resume", {})
        found = cluster.finished(leader, task)
        assert (found["state"], found["node"]) == ("succeeded", cluster.ids[1])


def test_a_broadcast_runs_once_on_every_node_also_when_the_leader_dies(tmp_path: Path) -> None:
    with Cluster(tmp_path, lease_seconds=8.0) as cluster:
        leader = cluster.leader()
        peer = next(peer for peer in cluster.ids if peer != leader)
        for name in cluster.ids:
            cluster.ready(name)
        line = f"sleep 1; echo $RAFTSCHED_TASK_ID >> {tmp_path / 'marks'}"
        task = cluster.submit(peer, ["sh", "-c", line], broadcast="all")
        until(lambda: _states(cluster, peer, task) == {"running"}, 10)
        cluster.kill(leader)
        cluster.start(leader)
        cluster.leader()
        assert cluster.finished(peer, task)["state"] == "succeeded"
        tree = cluster.request(peer, "GET", f"/v1/tasks/{task}/tree").json
        assert sorted(part["node"] for part in tree["items"]) == sorted(cluster.ids)
        ran = [f"{task}.{number}" for number in (1, 2, 3)]
        assert sorted((tmp_path / "marks").read_text().split()) == ran


def _states(cluster: Cluster, peer: str, task: str) -> set[str]:
    """Of the subtasks of a task."""
    return set(cluster.request(peer, "GET", f"/v1/tasks/{task}/tree").json["counts"])


def test_a_rate_lets_tasks_start_one_after_the_other(tmp_path: Path) -> None:
    with Cluster(tmp_path, size=1) as cluster:
        leader = cluster.leader()
        cluster.ready(leader)
        rate = {"count": 0, "rate": {"count": 5, "per": "1s"}}
        assert cluster.request(leader, "PUT", "/v1/limits/api", rate).status == 200
        marks = tmp_path / "marks"
        line = f"date +%s%N >> {marks}"
        tasks = [cluster.submit(leader, ["sh", "-c", line], limits=["api"]) for _ in range(6)]
        assert {cluster.finished(leader, task)["state"] for task in tasks} == {"succeeded"}
        starts = sorted(int(mark) for mark in marks.read_text().split())
        # What is measured is when the program began, some milliseconds after the assignment.
        assert (starts[-1] - starts[0]) / 1e9 > 0.8
        assert (starts[-1] - starts[0]) / 1e9 < 5
