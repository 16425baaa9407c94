"""Submissions, batches and schedules that name a template instead of what runs."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from raftsched.core.spec import TaskSpec
from tests.unit.api.harness import Api
from tests.unit.api.templates import PATH, made, run, with_task


async def test_a_submission_with_a_key_is_answered_also_when_its_template_is_gone(
    api: Api,
) -> None:
    await made(api)
    use = {"template": {"name": "report", "parameters": {"day": "monday"}, "version": 1}}
    first = await api.post("/v1/tasks", use, Idempotency_Key="k")
    await made(api, with_task(nice=5))
    again = await api.post("/v1/tasks", use, Idempotency_Key="k")
    await api.ask("DELETE", PATH)
    later = await api.post("/v1/tasks", use, Idempotency_Key="k")
    for answer in (again, later):
        assert (answer.status, answer.headers["Idempotency-Replayed"]) == (200, "true")
        assert answer.json()["id"] == first.json()["id"]
    assert (await api.post("/v1/tasks", use)).pointer(422, "invalid") == "/template/name"


async def test_a_submission_says_a_template_instead_of_what_runs(api: Api) -> None:
    await made(api)
    use = {"name": "report", "parameters": {"day": "monday"}}
    task = await api_submit(api, {"template": use, "name": "mine"})
    assert (task["command"][1], task["name"], task["template"]) == ("monday", "mine", "report@1")
    seen = await api_submit(api, {"template": {**use, "version": 1}})
    assert seen["template"] == "report@1"
    stale = await api.post("/v1/tasks", {"template": {**use, "version": 2}})
    assert "has version 1, not 2" in stale.problem(412, "modified")["detail"]


async def api_submit(api: Api, body: Any) -> Any:
    answer = await api.post("/v1/tasks", body)
    assert answer.status == 201, answer.body
    return answer.json()


@pytest.mark.parametrize(
    ("body", "pointer", "says"),
    [
        ({"template": {"name": "nope"}}, "/template/name", "no template 'nope'; there are report"),
        ({"template": {"name": "report"}}, "/template/parameters/day", "needs day"),
        ({"template": {"name": "report"}, "command": ["x"]}, "/command", "says what runs"),
        ({"template": {"name": "a b"}}, "/template/name", "regex"),
        ({"template": {"name": "report", "x": 1}}, "/template/x", "unknown field"),
        (
            {"workflow": {"tasks": [{"name": "a", "template": {"name": "report"}}]}},
            "/workflow/tasks/0/template/parameters/day", "needs day",
        ),
        (
            {"map": {"task": {"template": {"name": "nope"}}, "items": [1]}},
            "/map/task/template/name", "no template",
        ),
    ],
)  # fmt: skip
async def test_a_wrong_use_is_pointed_at(api: Api, body: Any, pointer: str, says: str) -> None:
    await made(api)
    answer = await api.post("/v1/tasks", body)
    assert answer.pointer(422, "invalid") == pointer
    assert says in answer.json()["detail"], answer.json()["detail"]


async def test_parts_of_a_workflow_and_the_task_of_a_map_are_made_of_templates(api: Api) -> None:
    await made(api)
    part = {"template": {"name": "report", "parameters": {"day": "${no}"}}}
    parts = [{**part, "name": "a"}, {**part, "name": "b", "depends_on": ["a"], "priority": 9}]
    whole = await api_submit(api, {"id": "w", "workflow": {"tasks": parts}})
    assert whole["template"] is None
    b = (await api.get("/v1/tasks/w.b")).json()
    assert (b["command"][1], b["template"], b["priority"]) == ("${no}", "report@1", 9)
    each = {"name": "report", "parameters": {"day": "{item}"}}
    await api_submit(api, {"id": "m", "map": {"task": {"template": each}, "items": ["x", "y"]}})
    assert (await api.get("/v1/tasks/m.1")).json()["command"][1] == "y"


async def test_lines_of_a_batch_use_templates_each_answered_where_it_stands(api: Api) -> None:
    await made(api)
    use = {"template": {"name": "report", "parameters": {"day": "d"}}}
    lines = [{**use, "id": "a"}, {"template": {"name": "no"}}, {"command": ["x"], "id": "b"}]
    answers = (await api.batch(lines)).lines()
    assert [line["status"] for line in answers] == [201, 422, 201]
    assert answers[1]["errors"][0]["pointer"] == "/1/template/name"
    assert (await api.get("/v1/tasks/a")).json()["template"] == "report@1"


async def test_what_templates_come_to_counts_in_an_atomic_batch(api: Api) -> None:
    argument = "x" * 60_000
    document = {"task": {"workflow": {"tasks": [
        {"name": f"t{number}", "command": [argument]} for number in range(4)
    ]}}}  # fmt: skip
    await made(api, document)
    lines = [{"template": {"name": "report"}}] * 9
    assert (await api.batch(lines, "?atomic=1")).problem(413, "too-large")
    assert [line["status"] for line in (await api.batch(lines)).lines()] == [201] * 9


async def test_an_edit_keeps_what_a_task_was_made_of_and_cannot_change_it(api: Api) -> None:
    await made(api)
    task = (await run(api)).json()
    path = f"/v1/tasks/{task['id']}"
    edited = (await api.ask("PATCH", path, {"priority": 7})).json()
    assert (edited["priority"], edited["template"]) == (7, "report@1")
    wrong = await api.ask("PATCH", path, {"template": {"name": "report"}})
    assert wrong.pointer(422, "invalid") == "/template"


async def test_defaults_of_a_queue_name_no_template(api: Api) -> None:
    body = {"defaults": {"template": {"name": "report"}}}
    answer = await api.ask("PUT", "/v1/queues/q", body)
    assert answer.pointer(422, "invalid") == "/defaults/template"


NIGHTLY = {
    "cron": "0 2 * * *",
    "task": {"template": {"name": "report", "parameters": {"day": "d"}}},
}


def spec_of(api: Api, name: str = "nightly") -> TaskSpec:
    row = api.state.schedules.get(name)
    assert row is not None
    return msgspec.msgpack.decode(row.task.spec, type=TaskSpec)


async def test_a_schedule_runs_what_the_template_was_and_shows_what_was_asked_for(
    api: Api,
) -> None:
    await made(api)
    view = (await api.ask("PUT", "/v1/schedules/nightly", NIGHTLY)).json()
    assert (view["task"], view["version"]) == (NIGHTLY["task"], 1)
    spec = spec_of(api)
    assert (spec.command[1], spec.name, spec.origin) == ("d", "nightly", "report@1")


async def test_a_change_of_the_template_reaches_a_schedule_with_its_next_put(api: Api) -> None:
    await made(api)
    await api.ask("PUT", "/v1/schedules/nightly", NIGHTLY)
    await made(api, with_task(nice=5))
    assert spec_of(api).origin == "report@1"
    dry = await api.ask("PUT", "/v1/schedules/nightly?dry_run=1", NIGHTLY)
    assert dry.json() == {"valid": True, "action": "update", "fields": ["task"]}
    view = (await api.ask("PUT", "/v1/schedules/nightly", NIGHTLY)).json()
    assert (view["version"], spec_of(api).origin, spec_of(api).nice) == (2, "report@2", 5)
    assert (await api.ask("PUT", "/v1/schedules/nightly", NIGHTLY)).json()["version"] == 2


async def test_what_a_schedule_cannot_say_a_template_cannot_say_for_it(api: Api) -> None:
    await made(api, with_task(unique={"key": "${day}"}))
    answer = await api.ask("PUT", "/v1/schedules/nightly", NIGHTLY)
    assert answer.pointer(422, "invalid") == "/task/unique"
    body = {**NIGHTLY, "task": {"template": {"name": "report"}}}
    answer = await api.ask("PUT", "/v1/schedules/nightly", body)
    assert answer.pointer(422, "invalid") == "/task/template/parameters/day"


async def test_secrets_of_a_workflow_in_a_schedule_are_not_shown(api: Api) -> None:
    http = {"url": "http://x", "headers": {"Authorization": "s3cret"}}
    task = {"workflow": {"tasks": [{"name": "a", "http": http}]}}
    answer = await api.ask("PUT", "/v1/schedules/nightly", {"cron": "@daily", "task": task})
    assert answer.status == 201 and b"s3cret" not in answer.body
    shown = answer.json()["task"]
    again = await api.ask("PUT", "/v1/schedules/nightly", {"cron": "@daily", "task": shown})
    assert again.json()["version"] == 1
