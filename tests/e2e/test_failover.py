"""What a user loses when peers die: nothing that was acknowledged."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.e2e.cluster import Cluster

pytestmark = pytest.mark.timeout(120)


def test_work_survives_the_leader_and_then_everybody(tmp_path: Path) -> None:
    with Cluster(tmp_path) as cluster:
        leader = cluster.leader()
        follower = next(peer for peer in cluster.ids if peer != leader)

        # A task through a follower, its result read there and on the leader.
        first = cluster.submit(follower, ["sh", "-c", "echo out; echo err >&2; exit 3"])
        document = cluster.finished(leader, first)
        assert (document["state"], document["exit_code"]) == ("failed", 3)

        # The leader is killed while tasks run: all end, none is lost.
        effects = tmp_path / "effects"
        tasks = [
            cluster.submit(follower, ["sh", "-c", f"sleep 0.5; echo {i} >> {effects}"])
            for i in range(20)
        ]
        time.sleep(0.3)
        cluster.kill(leader)
        began = time.monotonic()
        rest = [peer for peer in cluster.ids if peer != leader]
        assert cluster.leader(among=rest) != leader
        assert time.monotonic() - began < 10
        tasks += [cluster.submit(follower, ["sh", "-c", f"echo 20 >> {effects}"])]
        assert {cluster.finished(follower, task)["state"] for task in tasks} == {"succeeded"}
        assert {int(line) for line in effects.read_text().split()} == set(range(21))

        # It comes back and knows everything.
        cluster.start(leader)
        assert cluster.finished(leader, tasks[0])["state"] == "succeeded"

        # All are killed at once and started again.
        waiting = cluster.submit(follower, ["sh", "-c", f"sleep 1; echo 99 >> {effects}"])
        for peer in cluster.ids:
            cluster.kill(peer)
        for peer in cluster.ids:
            cluster.start(peer)
        cluster.leader()
        for task in [*tasks, waiting]:
            found = cluster.finished(follower, task)
            assert found["state"] == "succeeded", (
                found["reason"],
                found["losses"],
                found["attempt"],
            )
        assert "99" in effects.read_text().split()


def test_planned_stop_of_the_leader_fails_no_submit(tmp_path: Path) -> None:
    with Cluster(tmp_path) as cluster:
        leader = cluster.leader()
        follower = next(peer for peer in cluster.ids if peer != leader)
        cluster.processes[leader].terminate()
        deadline = time.monotonic() + 4
        tasks = []
        while time.monotonic() < deadline:
            tasks.append(cluster.submit(follower, ["true"]))
        assert cluster.processes[leader].wait(15) == 0
        states = {cluster.finished(follower, task)["state"] for task in tasks}
        assert states == {"succeeded"}
