"""Runs of a template: values in its places, and what is wrong with them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from raftsched.api import template_documents
from raftsched.core.commands import PutQueue, PutTemplate
from raftsched.core.model import Queue
from raftsched.peer.errors import UnknownOutcome
from tests.unit.api.harness import Api
from tests.unit.api.templates import PATH, REPORT, made, run, with_task


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


async def test_a_run_is_tried_without_being_made(api: Api) -> None:
    await made(api)
    assert (await run(api, query="?dry_run=1")).json() == {"valid": True}
    assert (await run(api, {}, "?dry_run=1")).pointer(422, "invalid") == "/parameters/day"
    assert len(api.state.tasks) == 0


async def test_an_unknown_outcome_of_a_run_is_said(api: Api) -> None:
    await made(api)
    api.service.propose_trouble = UnknownOutcome("no answer")
    assert (await run(api)).problem(504, "outcome-unknown")


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


async def test_what_is_filled_in_is_bounded(api: Api) -> None:
    places = [{"name": f"t{n}", "env": {"A": "${text}"}, "command": ["x"]} for n in range(100)]
    task = {"workflow": {"tasks": places}}
    await made(api, {"parameters": {"text": {}}, "task": task})
    answer = await run(api, {"parameters": {"text": "x" * 20_000}})
    text = answer.problem(413, "too-large")["detail"]
    assert str(template_documents.FILLED_MAX) in text


async def test_a_row_of_the_state_is_read_by_any_peer(api: Api) -> None:
    api.service.apply(PutTemplate("report", json.dumps(REPORT).encode()))
    assert (await run(api)).json()["template"] == "report@1"
