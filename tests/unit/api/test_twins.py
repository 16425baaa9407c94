"""Twins: how they are asked for and shown, and whose result is read."""

from __future__ import annotations

import json
from typing import Any

import pytest

from raftsched.core.commands import Speculate, Straggler
from raftsched.core.outcomes import Accepted
from tests.unit.api.forks import a_map, tree
from tests.unit.api.harness import Api

LARGE = json.dumps(["word"] * 30_000).encode()
SPEEDY = {"factor": 1.5, "after_share": 0.25, "min_seconds": 0.5}


async def twinned(api: Api, **end: Any) -> None:
    """``m.0`` ran on n2 and was overtaken by its twin on n1, which ended so."""
    for node_id in ("n1", "n2"):
        api.service.add_node(node_id)
    await api.submit("m", command=None, **a_map(items=[1, 2], speculate=SPEEDY))
    api.service.start("m.0", "n2")
    api.service.start("m.1", "n2")
    api.service.finish("m.1", result=b"11")
    straggler = api.state.tasks.get("m.0")
    assert straggler is not None
    made = api.service.apply(Speculate((Straggler("m.0", straggler.token),)))
    assert made == Accepted(("m.0~2",))
    api.service.start("m.0~2", "n1")
    api.service.finish("m.0~2", **end)
    api.service.finish("m.0", "cancelled")


async def test_a_map_says_when_its_items_have_twins(api: Api) -> None:
    usual = {"factor": 2.0, "after_share": 0.5, "min_seconds": 5.0}
    asked = {"a": (True, usual), "b": (SPEEDY, SPEEDY), "c": (False, None), "d": ({}, usual)}
    asked["e"] = ({"min_seconds": "2m"}, {**usual, "min_seconds": 120.0})
    for task_id, (speculate, shown) in asked.items():
        made = await api.submit(task_id, command=None, **a_map(items=[1], speculate=speculate))
        assert made["fork"]["speculate"] == shown


async def test_a_template_may_ask_for_twins(api: Api) -> None:
    document = {"map": {"task": {"command": ["true"]}, "range": [3], "speculate": SPEEDY}}
    put = await api.ask("PUT", "/v1/templates/t", {"task": document})
    assert put.status == 201, put.body
    made = await api.submit("m", command=None, template={"name": "t"})
    assert made["fork"]["speculate"] == SPEEDY


async def test_a_part_and_its_twin_name_each_other(api: Api) -> None:
    await twinned(api, result=b"10")
    one, two = (await tree(api, "m"))["items"]
    assert (one["id"], one["twin"], one["twin_of"]) == ("m.0", "m.0~2", None)
    assert (one["state"], one["reason"]) == ("succeeded", "twin-succeeded")
    assert (two["id"], two["twin"], two["twin_of"]) == ("m.1", None, None)
    twin = (await api.get("/v1/tasks/m.0~2")).json()
    assert (twin["twin_of"], twin["parent"], twin["node"]) == ("m.0", None, "n1")
    assert twin["constraints"] == ["node.id != n2"]
    explained = (await api.get("/v1/tasks/m.0~2/explain")).json()
    assert explained["verdict"] == "ended"


async def test_a_result_of_a_twin_is_that_of_its_part(api: Api) -> None:
    await twinned(api, result=b"10", exit_code=0)
    shown = (await api.get("/v1/tasks/m.0")).json()
    assert (shown["result"], shown["exit_code"], shown["signal"]) == (10, 0, None)
    assert (await api.get("/v1/tasks/m.0/result")).body == b"10"
    lines = (await api.get("/v1/tasks/m/results")).lines()
    assert [(line["id"], line["state"], line["result"]) for line in lines] == [
        ("m.0", "succeeded", 10), ("m.1", "succeeded", 11),
    ]  # fmt: skip
    assert (await api.get("/v1/tasks/m")).json()["state"] == "succeeded"


async def test_a_large_result_of_a_twin_is_read_where_it_is(api: Api) -> None:
    await twinned(api, result_bytes=len(LARGE))
    api.service.results["m.0~2", 1] = LARGE
    shown = (await api.get("/v1/tasks/m.0")).json()
    url = "/v1/tasks/m.0/result"
    assert (shown["result"], shown["result_bytes"], shown["result_url"]) == (None, len(LARGE), url)
    assert shown["result_at"] == {"task": "m.0~2", "node": "n1", "attempt": 1}
    for path in (url, "/v1/tasks/m.0~2/attempts/1/result"):
        assert (await api.get(path)).body == LARGE
    (await api.get("/v1/tasks/m.0/attempts/1/result")).problem(404, "no-result")
    [line, _] = (await api.get("/v1/tasks/m/results")).lines()
    assert line["result_bytes"] == len(LARGE)


async def test_a_twin_without_a_result_says_whose_it_is(api: Api) -> None:
    await twinned(api)
    detail = (await api.get("/v1/tasks/m.0/result")).problem(404, "no-result")["detail"]
    assert detail.startswith("attempt 1 of task m.0~2 succeeded in its place")


@pytest.mark.parametrize("what", ["retry", "delete", "edit"])
async def test_what_is_asked_of_a_twin_is_to_be_asked_of_its_part(api: Api, what: str) -> None:
    await twinned(api)
    if what == "retry":
        answer = await api.post("/v1/tasks/m.0~2/retry", {})
    elif what == "delete":
        answer = await api.ask("DELETE", "/v1/tasks/m.0~2")
    else:
        answer = await api.ask("PATCH", "/v1/tasks/m.0~2", {"priority": 60})
    assert answer.status == 409, answer.body
    if what != "edit":
        whole = "m" if what == "retry" else "m.0"
        assert answer.problem(409, "part-of-tree")["task_id"] == whole


async def test_a_filter_never_tries_a_twin_again(api: Api) -> None:
    await twinned(api, status="failed")
    answer = await api.post("/v1/tasks:retry?state=failed&dry_run=1", {})
    assert "m.0~2" not in answer.body.decode(), answer.body
    again = await api.post("/v1/tasks/m/retry", {})
    assert again.json()["fork"]["speculate"] == SPEEDY
    parts = (await tree(api, again.json()["id"]))["items"]
    assert [part["twin"] for part in parts] == [None, None]


async def test_a_try_of_what_failed_keeps_the_result_of_a_twin(api: Api) -> None:
    for node_id in ("n1", "n2"):
        api.service.add_node(node_id)
    asked = a_map(items=[1, 2, 3], speculate=SPEEDY, on_failure="finish")
    await api.submit("m", command=None, **asked)
    for number in range(3):
        api.service.start(f"m.{number}", "n2")
    api.service.finish("m.1", result=b"11")
    straggler = api.service.task("m.0")
    api.service.apply(Speculate((Straggler("m.0", straggler.token),)))
    api.service.start("m.0~2", "n1")
    api.service.finish("m.0~2", result_bytes=len(LARGE))
    api.service.results["m.0~2", 1] = LARGE
    api.service.finish("m.0", "cancelled")
    api.service.finish("m.2", "failed")
    made = (await api.post("/v1/tasks/m/retry", {"only": "failed"})).json()
    new = made["id"]
    assert made["fork"]["speculate"] == SPEEDY
    one, two, three = (await tree(api, new))["items"]
    assert [part["state"] for part in (one, two, three)] == ["succeeded", "succeeded", "queued"]
    assert (one["reason"], one["twin"], one["attempt"]) == ("kept", None, 0)
    assert one["result_at"] == {"task": "m.0~2", "node": "n1", "attempt": 1}
    assert two["result_at"] == {"task": "m.1", "node": "n2", "attempt": 1}
    assert (await api.get(one["result_url"])).body == LARGE
    (await api.ask("DELETE", "/v1/tasks/m")).problem(409, "task-has-dependents")
    api.service.run(f"{new}.2")
    assert (await api.get(f"/v1/tasks/{new}")).json()["state"] == "succeeded"
    assert (await api.ask("DELETE", "/v1/tasks/m")).status == 204
    gone = (await api.get(one["result_url"])).problem(410, "output-gone")
    assert "m.0~2" in gone["detail"]
    assert (await api.get(two["result_url"] or f"/v1/tasks/{new}.1/result")).body == b"11"
