"""Routes of templates: how they are kept, and what is wrong with their documents."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.api.harness import Api
from tests.unit.api.templates import PATH, REPORT, made, put, run, with_task


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


async def test_before_all_peers_know_templates_a_put_says_so(api: Api) -> None:
    api.state.version = 6
    assert (await put(api)).problem(409, "needs-version")
