"""Trying again: all of a task, or only what failed of it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from raftsched.api import retries
from raftsched.core.commands import AddSubtasks
from tests.unit.api.forks import a_map, named
from tests.unit.api.harness import Api
from tests.unit.api.retrying import ONLY, again, end, many, states, workflow


async def lines(api: Api, task_id: str) -> list[Any]:
    return (await api.get(f"/v1/tasks/{task_id}/results")).lines()


async def test_of_a_map_the_one_that_failed_runs_and_the_results_stand_in_order(one: Api) -> None:
    await one.submit("m", command=None, **a_map(range=[20], on_failure="finish"))
    for number in range(20):
        end(one, f"m.{number}", "failed" if number == 7 else "succeeded", result=b"%d" % number)
    new = await again(one, "m")
    assert [name for name, state in (await states(one, new)).items() if state == "queued"] == ["7"]
    end(one, f"{new}.7", result=b"70")
    assert (await one.get(f"/v1/tasks/{new}")).json()["state"] == "succeeded"
    found = await lines(one, new)
    assert [line["result"] for line in found] == [*range(7), 70, *range(8, 20)]
    assert [line["index"] for line in found] == [*range(20)]
    assert {line["reason"] for line in found} == {"kept", ""}
    kept = (await one.get(f"/v1/tasks/{new}.0")).json()
    assert kept["result_at"] == {"task": "m.0", "node": "n1", "attempt": 1}
    assert (kept["attempt"], kept["exit_code"], kept["result"]) == (0, 0, 0)
    assert (await one.get(f"/v1/tasks/{new}.0/result")).body == b"0"


async def test_what_waited_for_what_failed_runs_and_what_did_not_is_kept(one: Api) -> None:
    await workflow(one, named("a"), named("b"), named("left", "a"), named("merge", "left", "b"))
    end(one, "w.a")
    end(one, "w.b", "failed")
    end(one, "w.left")
    new = await again(one)
    assert await states(one, new) == {
        "a": "succeeded", "b": "queued", "left": "succeeded", "merge": "waiting",
    }  # fmt: skip
    one.service.run(f"{new}.b")
    one.service.run(f"{new}.merge")
    assert (await one.get(f"/v1/tasks/{new}")).json()["state"] == "succeeded"


async def test_what_succeeded_after_a_failure_is_run_again_as_its_inputs_are_others(
    one: Api,
) -> None:
    minds = {"task": "backup", "on": "failure"}
    always = {"task": "backup", "on": "always"}
    await workflow(one, named("backup"), named("alert", minds), named("clean", always))
    end(one, "w.backup", "failed")
    end(one, "w.alert")
    end(one, "w.clean")
    new = await again(one)
    assert await states(one, new) == {"backup": "queued", "alert": "waiting", "clean": "waiting"}
    one.service.run(f"{new}.backup")
    assert await states(one, new) == {
        "backup": "succeeded", "alert": "cancelled", "clean": "queued",
    }  # fmt: skip


async def test_what_was_skipped_stays_so_and_what_came_after_it_is_kept(one: Api) -> None:
    alert = named("alert", {"task": "a", "on": "failure"})
    after = named("after", {"task": "alert", "on": "always"})
    await workflow(one, named("a"), alert, after, named("b"))
    end(one, "w.a")
    end(one, "w.after")
    end(one, "w.b", "failed")
    new = await again(one)
    assert await states(one, new) == {
        "a": "succeeded", "alert": "cancelled", "after": "succeeded", "b": "queued",
    }  # fmt: skip


async def test_one_that_needed_only_what_is_kept_is_kept(one: Api) -> None:
    await workflow(one, named("a"), named("b"), named("first", "a", "b", needs="any"))
    end(one, "w.a")
    end(one, "w.first")
    end(one, "w.b", "failed")
    assert await states(one, await again(one)) == {
        "a": "succeeded", "b": "queued", "first": "succeeded",
    }  # fmt: skip


async def test_forks_within_are_made_again_with_what_they_keep(one: Api) -> None:
    each = {"name": "each", **a_map(range=[3], on_failure="ignore")}
    inner = {"name": "in", "workflow": {"tasks": [named("x"), named("y", "x")]}}
    await workflow(one, each, inner, named("merge", "each"), named("last", "in"))
    for number in range(3):
        end(one, f"w.each.{number}", "failed" if number == 1 else "succeeded")
    end(one, "w.merge")
    end(one, "w.in.x")
    end(one, "w.in.y")
    end(one, "w.last", "failed")
    new = await again(one)
    assert await states(one, f"{new}.each") == {
        "0": "succeeded", "1": "queued", "2": "succeeded",
    }  # fmt: skip
    assert await states(one, f"{new}.in") == {"x": "succeeded", "y": "succeeded"}
    assert await states(one, new) == {
        "each": "waiting", "in": "succeeded", "merge": "waiting", "last": "queued",
    }  # fmt: skip


async def test_a_map_whose_source_runs_again_gets_its_items_from_it(one: Api) -> None:
    source = named("list", {"task": "may", "on": "always"})
    each = {"name": "each", "map": {"from": "list", "task": {"command": ["true"]}}}
    await workflow(one, named("may"), source, each)
    end(one, "w.may", "failed")
    end(one, "w.list", result=b"[1]")
    one.service.apply(AddSubtasks("w.each", 0, (), is_last=True))
    new = await again(one)
    fork = (await one.get(f"/v1/tasks/{new}.each")).json()["fork"]
    assert (fork["items_from"], fork["is_open"]) == (f"{new}.list", True)


async def test_a_broadcast_is_tried_again_where_it_failed(one: Api) -> None:
    one.service.add_node("n2")
    await one.submit("t", broadcast="all")
    one.service.run("t.1", "n1")
    one.service.start("t.2", "n2")
    one.service.finish("t.2", "failed")
    new = await again(one, "t")
    assert await states(one, new) == {"1": "succeeded", "2": "queued"}
    assert (await one.get(f"/v1/tasks/{new}.2")).json()["constraints"] == ["node.id = n2"]
    one.service.run(f"{new}.2", "n2")
    assert (await one.get(f"/v1/tasks/{new}")).json()["state"] == "succeeded"


async def test_a_task_without_parts_is_simply_tried_again(one: Api) -> None:
    await one.submit("t")
    end(one, "t", "failed")
    made = (await one.post("/v1/tasks/t/retry", ONLY)).json()
    assert (made["state"], made["retry_of"]) == ("queued", "t")


async def test_allowed_failures_of_what_succeeded_may_be_tried_again(one: Api) -> None:
    await one.submit("m", command=None, **a_map(range=[2], on_failure="ignore"))
    end(one, "m.0", "failed")
    end(one, "m.1")
    (await one.post("/v1/tasks/m/retry", {})).problem(409, "task-succeeded")
    assert await states(one, await again(one, "m")) == {"0": "queued", "1": "succeeded"}


async def test_of_what_succeeded_whole_nothing_is_tried_again(one: Api) -> None:
    await one.submit("m", command=None, **a_map(range=[2]))
    for number in range(2):
        one.service.run(f"m.{number}")
    before = one.service.rows()
    (await one.post("/v1/tasks/m/retry", ONLY)).problem(409, "task-succeeded")
    assert one.service.rows() == before


async def test_a_part_by_itself_names_the_whole_and_the_call(one: Api) -> None:
    await workflow(one, named("a"), {"name": "in", "workflow": {"tasks": [named("x")]}})
    end(one, "w.in.x", "failed")
    end(one, "w.a")
    for part in ("w.in.x", "w.in"):
        for body in ({}, ONLY):
            problem = (await one.post(f"/v1/tasks/{part}/retry", body)).problem(409, "part-of-tree")
            assert problem["task_id"] == "w"
            assert 'POST /v1/tasks/w/retry with {"only": "failed"}' in problem["detail"]


async def test_the_same_key_makes_one_and_another_body_is_another_request(one: Api) -> None:
    await workflow(one, named("a"), named("b"))
    end(one, "w.a")
    end(one, "w.b", "failed")
    first = await one.post("/v1/tasks/w/retry", ONLY, Idempotency_Key="k")
    second = await one.post("/v1/tasks/w/retry", ONLY, Idempotency_Key="k")
    assert (first.status, second.status) == (201, 200)
    assert first.json()["id"] == second.json()["id"]
    other = await one.post("/v1/tasks/w/retry", {}, Idempotency_Key="k")
    other.problem(422, "idempotency-key-reused")


async def test_wrong_bodies_are_pointed_at_and_a_dry_run_changes_nothing(one: Api) -> None:
    await workflow(one, named("a"))
    end(one, "w.a", "failed")
    before = one.service.rows()
    wrong = await one.post("/v1/tasks/w/retry", {"only": "succeeded"})
    assert wrong.pointer(422, "invalid") == "/only"
    wrong = await one.post("/v1/tasks/w/retry", {"which": "failed"})
    assert wrong.pointer(422, "invalid") == "/which"
    assert (await one.post("/v1/tasks/w/retry?dry_run=1", ONLY)).json() == {"valid": True}
    assert one.service.rows() == before


async def test_all_that_match_are_tried_again_as_far_as_they_failed(
    one: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    await many(one, 12, 3)
    await workflow(one, named("a"), named("b"))
    end(one, "w.a")
    end(one, "w.b", "failed")
    monkeypatch.setattr(retries, "PARTS_MAX", 10)
    answer = (await one.post("/v1/tasks:retry?state=failed", ONLY)).json()
    assert (answer["matched"], answer["changed"]) == (2, 1)
    assert await states(one, answer["ids"][0]) == {"a": "succeeded", "b": "queued"}
    [refused] = answer["refused"]
    assert (refused["id"], refused["code"]) == ("m", "too-large")


LARGE = json.dumps(["word"] * 30_000).encode()


async def test_a_large_result_that_is_kept_is_read_where_it_lies(one: Api) -> None:
    await workflow(one, named("a"), named("b"))
    end(one, "w.a", result_bytes=len(LARGE))
    one.service.results["w.a", 1] = LARGE
    end(one, "w.b", "failed")
    new = await again(one)
    row = (await one.get(f"/v1/tasks/{new}.a")).json()
    assert (row["result"], row["result_bytes"]) == (None, len(LARGE))
    assert row["result_url"] == f"/v1/tasks/{new}.a/result"
    assert (await one.get(row["result_url"])).body == LARGE
    assert (await lines(one, new))[0]["result_bytes"] == len(LARGE)
    one.service.run(f"{new}.b")
    await one.ask("DELETE", "/v1/tasks/w")
    gone = (await one.get(row["result_url"])).problem(410, "output-gone")
    assert "w.a" in gone["detail"]
