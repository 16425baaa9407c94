"""Workflows on real peers: each part once, one join, through leaders and nodes that are killed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.cluster import TOKEN, Cluster, until

pytestmark = pytest.mark.timeout(120)


def noted(path: Path) -> list[str]:
    return path.read_text().split() if path.exists() else []


def note(path: Path, what: str, then: str = "true") -> list[str]:
    """A program that appends a word to a file, in one write, and does something."""
    return ["sh", "-c", f'echo "{what}" >> {path} && {then}']


def submitted(cluster: Cluster, peer: str, **document: Any) -> None:
    answer = cluster.request(peer, "POST", "/v1/tasks", document)
    assert answer.status == 201, answer


def test_items_that_a_task_prints_are_run_once_each_and_joined_once(tmp_path: Path) -> None:
    ran, joined, inputs = tmp_path / "ran", tmp_path / "joined", tmp_path / "inputs"
    count = 40
    double = "sleep 0.2; echo $((RAFTSCHED_ITEM * 2)) > $RAFTSCHED_RESULT_FILE"
    each = {
        "from": "split",
        "max_parallel": 8,
        "task": {"command": note(ran, "$RAFTSCHED_ITEM", double)},
    }
    copy = f"cp $RAFTSCHED_INPUTS_FILE {inputs}"
    tasks = [
        {"name": "split", "command": ["seq", "0", str(count - 1)]},
        {"name": "each", "map": each},
        {"name": "sum", "depends_on": ["each"], "command": note(joined, "joined", copy)},
    ]
    with Cluster(tmp_path) as cluster:
        peer = cluster.ids[0]
        submitted(cluster, peer, id="w", workflow={"tasks": tasks})
        until(lambda: len(noted(ran)) > count // 4, 30)
        leader = cluster.leader()
        cluster.kill(leader)
        peer = next(peer for peer in cluster.ids if peer != leader)
        task = cluster.finished(peer, "w", 60)
        assert (task["state"], task["reason"]) == ("succeeded", "")
    assert noted(joined) == ["joined"]
    assert set(noted(ran)) == {str(number) for number in range(count)}
    lines = [json.loads(line) for line in inputs.read_text().splitlines()]
    assert [line["result"] for line in lines if "of" in line] == [2 * n for n in range(count)]


def test_failures_cancels_and_many_items(tmp_path: Path) -> None:
    alert = tmp_path / "alert"
    minds = [{"task": "backup", "on": "failure"}]
    tasks = [
        {"name": "backup", "command": ["false"]},
        {"name": "report", "depends_on": ["backup"], "command": ["true"]},
        {"name": "alert", "depends_on": minds, "command": note(alert, "alert")},
    ]
    with Cluster(tmp_path) as cluster:
        peer = cluster.ids[0]
        submitted(cluster, peer, id="w", workflow={"tasks": tasks})
        assert cluster.finished(peer, "w")["state"] == "failed"
        assert noted(alert) == ["alert"]
        report = cluster.task(peer, "w.report")
        assert report["state"] == "cancelled"
        assert report["reason"] == "depends-on: w.backup failed"

        submitted(
            cluster, peer, id="m", map={"range": [3_000], "task": {"command": ["sleep", "60"]}}
        )
        assert cluster.task(peer, "m")["subtasks"] == 3_000
        assert cluster.request(peer, "POST", "/v1/tasks/m/cancel", {}).status == 200
        assert cluster.finished(peer, "m")["state"] == "cancelled"
        assert cluster.request(peer, "DELETE", "/v1/tasks/m").status == 204


def test_only_what_failed_of_a_map_runs_again_and_what_follows_sees_all(tmp_path: Path) -> None:
    ran, merged, inputs, mended = (tmp_path / n for n in ("ran", "merged", "inputs", "mended"))
    count, bad, large = 20, 7, 3
    # One leaves more than is replicated: its node keeps it.
    leave = f'[ "$RAFTSCHED_ITEM" = {large} ] && size=100000 || size=1'
    leave += '; printf "[%s,\\"%0${size}d\\"]" "$RAFTSCHED_ITEM" 0 > $RAFTSCHED_RESULT_FILE'
    may_fail = f'{{ [ "$RAFTSCHED_ITEM" != {bad} ] || [ -e {mended} ]; }} && {{ {leave}; }}'
    each = {
        "range": [count],
        "on_failure": "finish",
        "task": {"command": note(ran, "$RAFTSCHED_ITEM", may_fail)},
    }
    copy = f"cp $RAFTSCHED_INPUTS_FILE {inputs}"
    tasks = [
        {"name": "first", "command": note(ran, "first")},
        {"name": "each", "depends_on": ["first"], "map": each},
        {"name": "merge", "depends_on": ["each"], "command": note(merged, "merged", copy)},
    ]
    with Cluster(tmp_path) as cluster:
        peer = cluster.ids[0]
        submitted(cluster, peer, id="w", workflow={"tasks": tasks})
        assert cluster.finished(peer, "w", 60)["state"] == "failed"
        assert sorted(noted(ran)) == sorted(["first", *map(str, range(count))])
        assert noted(merged) == []
        kept = cluster.task(peer, f"w.each.{large}")

        ran.unlink()
        part = cluster.request(peer, "POST", f"/v1/tasks/w.each.{bad}/retry", {})
        assert (part.status, part.json["task_id"]) == (409, "w")
        mended.touch()
        addresses = ",".join(f"127.0.0.1:{cluster.api[name]}" for name in cluster.ids)
        line = [sys.executable, "-m", "raftsched.cli.main", "retry", "--only-failed", "w"]
        environment = {**os.environ, "RAFTSCHED_ADDR": addresses, "RAFTSCHED_TOKEN": TOKEN}
        done = subprocess.run(line, env=environment, capture_output=True, text=True, check=True)
        again = done.stdout.strip()
        task = cluster.finished(peer, again, 60)
        assert (task["state"], task["retry_of"]) == ("succeeded", "w")
        assert noted(ran) == [str(bad)]
        assert noted(merged) == ["merged"]

        lines = [json.loads(line) for line in inputs.read_text().splitlines()]
        items = [line for line in lines if "of" in line]
        assert [line["index"] for line in items] == [*range(count)]
        assert [line["result"] and line["result"][0] for line in items] == [
            None if number == large else number for number in range(count)
        ]
        assert items[large]["result_bytes"] == kept["result_bytes"] > 100_000
        for name in cluster.ids:  # Also from those that do not have it.
            answer = cluster.request(name, "GET", f"/v1/tasks/{again}.each.{large}/result")
            assert (answer.status, answer.json[0]) == (200, large)
