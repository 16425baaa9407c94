"""Schedules through real peers: every instant has one slot and one run, whoever leads."""

from __future__ import annotations

import datetime as dt
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.cluster import Cluster, until

pytestmark = pytest.mark.timeout(90)

PATH = "/v1/schedules/tick"


def _slots(cluster: Cluster, peer: str) -> list[Any]:
    answer = cluster.request(peer, "GET", f"{PATH}/slots?limit=1000")
    assert answer.status == 200, answer
    items: list[Any] = answer.json["items"]
    return items


def _fail_over(cluster: Cluster) -> None:
    """The leader is killed; another one leads, and has it fire, before it comes back."""
    leader = cluster.leader()
    cluster.kill(leader)
    rest = [peer for peer in cluster.ids if peer != leader]
    heir = cluster.leader(among=rest)
    known = len(_slots(cluster, heir))
    until(lambda: len(_slots(cluster, heir)) > known)
    cluster.start(leader)
    cluster.ready(leader)


def test_every_second_has_one_slot_and_runs_once_while_leaders_are_killed(tmp_path: Path) -> None:
    with Cluster(tmp_path) as cluster:
        peer = cluster.ids[0]
        runs = tmp_path / "runs"
        document = {
            "cron": "* * * * * *",
            "overlap": "allow",
            "task": {"command": f"echo $RAFTSCHED_TASK_ID >> {runs}", "shell": True},
        }
        made = until(lambda: _put(cluster, peer, document))
        assert made["next_at"]
        until(lambda: runs.exists())
        _fail_over(cluster)
        _fail_over(cluster)
        peer = cluster.leader()
        until(lambda: len(_slots(cluster, peer)) >= 5)  # Both may have been over in three seconds.
        assert cluster.request(peer, "POST", f"{PATH}/pause", {}).status == 200

        slots = until(lambda: _ended(_slots(cluster, peer)))
        assert {(slot["status"], slot["count"]) for slot in slots} == {("succeeded", 1)}
        seconds = sorted(dt.datetime.fromisoformat(slot["at"]) for slot in slots)
        steps = {later - earlier for earlier, later in pairwise(seconds)}
        assert steps == {dt.timedelta(seconds=1)}
        assert sorted(runs.read_text().split()) == sorted(slot["task"] for slot in slots)

        view = cluster.request(peer, "GET", PATH).json
        assert (view["paused"], view["successes"], view["running"]) == (True, len(slots), [])
        numbers = cluster.request(peer, "GET", "/metrics").raw.decode()
        assert "raftsched_slots_fired_total" in numbers and "raftsched_slots_late_total" in numbers


def test_schedules_go_on_when_all_peers_come_back_with_new_addresses(tmp_path: Path) -> None:
    with Cluster(tmp_path) as cluster:
        runs = tmp_path / "runs"
        document = {
            "cron": "* * * * * *",
            "overlap": "allow",
            "misfire": "all",
            "task": {"command": f"echo $RAFTSCHED_TASK_ID >> {runs}", "shell": True},
        }
        made = until(lambda: _put(cluster, cluster.ids[0], document))
        until(lambda: runs.exists())
        before = dict(cluster.api)
        for peer in cluster.ids:
            cluster.kill(peer)
        cluster.move()
        assert not set(before.values()) & set(cluster.api.values())
        for peer in cluster.ids:
            cluster.start(peer)
        peer = cluster.leader()
        known = len(runs.read_text().split())
        until(lambda: len(runs.read_text().split()) > known + 2)

        view = cluster.request(peer, "GET", PATH).json
        assert (view["version"], view["created_at"]) == (made["version"], made["created_at"])
        assert cluster.request(peer, "POST", f"{PATH}/pause", {}).status == 200
        slots = until(lambda: _ended(_slots(cluster, peer)))
        seconds = sorted(dt.datetime.fromisoformat(slot["at"]) for slot in slots)
        assert {b - a for a, b in pairwise(seconds)} == {dt.timedelta(seconds=1)}
        tasks = sorted(slot["task"] for slot in slots if slot["task"])
        assert sorted(set(runs.read_text().split())) == tasks


def _put(cluster: Cluster, peer: str, document: Any) -> Any:
    """The schedule, once the new cluster has agreed on what its peers know."""
    answer = cluster.request(peer, "PUT", PATH, document)
    assert answer.status == 201 or answer.json["code"] == "needs-version", answer
    return answer.status == 201 and answer.json


def _ended(slots: list[Any]) -> Any:
    return all(slot["status"] != "fired" for slot in slots) and slots
