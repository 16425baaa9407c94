"""Trying again: all of a task, or only what failed of it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from raftsched.api import retries
from raftsched.core import codec
from raftsched.core.commands import (
    AddSubtasks,
    ApplyRetention,
    CancelTask,
    DeleteTask,
    SubmitTasks,
    UpdateSettings,
)
from raftsched.core.model import Settings
from raftsched.core.outcomes import Accepted, Reason, Rejected
from raftsched.peer.errors import NoLeader
from tests.unit.api.harness import Api
from tests.unit.api.test_workflows import a_map, named, tree

ONLY = {"only": "failed"}


@pytest.fixture
async def one(api: Api) -> Api:
    """An API with a node."""
    api.service.add_node("n1")
    return api


async def workflow(api: Api, *tasks: dict[str, Any], task_id: str = "w", **fields: Any) -> None:
    await api.submit(task_id, command=None, workflow={"tasks": [*tasks], **fields})


def end(api: Api, task_id: str, status: str = "succeeded", **fields: Any) -> None:
    api.service.start(task_id)
    api.service.finish(task_id, status, **fields)


async def again(api: Api, task_id: str = "w") -> str:
    """The id of the try of only what failed."""
    answer = await api.post(f"/v1/tasks/{task_id}/retry", ONLY)
    assert answer.status == 201, answer.body
    made = answer.json()
    assert made["retry_of"] == task_id
    return str(made["id"])


async def states(api: Api, task_id: str) -> dict[str, str]:
    """Of its parts, by their names."""
    parts = (await tree(api, task_id))["items"]
    return {part["id"].removeprefix(task_id + "."): part["state"] for part in parts}


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


# Many ---------------------------------------------------------------------------------------------


async def many(api: Api, count: int, failed: int) -> None:
    """A map of which one fails."""
    await api.submit("m", command=None, **a_map(range=[count], on_failure="finish"))
    for number in range(count):
        end(api, f"m.{number}", "failed" if number == failed else "succeeded")


@pytest.mark.parametrize("body", [ONLY, {}])
async def test_parts_that_are_too_many_follow_in_pieces(
    one: Api, monkeypatch: pytest.MonkeyPatch, body: dict[str, str]
) -> None:
    monkeypatch.setattr(retries, "PARTS_MAX", 10)
    await many(one, 12, 11)
    made = (await one.post("/v1/tasks/m/retry", body)).json()
    assert (made["subtasks"], made["fork"]["is_open"]) == (12, False)
    found = await states(one, made["id"])
    assert [*found] == [str(number) for number in range(12)]
    ran = [name for name, state in found.items() if state != "succeeded"]
    assert ran == (["11"] if body else [*found])


async def test_the_bytes_of_parts_are_bounded_in_a_submission_too(
    one: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retries, "PARTS_BYTES_MAX", 500)
    await many(one, 5, 4)
    assert [*(await states(one, await again(one, "m"))).values()] == ["succeeded"] * 4 + ["queued"]
    await workflow(one, named("a"), named("b", "a"), *[named(f"c{n}") for n in range(9)])
    end(one, "w.a", "failed")
    for number in range(9):
        end(one, f"w.c{number}")
    (await one.post("/v1/tasks/w/retry", ONLY)).problem(413, "too-large")


async def test_what_broke_off_goes_on_with_the_same_key(
    one: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retries, "PARTS_MAX", 10)
    await many(one, 12, 11)
    one.service.proposals_before_trouble = 2
    one.service.lose_the_leader()
    broken = (await one.post("/v1/tasks/m/retry", ONLY, Idempotency_Key="k")).json()
    assert broken["applied"] == "unknown"
    one.service.propose_trouble = None
    made = (await one.post("/v1/tasks/m/retry", ONLY, Idempotency_Key="k")).json()
    assert (made["subtasks"], made["fork"]["is_open"]) == (12, False)


def beside(one: Api, kind: type[Any], *commands: Any, before: bool = False) -> list[Any]:
    """With the first proposal of this kind these commands are applied, too; their outcomes."""
    propose, outcomes = one.service.propose, list[Any]()

    async def proposed(command: Any, timeout_seconds: float = 10.0) -> Any:
        is_first = isinstance(command, kind) and not outcomes
        if is_first and before:
            outcomes.extend([one.service.apply(other) for other in commands])
        outcome = await propose(command, timeout_seconds)
        if is_first and not before:
            outcomes.extend([one.service.apply(other) for other in commands])
        return outcome

    one.service.propose = proposed  # type: ignore[method-assign]
    return outcomes


FORGET = (UpdateSettings(Settings(finished_max=0)), ApplyRetention(5), DeleteTask("m"))


@pytest.mark.parametrize("body", [ONLY, {}])
async def test_what_pieces_are_taken_from_is_held_until_the_new_one_has_ended(
    one: Api, monkeypatch: pytest.MonkeyPatch, body: dict[str, str]
) -> None:
    monkeypatch.setattr(retries, "PARTS_MAX", 10)
    await many(one, 12, 11)
    outcomes = beside(one, SubmitTasks, *FORGET)
    made = (await one.post("/v1/tasks/m/retry", body)).json()
    assert (made["subtasks"], made["fork"]["is_open"]) == (12, False)
    assert outcomes[1:] == [Accepted((0, 0)), Rejected(Reason.HAS_DEPENDENTS, made["id"])]
    one.service.apply(CancelTask(made["id"]))
    assert one.service.apply(DeleteTask("m")) == Accepted(None)


async def test_parts_are_taken_from_the_state_that_a_snapshot_brought_meanwhile(
    one: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retries, "PARTS_MAX", 10)
    await many(one, 12, 11)
    propose = one.service.propose

    async def replaced(command: Any, timeout_seconds: float = 10.0) -> Any:
        outcome = await propose(command, timeout_seconds)
        if isinstance(command, SubmitTasks):
            old = one.service.state
            chunks = list(codec.snapshot_chunks(old))
            old.end_snapshot()
            one.service.state = codec.restore_state(chunks)
            assert [*old.take_apart()]
        return outcome

    one.service.propose = replaced  # type: ignore[method-assign]
    made = (await one.post("/v1/tasks/m/retry", ONLY)).json()
    assert (made["subtasks"], made["fork"]["is_open"]) == (12, False)


@pytest.mark.parametrize("limit", [5, 100])
@pytest.mark.parametrize("body", [ONLY, {}])
async def test_what_is_deleted_just_before_is_told_and_nobody_waits_for_the_rest(
    one: Api, monkeypatch: pytest.MonkeyPatch, body: dict[str, str], limit: int
) -> None:
    monkeypatch.setattr(retries, "PARTS_MAX", 10)
    await many(one, 12, 11)
    beside(one, SubmitTasks, FORGET[0], ApplyRetention(limit), before=True)
    told = (await one.post("/v1/tasks/m/retry", body)).problem(409, "inputs-gone")
    assert "the parts of m were deleted before all of them were taken over" in told["detail"]
    [new] = [task for task in one.state.tasks.values() if not task.id.startswith("m")]
    assert (new.status, new.reason[:14]) == ("failed", "items-missing:")


@pytest.mark.parametrize("body", [ONLY, {}])
async def test_what_is_being_deleted_is_not_tried_again_with_what_is_left(
    one: Api, body: dict[str, str]
) -> None:
    await many(one, 12, 3)
    for command in (FORGET[0], ApplyRetention(5)):
        one.service.apply(command)
    assert len(one.state.trees.ids_of("m")) == 7
    told = (await one.post("/v1/tasks/m/retry", body)).problem(422, "invalid")
    assert told["detail"] == "task m does not have all of its items; submit it again"


async def test_too_many_within_another_are_refused_with_their_number(
    one: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retries, "PARTS_MAX", 3)
    await workflow(one, {"name": "each", **a_map(range=[5])})
    end(one, "w.each.0", "failed")
    problem = (await one.post("/v1/tasks/w/retry", ONLY)).problem(413, "too-large")
    assert "w.each has 5 subtasks" in problem["detail"]


async def test_one_that_never_had_all_of_its_items_is_not_tried_again(one: Api) -> None:
    one.service.proposals_before_trouble = 2
    one.service.propose_trouble = NoLeader("no leader for 3.2 s; retry later")
    broken = await one.post("/v1/tasks", {"id": "m", **a_map(range=[1_500])})
    broken.problem(504, "outcome-unknown")
    one.service.propose_trouble = None
    assert one.service.task("m.999").id == "m.999"
    one.service.apply(CancelTask("m"))
    for body in ({}, ONLY):
        problem = (await one.post("/v1/tasks/m/retry", body)).problem(422, "invalid")
        assert problem["detail"] == "task m does not have all of its items; submit it again"
    await one.submit("list")
    await one.submit("o", command=None, map={"from": "list", "task": {"command": ["true"]}})
    end(one, "list", "failed")
    problem = (await one.post("/v1/tasks/o/retry", ONLY)).problem(422, "invalid")
    assert "does not have all of its items" in problem["detail"]


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


# Large results ------------------------------------------------------------------------------------

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


async def test_a_task_that_depended_on_others_has_its_inputs_again_and_waits_for_none(
    one: Api,
) -> None:
    for name in ("good", "bad", "open"):
        await one.submit(name)
    end(one, "good", result=b"1")
    end(one, "bad", "failed")
    waits_for = ["good", {"task": "bad", "on": "failure"}, "open"]
    await one.submit("t", depends_on=waits_for, needs=2)
    end(one, "t", "failed")
    new = (await one.post("/v1/tasks/t/retry", {})).json()
    assert new["state"] == "queued"
    assert [(o["task"], o["on"]) for o in new["depends_on"]] == [
        ("good", "success"), ("bad", "failure"), ("open", "success"),
    ]  # fmt: skip


async def test_one_that_never_ran_is_tried_at_once_with_what_its_inputs_came_to(one: Api) -> None:
    for name in ("bad", "open"):
        await one.submit(name)
    end(one, "bad", "failed")
    await one.submit("t", depends_on=["bad"])
    await one.submit("u", depends_on=["open"])
    await one.post("/v1/tasks/u/cancel", {})
    new = (await one.post("/v1/tasks/t/retry", {})).json()
    assert (new["state"], new["depends_on"]) == ("queued", [{"task": "bad", "on": "always"}])
    new = (await one.post("/v1/tasks/u/retry", {})).json()
    assert (new["state"], new["depends_on"]) == ("queued", [])


async def without_inputs(one: Api, *waits_for: str, **fields: Any) -> None:
    """``t`` failed, and ``gone``, on which it depended, was deleted."""
    for name in waits_for:
        await one.submit(name)
        end(one, name, result=b"1")
    await one.submit("t", depends_on=[*waits_for], **fields)


@pytest.mark.parametrize("waits_for", [("gone",), ("there", "gone")])
async def test_one_whose_inputs_are_gone_is_not_tried_again_without_them(
    one: Api, waits_for: tuple[str, ...]
) -> None:
    await without_inputs(one, *waits_for)
    end(one, "t", "failed")
    assert (await one.ask("DELETE", "/v1/tasks/gone")).status == 204
    before = one.service.rows()
    for query in ("", "?dry_run=1"):
        told = (await one.post(f"/v1/tasks/t/retry{query}", {})).problem(409, "inputs-gone")
        assert told["detail"] == (
            "task t depended on gone, which is gone, and with it what that came to; submit it "
            "again, after what is to come before it now"
        )
    report = (await one.post("/v1/tasks:retry?state=failed", {})).json()
    assert [(refused["id"], refused["code"]) for refused in report["refused"]] == [
        ("t", "inputs-gone")
    ]
    assert one.service.rows() == before


async def test_another_task_with_the_id_of_an_input_is_none(one: Api) -> None:
    await without_inputs(one, "gone")
    end(one, "t", "failed")
    assert (await one.ask("DELETE", "/v1/tasks/gone")).status == 204
    await one.submit("gone")
    (await one.post("/v1/tasks/t/retry", {})).problem(409, "inputs-gone")


@pytest.mark.parametrize("whole", [a_map(range=[2]), {"workflow": {"tasks": [named("a")]}}])
async def test_a_whole_whose_parts_read_nothing_from_outside_is_tried_again_without_it(
    one: Api, whole: dict[str, Any]
) -> None:
    await without_inputs(one, "gone", command=None, **whole)
    assert (await one.post("/v1/tasks/t/cancel", {})).status == 200
    assert (await one.ask("DELETE", "/v1/tasks/gone")).status == 204
    new = (await one.post("/v1/tasks/t/retry", {})).json()
    assert (new["depends_on"], new["subtasks"]) == ([], len(one.service.state.trees.ids_of("t")))
