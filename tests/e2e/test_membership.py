"""Peers come and go while the cluster works; and what the survivor of a lost majority can do."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from .cluster import TOKEN, Cluster, until


def cli(cluster: Cluster, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "raftsched.cli.main", *words],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env={
            "RAFTSCHED_ADDR": ",".join(f"127.0.0.1:{port}" for port in cluster.api.values()),
            "RAFTSCHED_TOKEN": TOKEN,
        },
    )


def members(cluster: Cluster, peer: str) -> dict[str, Any]:
    document = cluster.request(peer, "GET", "/v1/cluster/peers").json
    return {row["id"]: row["role"] for row in document["items"]}


@contextlib.contextmanager
def load(cluster: Cluster, peers: list[str]) -> Iterator[list[str]]:
    """Ids of tasks that are submitted all the while; one that is refused fails the test."""
    tasks: list[str] = []
    is_over, refused = threading.Event(), list[BaseException]()

    def submit() -> None:
        try:
            while not is_over.is_set():
                tasks.append(cluster.submit(peers[len(tasks) % len(peers)], ["true"]))
        except BaseException as error:
            refused.append(error)

    loading = threading.Thread(target=submit)
    loading.start()
    try:
        yield tasks
    finally:
        is_over.set()
        loading.join()
    assert not refused


def test_leader_is_replaced_under_load(tmp_path: Path) -> None:
    """No submission fails, the old one stops by itself, its node is gone, the new one works."""
    with Cluster(tmp_path) as cluster:
        old = cluster.leader()
        others = [peer for peer in cluster.ids if peer != old]
        with load(cluster, others) as tasks:
            new = cluster.join("n4")
            words = ["--raft", new["raft"], "--api", new["api"], "-o", "json"]
            done = cli(cluster, "peers", "replace", old, "n4", *words)
            assert done.returncode == 0, done.stderr + cluster.logs()
            assert cluster.processes[old].wait(15) == 13, cluster.logs()
        assert {row["id"]: row["role"] for row in json.loads(done.stdout)} == dict.fromkeys(
            sorted({"n4", *others}), "voter"
        )
        assert f"peer '{old}' was removed from cluster" in (tmp_path / f"{old}.log").read_text()
        cluster.ready("n4")
        assert len(tasks) > 10
        for task in tasks:
            assert cluster.finished("n4", task)["state"] == "succeeded"
        until(lambda: cluster.request("n4", "GET", f"/v1/nodes/{old}").json["status"] == "left")
        again = cluster.request("n4", "POST", "/v1/cluster/peers", {**new, "id": old})
        assert (again.status, again.json["code"]) == (409, "change-refused")
        cluster.start(old)
        assert cluster.processes[old].wait(15) == 13


@pytest.mark.parametrize("leads", [False, True], ids=["follower", "leader"])
def test_peer_is_removed_under_load(leads: bool, tmp_path: Path) -> None:
    with Cluster(tmp_path) as cluster:
        leader = cluster.leader()
        goes = next(peer for peer in cluster.ids if (peer == leader) is leads)
        rest = [peer for peer in cluster.ids if peer != goes]
        asked = rest[0]
        with load(cluster, rest) as tasks:
            done = cli(cluster, "peers", "remove", goes, "--yes", "-o", "id")
            assert done.returncode == 0, done.stderr + cluster.logs()
            assert done.stdout.split() == sorted(rest)
            assert cluster.processes[goes].wait(15) == 13
        assert goes not in members(cluster, asked)
        assert len(tasks) > 10
        for task in tasks:
            assert cluster.finished(asked, task)["state"] == "succeeded"
        refused = cli(cluster, "peers", "remove", "n9", "--yes")
        assert refused.returncode == 3 and "n9" in refused.stderr


def test_map_goes_on_whose_items_were_named_on_a_node_that_is_gone_for_good(
    tmp_path: Path,
) -> None:
    """A result is replicated; what was printed went with the node, and nobody waits for it."""
    with Cluster(tmp_path) as cluster:
        gone = next(peer for peer in cluster.ids if peer != cluster.leader())
        for peer in cluster.ids:
            if peer != gone:
                path = f"/v1/nodes/{peer}/cordon"
                assert cluster.request(gone, "POST", path, {}).status == 200
        left = cluster.submit(gone, ["echo '[1, 2]' > $RAFTSCHED_RESULT_FILE"], shell=True)
        printed = cluster.submit(gone, ["echo 1; echo 2"], shell=True)
        for task in (left, printed):
            assert cluster.finished(gone, task)["node"] == gone
        cluster.kill(gone)
        rest = [peer for peer in cluster.ids if peer != gone]
        cluster.leader(among=rest)
        maps = []
        for source in (left, printed):
            body = {"map": {"from": source, "task": {"command": ["true", "{item}"]}}}
            answer = cluster.request(rest[0], "POST", "/v1/tasks", body)
            assert answer.status == 201, answer
            maps.append(answer.json["id"])
        for peer in rest:
            path = f"/v1/nodes/{peer}/uncordon"
            assert cluster.request(rest[0], "POST", path, {}).status == 200
        removed = cluster.request(rest[0], "DELETE", f"/v1/cluster/peers/{gone}?wait=15s")
        assert (removed.status, removed.json["done"]) == (200, True), removed
        whole, lost = (cluster.finished(rest[0], task) for task in maps)
        assert whole["state"] == "succeeded"
        assert lost["state"] == "failed"
        assert lost["reason"] == (
            f"items-gone: {gone}, which ran {printed}, was removed with what it left"
        )


def test_survivor_of_a_lost_majority_goes_on_and_the_cluster_grows_again(tmp_path: Path) -> None:
    with Cluster(tmp_path) as cluster:
        task = cluster.submit("n3", ["true"])
        cluster.finished("n3", task)
        for peer in cluster.ids:
            cluster.kill(peer)
        words = ["recover", "--config", str(cluster.config), "--id", "n3"]
        words += ["--data-dir", str(tmp_path / "n3")]
        looked = cli(cluster, *words)
        assert (looked.returncode, "nothing was changed" in looked.stderr) == (10, True)
        assert "given up    n1, n2" in looked.stdout
        done = cli(cluster, *words, "--yes-i-accept-data-loss")
        assert done.returncode == 0, done.stderr
        cluster.start("n3")
        assert cluster.leader(among=["n3"]) == "n3"
        cluster.ready("n3")
        assert cluster.task("n3", task)["state"] == "succeeded"
        assert "goes on by force: n3 went on alone" in (tmp_path / "n3.log").read_text()
        cluster.start("n1")
        assert cluster.processes["n1"].wait(15) == 13
        new = cluster.join("n4")
        added = cluster.request("n3", "POST", "/v1/cluster/peers?wait=15s", new)
        assert (added.status, added.json["done"]) == (200, True), added
        cluster.ready("n4")
        assert cluster.task("n4", task)["state"] == "succeeded"
