"""Stragglers on real peers: a second run elsewhere, one of both counts, and the other one ends."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from raftsched.core.versions import WORKFLOWS
from tests.e2e.cluster import TOKEN, Cluster, until
from tests.e2e.test_workflows import noted

pytestmark = pytest.mark.timeout(120)

COUNT = 6
LATE = 3
SIZE = 200_000


def uneven(directory: Path, first: str, second: str) -> str:
    """A line for a shell: the first run of one item does this, the second one that."""
    lock = directory / "first"
    return (
        f'echo "$RAFTSCHED_INDEX $$" >> {directory}/began; '
        f'if [ "$RAFTSCHED_INDEX" = {LATE} ]; then '
        f"if mkdir {lock} 2>/dev/null; then {first}; else {second}; fi; fi; "
        f'echo "$RAFTSCHED_INDEX" >> {directory}/ran'
    )


def is_in_force(cluster: Cluster, peer: str) -> bool:
    document = cluster.request(peer, "GET", "/v1/cluster").json
    return bool(document["cluster_version"] >= WORKFLOWS)


def metric(cluster: Cluster, peer: str, name: str) -> float:
    lines = cluster.request(peer, "GET", "/metrics").raw.decode().splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith(f"raftsched_{name}"))


def is_gone(cluster: Cluster, peer: str, name: str) -> bool:
    return not list(cluster.node_directory(peer).rglob(f"*{name}*"))


def test_a_straggler_is_overtaken_by_its_twin_though_the_leader_was_killed(tmp_path: Path) -> None:
    ran, joined, inputs = tmp_path / "ran", tmp_path / "joined", tmp_path / "inputs"
    large = f"python3 -c 'print([1] * {SIZE // 3})' > $RAFTSCHED_RESULT_FILE"
    task = {"command": uneven(tmp_path, "sleep 90", large), "shell": True, "grace": 1}
    speculate = {"factor": 2, "after_share": 0.5, "min_seconds": 4}
    tasks = [
        {"name": "each", "map": {"range": [COUNT], "task": task, "speculate": speculate}},
        {
            "name": "sum", "depends_on": ["each"], "shell": True,
            "command": f"echo joined >> {joined}; cp $RAFTSCHED_INPUTS_FILE {inputs}",
        },
    ]  # fmt: skip
    late, twin = f"w.each.{LATE}", f"w.each.{LATE}~2"
    with Cluster(tmp_path) as cluster:
        first = cluster.ids[0]
        until(partial(is_in_force, cluster, first))
        document = {"id": "w", "workflow": {"tasks": tasks}}
        assert cluster.request(first, "POST", "/v1/tasks", document).status == 201
        until(lambda: len(set(noted(ran))) == COUNT - 1, 20)
        slow = cluster.running(first, late)
        leader = cluster.leader()
        if leader == slow:  # The straggler is to go on.
            other = next(peer for peer in cluster.ids if peer != slow)
            moved = cluster.request(other, "POST", "/v1/cluster/leader:transfer", {"target": other})
            assert moved.status == 200, moved
            leader = until(lambda: next(iter({cluster.leader()} - {slow}), None))
        until(lambda: cluster.request(slow, "GET", "/v1/tasks/w.each/tree").json["counts"] == {
            "running": 1, "succeeded": COUNT - 1,
        })  # fmt: skip
        assert cluster.request(slow, "GET", f"/v1/tasks/{twin}").status == 404
        cluster.kill(leader)
        assert cluster.finished(slow, "w", 60)["state"] == "succeeded"
        part, ended = cluster.task(slow, late), cluster.task(slow, twin)
        assert (part["state"], part["reason"]) == ("succeeded", "twin-succeeded")
        assert (part["twin"], part["node"], ended["twin_of"]) == (twin, slow, late)
        (third,) = set(cluster.ids) - {slow, leader}
        assert (ended["state"], ended["node"]) == ("succeeded", third)
        assert ended["token"] > part["token"]
        bodies = {cluster.request(p, "GET", f"/v1/tasks/{late}/result").raw for p in (slow, third)}
        assert len(bodies) == 1 and json.loads(bodies.pop()) == [1] * (SIZE // 3)
        assert part["result_bytes"] > SIZE // 2
        assert part["result_url"] == f"/v1/tasks/{late}/result"
        assert part["result_at"] == {"task": twin, "node": third, "attempt": 1}
        lines = [json.loads(line) for line in inputs.read_text().splitlines()]
        assert [line["index"] for line in lines if "of" in line] == list(range(COUNT))
        assert lines[1 + LATE]["result_bytes"] == part["result_bytes"]
        assert metric(cluster, third, "twins_total") + metric(cluster, slow, "twins_total") == 1
        assert cluster.request(slow, "DELETE", "/v1/tasks/w").status == 204
        assert cluster.request(slow, "GET", f"/v1/tasks/{twin}").status == 404
        until(partial(is_gone, cluster, third, twin))
    assert noted(joined) == ["joined"]
    assert sorted(noted(ran)) == sorted(map(str, range(COUNT))), "what was overtaken ended nothing"
    began = (tmp_path / "began").read_text().split("\n")[:-1]
    assert sorted(line.split()[0] for line in began) == sorted([*map(str, range(COUNT)), str(LATE)])


def test_a_twin_that_is_overtaken_ends_before_the_whole_does(tmp_path: Path) -> None:
    line = uneven(tmp_path, "sleep 9", "sleep 90")
    with Cluster(tmp_path) as cluster:
        peer = cluster.ids[0]
        until(partial(is_in_force, cluster, peer))
        words = ["map", "--range", f"0:{COUNT}", "--speculate", "--wait", "-o", "json", "--shell"]
        peers = ",".join(f"http://127.0.0.1:{port}" for port in cluster.api.values())
        told = subprocess.run(
            [sys.executable, "-m", "raftsched.cli.main", *words, "--", line],
            env={**os.environ, "RAFTSCHED_ADDR": peers, "RAFTSCHED_TOKEN": TOKEN},
            capture_output=True, text=True, timeout=90, check=False,
        )  # fmt: skip
        assert told.returncode == 0, told.stderr
        whole: Any = json.loads(told.stdout)
        assert whole["fork"]["speculate"] == {"factor": 2, "after_share": 0.5, "min_seconds": 5}
        part = cluster.task(peer, f"{whole['id']}.{LATE}")
        twin = cluster.task(peer, part["twin"])
        assert (part["state"], part["reason"]) == ("succeeded", "")
        assert (twin["state"], twin["reason"]) == ("cancelled", "not-needed")
        assert twin["finished_at"] <= whole["finished_at"] and twin["node"] != part["node"]
        # Nothing of it runs any more: the state says so, and so does the kernel.
        began = (tmp_path / "began").read_text().split("\n")[:-1]
        pids = [int(line.split()[1]) for line in began if line.split()[0] == str(LATE)]
        assert len(pids) == 2 and not any(Path(f"/proc/{pid}").exists() for pid in pids)
    assert sorted(noted(tmp_path / "ran")) == sorted(map(str, range(COUNT)))


def test_what_a_twin_came_to_is_kept_when_only_what_failed_is_tried_again(tmp_path: Path) -> None:
    bad, mended, ran = 1, tmp_path / "mended", tmp_path / "ran"
    large = f"python3 -c 'print([1] * {SIZE // 3})' > $RAFTSCHED_RESULT_FILE"
    fails = f'[ "$RAFTSCHED_INDEX" != {bad} ] || [ -e {mended} ] || exit 1; '
    line = fails + uneven(tmp_path, "sleep 90", large)
    speculate = {"factor": 2, "after_share": 0.5, "min_seconds": 2}
    task = {"command": line, "shell": True, "grace": 1}
    whole = {"range": [COUNT], "task": task, "speculate": speculate, "on_failure": "finish"}
    with Cluster(tmp_path) as cluster:
        peer = cluster.ids[0]
        until(partial(is_in_force, cluster, peer))
        made = cluster.request(peer, "POST", "/v1/tasks", {"id": "m", "map": whole})
        assert made.status == 201, made
        assert cluster.finished(peer, "m", 60)["state"] == "failed"
        old = cluster.task(peer, f"m.{LATE}")
        assert (old["state"], old["reason"]) == ("succeeded", "twin-succeeded")
        assert sorted(noted(ran)) == sorted({*map(str, range(COUNT))} - {str(bad)})
        ran.unlink()
        mended.touch()
        told = cluster.request(peer, "POST", "/v1/tasks/m/retry", {"only": "failed"})
        assert told.status == 201, told
        again = told.json["id"]
        assert cluster.finished(peer, again, 60)["state"] == "succeeded"
        assert noted(ran) == [str(bad)]
        kept = cluster.task(peer, f"{again}.{LATE}")
        assert (kept["reason"], kept["twin"]) == ("kept", None)
        assert kept["result_at"] == old["result_at"] and old["result_at"]["task"] == f"m.{LATE}~2"
        for name in cluster.ids:  # Also from those that do not have it.
            answer = cluster.request(name, "GET", kept["result_url"])
            assert (answer.status, answer.json) == (200, [1] * (SIZE // 3))
        assert cluster.request(peer, "DELETE", "/v1/tasks/m").status == 204
        gone = cluster.request(peer, "GET", kept["result_url"])
        assert (gone.status, gone.json["code"]) == (410, "output-gone")
