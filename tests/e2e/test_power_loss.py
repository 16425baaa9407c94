"""Power loss of one, of a majority, of all machines: what was acknowledged is there afterwards.

Real processes over TLS on file systems that forget what was not synced (`powerfs`).
"""

from __future__ import annotations

import http.client
import os
import random
import threading
from pathlib import Path
from typing import Any

import pytest

from raftsched.core.versions import WORKFLOWS
from tests.e2e.cluster import Answer, Cluster, until
from tests.e2e.machines import PowerCluster, power

pytestmark = pytest.mark.timeout(1800 if os.environ.get("RAFTSCHED_SOAK") else 120)

ROUNDS = 20 if os.environ.get("RAFTSCHED_SOAK") else 1
__all__ = ["power"]


class Load:
    """Submits through every peer in turn until stopped, and remembers what it was told."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._is_over = threading.Event()
        #: Tasks whose submission was answered with 201.
        self.acknowledged: list[str] = []
        #: What was read of tasks that had ended, by id.
        self.ended: dict[str, Any] = {}
        self._threads = [threading.Thread(target=self._run, args=[peer]) for peer in cluster.ids]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        for thread in self._threads:
            thread.join()

    def goes_on(self, count: int) -> None:
        """Return once so many more are acknowledged, and some more have ended."""
        acknowledged, ended = len(self.acknowledged), len(self.ended)
        until(lambda: len(self.acknowledged) >= acknowledged + count and len(self.ended) > ended)

    def _run(self, peer: str) -> None:
        task = ""
        while not self._is_over.is_set():
            try:
                # On a busy machine the latest never has ended yet: wait for one, and go on with it.
                if task and self._has_ended(peer, task):
                    task = ""
                submitted = self._submit(peer)
                task = task or submitted or ""
            except (OSError, http.client.HTTPException):
                self._is_over.wait(0.02)

    def _submit(self, peer: str) -> str | None:
        # While its machine goes dark a runner without a disk may still say that nothing starts.
        body = {"command": ["true"], "retry": {"max_attempts": 5}}
        answer = self._cluster.request(peer, "POST", "/v1/tasks", body, timeout=5)
        if answer.status != 201:
            self._is_over.wait(0.02)
            return None
        identity: str = answer.json["id"]
        self.acknowledged.append(identity)
        return identity

    def _has_ended(self, peer: str, task: str) -> bool:
        answer = self._cluster.request(peer, "GET", f"/v1/tasks/{task}", timeout=5)
        if answer.status == 200 and answer.json["finished_at"]:
            self.ended[task] = answer.json
        return task in self.ended


def missing(cluster: Cluster, peer: str, tasks: list[str]) -> list[str]:
    """Those of the tasks that a peer does not know, as it says itself."""
    lost = []
    for task in tasks:
        answer = cluster.request(peer, "GET", f"/v1/tasks/{task}")
        assert answer.status in (200, 404), answer
        if answer.status == 404:
            lost.append(task)
    return lost


def same_replicas(cluster: Cluster) -> bool:
    """Do all replicas have one digest, once they can be asked?"""
    found: list[Answer] = []

    def answered() -> bool:
        # Refused until the version that has it is in force, just after a first start.
        found.append(cluster.request(cluster.ids[0], "POST", "/v1/cluster:verify?wait=10s", {}))
        return found[-1].status != 409

    until(answered)
    [*_, last] = found
    verdicts = [row["verdict"] for row in last.json.get("peers", ())]
    assert (last.status, verdicts) == (200, ["same"] * len(cluster.ids)), f"{found}"
    return True


def check(cluster: Cluster, load: Load) -> None:
    """Nothing that anybody was told is untrue now, on any peer; what waited was done."""
    cluster.leader()
    for peer in cluster.ids:
        cluster.ready(peer)
        assert missing(cluster, peer, load.acknowledged) == []
        for task, told in sorted(load.ended.items()):
            assert cluster.task(peer, task) == told
    for task in load.acknowledged:
        assert cluster.finished(cluster.ids[0], task)["state"] == "succeeded"
    assert same_replicas(cluster)
    assert "Traceback" not in cluster.logs()


def some(cluster: Cluster, which: str) -> list[str]:
    leader = cluster.leader()
    rest = [peer for peer in cluster.ids if peer != leader]
    return {"leader": [leader], "majority": [leader, rest[0]], "all": cluster.ids}[which]


@pytest.mark.parametrize("which", ["all", "majority", "leader"])
def test_what_was_acknowledged_survives_the_loss_of_power(power: PowerCluster, which: str) -> None:
    chance = random.Random(f"{which} {os.environ.get('RAFTSCHED_SOAK_SEED', '')}")
    earlier: list[str] = []
    with power as cluster:
        for number in range(2 * ROUNDS):
            with Load(cluster) as load:
                load.goes_on(20)
                dark = some(cluster, which)
                seed = chance.randrange(2**32) if number % 2 else None
                cluster.cut_power(dark, seed, after=chance.randrange(1, 60))
                if which == "leader":
                    load.goes_on(10)
                cluster.power_on(dark)
                load.goes_on(10)
            check(cluster, load)
            earlier += load.acknowledged
        for peer in cluster.ids:
            assert missing(cluster, peer, earlier) == []


def test_large_result_that_was_told_survives_the_loss_of_power(power: PowerCluster) -> None:
    line = (
        "(printf '\"'; head -c 199998 /dev/zero | tr '\\0' x; printf '\"') > $RAFTSCHED_RESULT_FILE"
    )
    with power as cluster:

        def is_known() -> bool:
            document = cluster.request("n1", "GET", "/v1/cluster").json
            return bool(document["cluster_version"] >= WORKFLOWS)

        until(is_known)
        for number in range(2 * ROUNDS):
            task = cluster.submit("n1", [line], shell=True)
            assert cluster.finished("n1", task)["result_bytes"] == 200_000
            cluster.cut_power(cluster.ids, number if number % 2 else None)
            cluster.power_on(cluster.ids)
            cluster.leader()
            for peer in cluster.ids:
                cluster.ready(peer)
            for peer in cluster.ids:
                answer = cluster.request(peer, "GET", f"/v1/tasks/{task}/result")
                assert (answer.status, len(answer.raw)) == (200, 200_000), answer


def test_power_lost_in_the_middle_of_a_first_start(power: PowerCluster) -> None:
    """Whatever is half made is made again; nobody has to clear a directory away."""
    with power as cluster:
        for number in range(ROUNDS):
            for peer in cluster.ids:
                cluster.kill(peer)
                cluster.machines[peer].kill_all()
            cluster.place = Path("var", f"{number}")
            for place, peer in enumerate(cluster.ids):
                # All three within what a first start takes, each somewhere else.
                at = 1 + (7 * number + 11 * place) % 30
                seed = "" if number % 2 else number
                assert cluster.machines[peer].order(f"cut-at {at} {seed}") == "ok"
                cluster.start(peer)
            for machine in cluster.machines.values():
                until(machine.is_off)
            cluster.end(cluster.ids)
            cluster.power_on(cluster.ids)
            with Load(cluster) as load:
                load.goes_on(3)
            check(cluster, load)


def test_disk_that_only_says_that_it_synced_loses_what_was_acknowledged(
    power: PowerCluster,
) -> None:
    """The control: these tests can fail."""
    with power as cluster:
        with Load(cluster) as before:
            before.goes_on(10)
        for machine in cluster.machines.values():
            assert machine.order("deaf") == "ok"
        with Load(cluster) as load:
            load.goes_on(20)
            cluster.cut_power(cluster.ids)
        cluster.power_on(cluster.ids)
        cluster.leader()
        for peer in cluster.ids:
            cluster.ready(peer)
            assert missing(cluster, peer, before.acknowledged) == []
            assert missing(cluster, peer, load.acknowledged) != []
