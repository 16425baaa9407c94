"""Tasks that wait for others and consist of others: how they are asked for, shown and read."""

from __future__ import annotations

from typing import Any

import pytest

from raftsched.api import fanout
from raftsched.core.items import PIECE_TASKS_MAX
from raftsched.core.model import TASK_ID_MAX
from tests.unit.api.forks import ECHO, a_map, named, tree
from tests.unit.api.harness import Api


async def test_a_workflow_is_a_tree_whose_parts_wait_for_one_another(one: Api) -> None:
    tasks = [named("merge", "a", {"task": "b", "on": "always"}), named("b", "a"), named("a")]
    made = await one.submit("w", command=None, workflow={"tasks": tasks}, queue="night", priority=7)
    assert (made["state"], made["subtasks"]) == ("waiting", 3)
    assert made["fork"] == {
        "max_parallel": 0, "on_failure": "finish", "failures_allowed": 0, "items_from": None,
        "is_open": False, "speculate": None,
    }  # fmt: skip
    parts = {part["id"]: part for part in (await tree(one, "w"))["items"]}
    assert {task_id: part["state"] for task_id, part in parts.items()} == {
        "w.a": "queued", "w.b": "waiting", "w.merge": "waiting",
    }  # fmt: skip
    assert parts["w.merge"]["depends_on"] == [
        {"task": "w.a", "on": "success"}, {"task": "w.b", "on": "always"},
    ]  # fmt: skip
    assert {(part["queue"], part["priority"]) for part in parts.values()} == {("night", 7)}
    for task_id in ("w.a", "w.b", "w.merge"):
        one.service.run(task_id)
    assert (await one.get("/v1/tasks/w")).json()["state"] == "succeeded"


async def test_a_map_has_a_subtask_for_each_item(one: Api) -> None:
    items = ["a b", 7, {"x": [1]}]
    await one.submit("m", command=None, **a_map(items=items, max_parallel=2))
    parts = (await tree(one, "m"))["items"]
    assert [part["command"] for part in parts] == [
        ["echo", "0:a b"], ["echo", "1:7"], ["echo", '2:{"x":[1]}'],
    ]  # fmt: skip
    assert parts[0]["env"] == {"RAFTSCHED_ITEM": "a b", "RAFTSCHED_INDEX": "0"}
    assert [part["state"] for part in parts] == ["queued", "queued", "waiting"]


async def test_a_function_gets_the_item_itself(one: Api) -> None:
    plain = a_map({"python": {"function": "m:f"}}, items=[{"a": 1}])
    await one.submit("p", command=None, **plain)
    placed = {"function": "m:f", "args": ["{item.a}", "n{index}"], "kwargs": {"all": "{item}"}}
    await one.submit("q", command=None, **a_map({"python": placed}, items=[{"a": 1}]))
    (part,) = (await tree(one, "p"))["items"]
    assert part["python"]["args"] == [{"a": 1}]
    (part,) = (await tree(one, "q"))["items"]
    assert (part["python"]["args"], part["python"]["kwargs"]) == ([1, "n0"], {"all": {"a": 1}})


async def test_many_items_follow_the_submission_in_pieces(one: Api) -> None:
    count = 2 * PIECE_TASKS_MAX + 5
    made = await one.submit("m", command=None, **a_map(range=[10, 10 + count]))
    assert (made["subtasks"], made["fork"]["is_open"]) == (count, False)
    last = one.state.tasks.get(f"m.{count - 1}")
    assert last is not None and b"%d" % (9 + count) in last.spec


async def test_a_repeated_submission_goes_on_with_the_items_that_are_missing(
    one: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = {"id": "m", **a_map(range=[3 * PIECE_TASKS_MAX])}
    monkeypatch.setattr(fanout, "pieces", lambda tasks, first: iter(()))
    broken = await one.post("/v1/tasks", body, Idempotency_Key="k")
    assert broken.problem(422, "invalid")["applied"] == "unknown"
    assert (await one.get("/v1/tasks/m")).json()["fork"]["is_open"] is True
    monkeypatch.undo()
    again = await one.post("/v1/tasks", body, Idempotency_Key="k")
    assert (again.status, again.json()["subtasks"]) == (200, 3 * PIECE_TASKS_MAX)
    assert again.json()["fork"]["is_open"] is False


async def test_results_are_lines_in_the_order_of_the_items(one: Api) -> None:
    await one.submit("m", command=None, **a_map(items=[1, 2, 3], on_failure="ignore"))
    one.service.start("m.2", "n1")
    one.service.finish("m.2", result=b'{"n":3}')
    one.service.start("m.0", "n1")
    one.service.finish("m.0", "failed", reason="exit-code-1", exit_code=1)
    lines = (await one.get("/v1/tasks/m/results")).lines()
    assert [(line["index"], line["state"], line["result"]) for line in lines] == [
        (0, "failed", None), (1, "queued", None), (2, "succeeded", {"n": 3}),
    ]  # fmt: skip
    assert (lines[0]["reason"], lines[0]["exit_code"]) == ("exit-code-1", 1)
    await one.submit("t")
    (await one.get("/v1/tasks/t/results")).problem(404, "no-subtasks")
    (await one.get("/v1/tasks/nobody/results")).problem(404, "unknown-task")


async def test_a_whole_graph_is_one_atomic_batch(one: Api) -> None:
    lines = [{"id": "c", **named("c", "b")}, {"id": "b1", **named("b", "a")}, {**named("a")}]
    answers = (await one.batch(lines, "?atomic=1")).lines()
    assert [answer["id"] for answer in answers][:2] == ["c", "b1"]
    made = (await one.get("/v1/tasks/c")).json()
    assert made["depends_on"] == [{"task": "b1", "on": "success"}]
    assert (made["state"], made["reason"]) == ("waiting", "depends-on")


async def test_what_is_depended_on_is_not_deleted(one: Api) -> None:
    await one.submit("a")
    one.service.run("a")
    await one.submit("b", depends_on=["a"])
    problem = (await one.ask("DELETE", "/v1/tasks/a")).problem(409, "task-has-dependents")
    assert problem["task_id"] == "b"


async def test_a_workflow_that_failed_is_tried_again_as_a_whole(one: Api) -> None:
    inner = {"name": "in", **a_map(items=["x"]), "depends_on": ["a"]}
    await one.submit("w", command=None, workflow={"tasks": [named("a"), inner]})
    one.service.start("w.a", "n1")
    one.service.finish("w.a", "failed")
    assert (await one.get("/v1/tasks/w")).json()["state"] == "failed"
    made = (await one.post("/v1/tasks/w/retry", {})).json()
    assert made["retry_of"] == "w"
    again = made["id"]
    one.service.run(f"{again}.a")
    one.service.run(f"{again}.in.0")
    assert (await one.get(f"/v1/tasks/{again}")).json()["state"] == "succeeded"


async def test_a_tree_is_deleted_whole(one: Api) -> None:
    await one.submit("m", command=None, **a_map(range=[5]))
    for number in range(5):
        one.service.run(f"m.{number}")
    assert (await one.ask("DELETE", "/v1/tasks/m")).status == 204
    assert len(one.state.tasks) == 0


async def test_another_list_under_the_same_id_is_refused(one: Api) -> None:
    await one.submit("m", command=None, **a_map(range=[1_500]))
    same = await one.post("/v1/tasks", {"id": "m", **a_map(range=[1_500])})
    assert same.status == 200
    other = await one.post("/v1/tasks", {"id": "m", **a_map(range=[1, 1_501])})
    other.problem(409, "duplicate-id")


async def test_a_workflow_is_not_edited(one: Api) -> None:
    await one.submit("a")
    await one.submit("w", command=None, workflow={"tasks": [named("x")]}, depends_on=["a"])
    answer = await one.ask("PATCH", "/v1/tasks/w", {"priority": 9})
    answer.problem(409, "part-of-tree")


async def test_equal_ids_in_a_graph_are_pointed_at(one: Api) -> None:
    lines = [{"id": "d", **named("x")}, {"id": "d", **named("y")}, named("z", "d")]
    answer = await one.batch(lines, "?atomic=1")
    assert answer.pointer(422, "invalid") == "/id"
    assert len(one.state.tasks) == 0


RUBBISH: list[tuple[dict[str, Any], str]] = [
    ({"workflow": {"tasks": [named("a", "b"), named("b", "a")]}}, "/workflow/tasks"),
    ({"workflow": {"tasks": [named("a", "z")]}}, "/workflow/tasks/0/depends_on"),
    ({"workflow": {"tasks": [named("a"), named("a")]}}, "/workflow/tasks/0/name"),
    ({"workflow": {"tasks": [named("")]}}, "/workflow/tasks/0/name"),
    ({"workflow": {"tasks": [named("a", id="x")]}}, "/workflow/tasks/0/id"),
    ({"workflow": {"tasks": [named("a", command=[])]}}, "/workflow/tasks/0/command"),
    ({"workflow": {"tasks": []}}, "/workflow/tasks"),
    ({"workflow": {"tasks": [named("a")], "on_failure": "never"}}, "/workflow/on_failure"),
    ({"workflow": {"tasks": [named("n" * (TASK_ID_MAX + 1))]}}, "/workflow/tasks/0/name"),
    ({"workflow": {"tasks": [named("a/b")]}}, "/workflow/tasks/0/name"),
    (a_map(items=5), "/map/items"),
    (a_map(), "/map"),
    (a_map(items=[1], range=[2]), "/map"),
    (a_map(range=[1, 2, 0]), "/map/range"),
    (a_map(range=[10**9]), "/map/range"),
    (a_map(range=[10**30]), "/map/range"),
    ({**a_map(items=[1]), "timeout": "5m"}, "/timeout"),
    ({"workflow": {"tasks": [named("a")]}, "env": {"A": "1"}}, "/env"),
    (a_map(items=["a\0b"]), "/map/items/0"),
    (a_map(items=[1], task={"command": "echo {item}", "shell": True}), "/map/task/command"),
    (a_map(items=[{"a": 1}], task={"command": ["{item.b}"]}), "/map/items/0"),
    (a_map(items=[1], task=named("a", "b")), "/map/task/depends_on"),
    (a_map(items=[1], task={"command": ["a"], "not_before": "1h"}), "/map/task/not_before"),
    (
        a_map(items=[1], task={"command": ["a"], "placement": {"key": "k"}}),
        "/map/task/placement/key",
    ),
    (a_map(items=[1], max_parallel=-1), "/map/max_parallel"),
    (a_map(items=[1], speculate=2), "/map/speculate"),
    (a_map(items=[1], speculate={"factor": 0.9}), "/map/speculate/factor"),
    (a_map(items=[1], speculate={"after_share": 1.1}), "/map/speculate/after_share"),
    (a_map(items=[1], speculate={"min_seconds": -1}), "/map/speculate/min_seconds"),
    (a_map(items=[1], speculate={"after": 1}), "/map/speculate/after"),
    (a_map({"command": ECHO, "limits": ["m"]}, items=[1], speculate=True), "/map/speculate"),
    (
        a_map({"command": ECHO, "delivery": "at_most_once"}, items=[1], speculate=True),
        "/map/speculate",
    ),
    (
        {
            "workflow": {
                "tasks": [
                    {
                        **named("m"),
                        "command": None,
                        **a_map(range=[3], speculate={"min_seconds": "soon"}),
                    }
                ]
            }
        },
        "/workflow/tasks/0/map/speculate/min_seconds",
    ),
    ({"command": ["true"], "depends_on": ["nobody"]}, "/depends_on"),
    ({"command": ["true"], "depends_on": ["a", "a"]}, "/depends_on/1"),
    ({"command": ["true"], "needs": 1}, "/needs"),
    ({"command": ["true"], **a_map(items=[1])}, "/map"),
]


@pytest.mark.parametrize(("body", "pointer"), RUBBISH, ids=[f"{n}" for n in range(len(RUBBISH))])
async def test_rubbish_is_pointed_at(one: Api, body: dict[str, Any], pointer: str) -> None:
    answer = await one.post("/v1/tasks", body)
    assert answer.status in (413, 422)
    assert answer.pointer(answer.status, answer.json()["code"]) == pointer
    assert len(one.state.tasks) == 0


async def test_a_schedule_runs_a_workflow(one: Api) -> None:
    names = {"name": "names", "command": ["ls"]}
    each = {"name": "each", **a_map({"command": ["gzip", "{item}"]}, **{"from": "names"})}
    task = {"workflow": {"tasks": [names, each, named("after", "each")]}}
    made = await one.ask("PUT", "/v1/schedules/s", {"every": "1h", "task": task})
    assert made.status == 201, made.body
    run = (await one.post("/v1/schedules/s/trigger", {})).json()
    parts = (await tree(one, run["task_id"] if "task_id" in run else run["id"]))["items"]
    assert [part["state"] for part in parts] == ["queued", "waiting", "waiting"]


@pytest.mark.parametrize(
    ("task", "pointer"),
    [
        (a_map(range=[2_000]), "/task/map"),
        (named("a", "b"), "/task/depends_on"),
        ({"workflow": {"tasks": [named("a", "b")]}}, "/task/workflow/tasks/0/depends_on"),
    ],
)
async def test_what_a_schedule_cannot_run_is_pointed_at(
    one: Api, task: dict[str, Any], pointer: str
) -> None:
    answer = await one.ask("PUT", "/v1/schedules/s", {"every": "1h", "task": task})
    assert answer.pointer(answer.status, answer.json()["code"]) == pointer
