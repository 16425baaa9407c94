"""Routes of templates, and submissions and schedules that use them."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from raftsched.api import template_documents
from raftsched.core.commands import PutQueue, PutTemplate
from raftsched.core.model import Queue
from raftsched.core.spec import TaskSpec
from raftsched.peer.errors import UnknownOutcome
from tests.unit.api.harness import Answer, Api

PATH = "/v1/templates/report"
TASK: dict[str, Any] = {
    "command": ["/bin/report", "${day}", "--rows=${rows}"],
    "labels": {"day": "${day}", "kind": "report"},
    "priority": "${priority}",
    "timeout": "5m",
}
REPORT: dict[str, Any] = {
    "description": "The report of a day",
    "parameters": {
        "day": {"type": "string", "description": "as 2026-11-21"},
        "rows": {"type": "integer", "default": 10},
        "priority": {"type": "integer", "default": 50},
    },
    "task": TASK,
}


async def put(api: Api, document: Any = REPORT, name: str = "report", **headers: Any) -> Answer:
    return await api.ask("PUT", f"/v1/templates/{name}", document, **headers)


async def made(api: Api, document: Any = REPORT, name: str = "report") -> Any:
    answer = await put(api, document, name)
    assert answer.status in (200, 201), answer.body
    return answer.json()


async def run(api: Api, body: Any = None, query: str = "", **headers: str) -> Answer:
    body = {"parameters": {"day": "monday"}} if body is None else body
    return await api.post(f"{PATH}/run{query}", body, **headers)


def with_task(**fields: Any) -> dict[str, Any]:
    return {**REPORT, "task": {**TASK, **fields}}


# Keeping ------------------------------------------------------------------------------------------


async def test_a_template_is_shown_as_it_was_asked_for(api: Api) -> None:
    answer = await put(api, {**REPORT, "name": "report"})
    assert (answer.status, answer.headers["Location"]) == (201, PATH)
    view = answer.json()
    stamp = view["created_at"]
    assert view == {
        "name": "report", "namespace": "default", **REPORT, "version": 1, "created_at": stamp,
        "modified_at": stamp, "modify_index": 1,
    }  # fmt: skip
    assert answer.headers["ETag"] == '"1"'
    shown = await api.get(PATH)
    assert (shown.json(), shown.headers["ETag"]) == (view, '"1"')
    assert (await api.get(PATH, If_None_Match='"1"')).status == 304


async def test_a_change_counts_up_and_the_same_again_is_none(api: Api) -> None:
    await made(api)
    assert (await made(api))["version"] == 1
    changed = await made(api, {**REPORT, "description": "another"})
    assert (changed["version"], changed["description"]) == (2, "another")


async def test_a_put_is_of_what_was_seen(api: Api) -> None:
    index = (await made(api))["modify_index"]
    assert (await put(api, If_None_Match="*")).problem(412, "modified")
    told = (await put(api, with_task(nice=1), If_Match='"99"')).problem(412, "modified")
    assert "now, and 99 was asked for; read it again" in told["detail"]
    assert (await put(api, with_task(nice=1), If_Match=f'"{index}"')).status == 200
    told = (await api.ask("DELETE", PATH, If_Match='"99"')).problem(412, "modified")
    assert "now, and 99 was asked for; read it again" in told["detail"]


async def test_a_dry_run_says_what_would_be_done(api: Api) -> None:
    async def dry(document: Any) -> Any:
        answer = await api.ask("PUT", f"{PATH}?dry_run=1", document)
        return [answer.json()[name] for name in ("valid", "action", "fields")]

    assert await dry(REPORT) == [True, "create", []]
    assert (await api.get(PATH)).problem(404, "unknown-template")
    await made(api)
    assert await dry(REPORT) == [True, "none", []]
    assert await dry(with_task(nice=1)) == [True, "update", ["task"]]
    assert (await api.get(PATH)).json()["version"] == 1


async def test_the_list_has_the_types_of_the_parameters_and_no_task(api: Api) -> None:
    for name in ("b", "a", "c"):
        await made(api, name=name)
    page = (await api.get("/v1/templates?limit=2")).json()
    assert [item["name"] for item in page["items"]] == ["a", "b"]
    assert page["items"][0]["parameters"] == {
        "day": "string", "rows": "integer", "priority": "integer",
    }  # fmt: skip
    assert "task" not in page["items"][0]
    rest = (await api.get(f"/v1/templates?limit=2&cursor={page['next_cursor']}")).json()
    assert [item["name"] for item in rest["items"]] == ["c"] and rest["next_cursor"] is None


async def test_deleted_it_is_gone(api: Api) -> None:
    await made(api)
    assert (await api.ask("DELETE", f"{PATH}?dry_run=1")).json() == {"valid": True}
    assert (await api.ask("DELETE", PATH)).status == 204
    for answer in (await api.get(PATH), await api.ask("DELETE", PATH), await run(api)):
        assert "report" in answer.problem(404, "unknown-template")["detail"]


async def test_secrets_are_not_shown_and_stay_when_what_was_shown_comes_back(api: Api) -> None:
    def document(secret: str, name: str = "a") -> Any:
        http = {"url": "http://x", "headers": {"X-Token": secret, "X-Key": "${key}"}}
        part = {"name": name, "http": http}
        return {"parameters": {"key": {}}, "task": {"workflow": {"tasks": [part]}}}

    def headers(view: Any) -> Any:
        return view["task"]["workflow"]["tasks"][0]["http"]["headers"]

    view = await made(api, document("s3cret"))
    assert headers(view) == {"X-Token": "(hidden)", "X-Key": "${key}"}
    assert (await made(api, document("(hidden)")))["version"] == 1
    assert b"s3cret" in api.state.templates.get("report").document  # type: ignore[union-attr]
    other = await put(api, document("(hidden)", "other"))
    assert "write it" in other.problem(422, "invalid")["detail"]


# What is wrong with a document --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("document", "pointer", "says"),
    [
        ({}, "/", "task"),
        ({**REPORT, "name": "other"}, "/name", "leave it out"),
        ({**REPORT, "more": 1}, "/more", "unknown field"),
        ({**REPORT, "parameters": {"a-b": {}}}, "/parameters/a-b", "letters"),
        ({**REPORT, "parameters": {"a": {"type": "date"}}}, "/parameters/type", "date"),
        (with_task(cwd="/${dir}"), "/task/cwd", "(there are: day, rows, priority)"),
        (with_task(env={"X": "${HOME}"}), "/task/env/X", "write $${HOME}"),
        (with_task(cwd="${x:-1}"), "/task/cwd", "for the text ${ write $${"),
        (with_task(env={"${day}": "1"}), "/task/env/${day}", "no places"),
        (with_task(queue="a b"), "/task/queue", "regex"),
        (with_task(comand=["x"]), "/task/comand", "unknown field"),
        (with_task(http={"url": "http://x"}), "/task/http", "exactly one"),
        (with_task(timeout="${day}"), "/task/timeout", 'checked with "x" for day'),
        (with_task(id="fixed"), "/task/id", "of its own"),
        (with_task(command="echo ${day}", shell=True), "/task/command", "a shell would"),
        ({"task": {"template": {"name": "x"}}}, "/task/template", "made of no other"),
        (
            {"task": {"map": {"task": {"template": {"name": "x"}}, "items": [1]}}},
            "/task/map/task/template", "made of no other",
        ),
        (
            {**REPORT, "task": {"workflow": {"tasks": [
                {"name": "a", "command": "echo ${day}", "shell": True},
            ]}}},
            "/task/workflow/tasks/0/command", "a shell would",
        ),
    ],
)  # fmt: skip
async def test_a_wrong_document_is_pointed_at_and_leaves_nothing(
    api: Api, document: Any, pointer: str, says: str
) -> None:
    answer = await put(api, document)
    assert answer.pointer(422, "invalid") == pointer
    assert says in answer.json()["detail"], answer.json()["detail"]
    assert len(api.state.templates) == 0


@pytest.mark.parametrize(
    ("asked", "below", "says"),
    [
        ({"type": "integer", "default": "1"}, "/default", 'an integer is needed, not "1"'),
        ({"type": "integer", "default": True}, "/default", "not true"),
        ({"type": "integer", "default": 1.5}, "/default", "not 1.5"),
        ({"type": "list", "default": {}}, "/default", "a list is needed"),
        ({"default": "c", "enum": ["a", "b"]}, "/default", '"c" is none of "a", "b"'),
        ({"enum": ["a", 1]}, "/enum/1", "a string is needed"),
        ({"example": 1}, "/example", "a string is needed"),
        ({"required": True, "default": "a"}, "/required", "no default"),
        ({"required": False}, "/required", "needs a default"),
    ],
)  # fmt: skip
async def test_a_wrong_parameter_is_pointed_at(api: Api, asked: Any, below: str, says: str) -> None:
    document = {"parameters": {"p": asked}, "task": {"command": ["x"]}}
    answer = await put(api, document)
    assert answer.pointer(422, "invalid") == f"/parameters/p{below}"
    assert says in answer.json()["detail"]


async def test_a_name_and_a_size_have_bounds(api: Api) -> None:
    for name in ("-a", "a%20b", "x" * 65):
        assert (await put(api, name=name)).pointer(422, "invalid") == "/name"
    large = {"task": {"workflow": {"tasks": [
        {"name": f"t{n}", "command": ["x" * 20_000]} for n in range(14)
    ]}}}  # fmt: skip
    assert "262144" in (await put(api, large)).problem(413, "too-large")["detail"]


async def test_an_example_is_what_it_is_checked_with(api: Api) -> None:
    document = {
        "parameters": {"wait": {"example": "5m"}, "unit": {"enum": ["1s", "2s"]}},
        "task": {"command": ["x"], "timeout": "${wait}", "grace": "${unit}"},
    }
    assert (await made(api, document))["version"] == 1


# Running ------------------------------------------------------------------------------------------


async def test_a_run_is_the_task_with_values_in_its_places(api: Api) -> None:
    await made(api)
    answer = await run(api, {"parameters": {"day": "monday", "rows": 3}})
    task = answer.json()
    assert (answer.status, answer.headers["Location"]) == (201, f"/v1/tasks/{task['id']}")
    assert task["command"] == ["/bin/report", "monday", "--rows=3"]
    assert task["labels"] == {"day": "monday", "kind": "report"}
    assert (task["priority"], task["timeout"]) == (50, 300)
    assert (task["name"], task["template"]) == ("report", "report@1")


async def test_fields_beside_the_parameters_are_stronger(api: Api) -> None:
    api.service.apply(PutQueue(Queue("q", defaults=b'{"nice":3,"timeout":1}')))
    await made(api)
    fields = {"id": "mine", "queue": "q", "priority": 9, "labels": {"kind": "x", "more": "y"}}
    task = (await run(api, {"parameters": {"day": "d"}, **fields})).json()
    assert [task[name] for name in ("id", "queue", "priority")] == ["mine", "q", 9]
    assert task["labels"] == {"day": "d", "kind": "x", "more": "y"}
    # What the queue says is weaker than the template.
    assert (task["nice"], task["timeout"]) == (3, 300)


@pytest.mark.parametrize(
    ("body", "pointer", "says"),
    [
        ({"parameters": {}}, "/parameters/day", "needs day (string): as 2026-11-21; it has day"),
        ({"parameters": {"day": 1}}, "/parameters/day", "a string is needed, not 1"),
        ({"parameters": {"day": None}}, "/parameters/day", "not null"),
        (
            {"parameters": {"day": "d", "dya": 1}}, "/parameters/dya",
            "no parameter 'dya'; it has day (string), rows (integer), priority (integer)",
        ),
        ({"parameters": {"day": "d", "priority": 101}}, "/priority", "<= 100"),
        ({"parameters": {"day": "d"}, "command": ["x"]}, "/command", "says what runs"),
        ({"parameters": {"day": "d"}, "template": {"name": "x"}}, "/template", "leave it out"),
        ({"parameters": [1]}, "/parameters", "object"),
        ({"parameters": {"day": "d"}, "prio": 1}, "/prio", "unknown field"),
    ],
)  # fmt: skip
async def test_a_wrong_run_is_pointed_at_and_makes_nothing(
    api: Api, body: Any, pointer: str, says: str
) -> None:
    await made(api)
    answer = await run(api, body)
    assert answer.pointer(422, "invalid") == pointer
    assert says in answer.json()["detail"], answer.json()["detail"]
    assert len(api.state.tasks) == 0


async def test_an_enum_takes_no_other_value_and_a_null_leaves_the_field_out(api: Api) -> None:
    document = {
        "parameters": {"level": {"enum": ["a", "b"]}, "until": {"default": None}},
        "task": {"command": ["x", "${level}"], "deadline": "${until}"},
    }
    await made(api, document)
    answer = await run(api, {"parameters": {"level": "c"}})
    assert answer.pointer(422, "invalid") == "/parameters/level"
    assert (await run(api, {"parameters": {"level": "a"}})).json()["deadline"] is None
    timed = await run(api, {"parameters": {"level": "a", "until": "1h"}})
    assert timed.json()["deadline"] is not None
    assert (await run(api, {"parameters": {"level": "a", "until": None}})).status == 201


async def test_a_run_with_a_key_is_made_once_also_when_the_template_was_changed(api: Api) -> None:
    await made(api)
    first = await run(api, Idempotency_Key="k")
    await made(api, with_task(nice=5))
    again = await run(api, Idempotency_Key="k")
    assert (again.status, again.headers["Idempotency-Replayed"]) == (200, "true")
    assert again.json()["id"] == first.json()["id"] and again.json()["template"] == "report@1"
    other = await run(api, {"parameters": {"day": "tuesday"}}, Idempotency_Key="k")
    assert other.problem(422, "idempotency-key-reused")
    assert (await api.ask("DELETE", PATH)).status == 204
    use = {"template": {"name": "report", "parameters": {"day": "monday"}, "version": 2}}
    assert (await api.post("/v1/tasks", use, Idempotency_Key="k")).pointer(422, "invalid")
    # The key of a submission is another one.
    assert (await api.post("/v1/tasks", {"command": ["x"]}, Idempotency_Key="k")).status == 201


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


async def test_a_run_is_tried_without_being_made(api: Api) -> None:
    await made(api)
    assert (await run(api, query="?dry_run=1")).json() == {"valid": True}
    assert (await run(api, {}, "?dry_run=1")).pointer(422, "invalid") == "/parameters/day"
    assert len(api.state.tasks) == 0


async def test_an_unknown_outcome_of_a_run_is_said(api: Api) -> None:
    await made(api)
    api.service.propose_trouble = UnknownOutcome("no answer")
    assert (await run(api)).problem(504, "outcome-unknown")


# Documents that use one ---------------------------------------------------------------------------


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


async def test_a_template_is_a_workflow_most_often(api: Api) -> None:
    document = {
        "parameters": {"files": {"type": "list"}, "most": {"type": "integer", "default": 2}},
        "task": {"workflow": {"tasks": [
            {"name": "pack", "map": {
                "task": {"command": ["gzip", "{item}"]},
                "items": "${files}", "max_parallel": "${most}",
            }},
            {"name": "report", "command": ["ls", "-l"], "depends_on": ["pack"]},
        ]}},
    }  # fmt: skip
    await made(api, document)
    answer = await run(api, {"id": "w", "parameters": {"files": ["a", "b"]}})
    assert (answer.status, answer.json()["template"]) == (201, "report@1")
    items = (await api.get("/v1/tasks/w/tree")).json()["items"]
    assert {"w.pack", "w.report"} <= {item["id"] for item in items}
    assert (await api.get("/v1/tasks/w.pack.1")).json()["command"] == ["gzip", "b"]


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


async def test_what_is_filled_in_is_bounded(api: Api) -> None:
    places = [{"name": f"t{n}", "env": {"A": "${text}"}, "command": ["x"]} for n in range(100)]
    task = {"workflow": {"tasks": places}}
    await made(api, {"parameters": {"text": {}}, "task": task})
    answer = await run(api, {"parameters": {"text": "x" * 20_000}})
    text = answer.problem(413, "too-large")["detail"]
    assert str(template_documents.FILLED_MAX) in text


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


# Schedules ----------------------------------------------------------------------------------------

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


# Versions -----------------------------------------------------------------------------------------


async def test_before_all_peers_know_templates_a_put_says_so(api: Api) -> None:
    api.state.version = 6
    assert (await put(api)).problem(409, "needs-version")


async def test_a_row_of_the_state_is_read_by_any_peer(api: Api) -> None:
    api.service.apply(PutTemplate("report", json.dumps(REPORT).encode()))
    assert (await run(api)).json()["template"] == "report@1"
