"""Templates through real peers: a run and a schedule of one, while the leader is killed."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.cluster import Cluster, until

pytestmark = pytest.mark.timeout(90)

PATH = "/v1/templates/report"


def _template(runs: Path) -> dict[str, Any]:
    """A workflow: a map over parts, each a line in a file, and a line for the whole."""
    line = f'echo "$RAFTSCHED_TASK_ID $LINE" >> {runs}'

    def said(text: str) -> dict[str, Any]:
        return {"command": line, "shell": True, "env": {"LINE": text}}

    each = {"map": {"task": said("${day} part {item}"), "items": "${parts}"}}
    join = {**said("${day} whole"), "depends_on": ["parts"]}
    return {
        "parameters": {"day": {}, "parts": {"type": "list", "default": ["a", "b"]}},
        "task": {"workflow": {"tasks": [{**each, "name": "parts"}, {**join, "name": "whole"}]}},
    }


def _put(cluster: Cluster, peer: str, path: str, document: Any) -> Any:
    """What was made, once the new cluster has agreed on what its peers know."""
    answer = cluster.request(peer, "PUT", path, document)
    assert answer.status in (200, 201) or answer.json["code"] == "needs-version", answer
    return answer.status in (200, 201) and answer.json


def _run(cluster: Cluster, peer: str, day: str, **fields: Any) -> str:
    body = {"parameters": {"day": day}, **fields}
    answer = cluster.request(peer, "POST", f"{PATH}/run", body)
    assert answer.status == 201, answer
    assert answer.json["template"] == "report@1"
    return str(answer.json["id"])


def _slots(cluster: Cluster, peer: str) -> Any:
    return cluster.request(peer, "GET", "/v1/schedules/tick/slots").json["items"]


def _succeeded(cluster: Cluster, peer: str, count: int) -> bool:
    return [slot["status"] for slot in _slots(cluster, peer)].count("succeeded") >= count


def test_runs_and_slots_of_a_template_are_whole_and_once_through_a_killed_leader(
    tmp_path: Path,
) -> None:
    with Cluster(tmp_path) as cluster:
        runs = tmp_path / "runs"
        leader = cluster.leader()
        others = [peer for peer in cluster.ids if peer != leader]
        until(lambda: _put(cluster, others[0], PATH, _template(runs)))
        # Through the peer that did not write it, at once.
        first = _run(cluster, others[1], "first")
        schedule = {
            "every": "1s",
            "overlap": "allow",
            "task": {"template": {"name": "report", "parameters": {"day": "slot", "parts": ["x"]}}},
        }
        shown = _put(cluster, others[0], "/v1/schedules/tick", schedule)
        assert shown["task"] == schedule["task"]
        until(partial(_succeeded, cluster, others[0], 1))
        second = _run(cluster, others[0], "second", id="second")

        cluster.kill(leader)
        heir = cluster.leader(among=others)
        third = _run(cluster, heir, "third", priority=90)
        done = len(_slots(cluster, heir))
        until(partial(_succeeded, cluster, heir, done + 1))
        cluster.start(leader)
        cluster.ready(leader)
        # What it did not hear of it has now, and so it can run it.
        until(lambda: cluster.request(leader, "GET", PATH).status == 200)
        fourth = _run(cluster, leader, "fourth")
        assert cluster.request(heir, "POST", "/v1/schedules/tick/pause", {}).status == 200

        for task in (first, second, third, fourth):
            assert cluster.finished(heir, task)["state"] == "succeeded"
        slots = until(lambda: _ended(_slots(cluster, heir)))
        assert {(slot["status"], slot["count"]) for slot in slots} == {("succeeded", 1)}
        made = [cluster.task(heir, slot["task"]) for slot in slots]
        assert {task["template"] for task in made} == {"report@1"}
        expected = {f"{slot['task']}.parts.0 slot part x" for slot in slots}
        expected |= {f"{slot['task']}.whole slot whole" for slot in slots}
        for task, day in (
            (first, "first"),
            (second, "second"),
            (third, "third"),
            (fourth, "fourth"),
        ):
            expected |= {f"{task}.parts.{n} {day} part {item}" for n, item in enumerate("ab")}
            expected.add(f"{task}.whole {day} whole")
        # What the killed peer could not report any more is run again, and so may stand there twice.
        assert set(runs.read_text().splitlines()) == expected


def _ended(slots: list[Any]) -> Any:
    return all(slot["status"] != "fired" for slot in slots) and slots
