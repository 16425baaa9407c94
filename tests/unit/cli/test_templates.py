"""``raftsched template`` against a stub."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from raftsched.cli.main import cli
from tests.unit.client.stub import Answer, Stub, sequence

DOCUMENT = {"parameters": {"day": {}, "n": {"type": "integer"}}, "task": {"command": ["x"]}}
VIEW = {
    **DOCUMENT, "name": "t", "namespace": "default", "description": "", "version": 3,
    "created_at": "2026-01-01T02:00:00.000Z", "modified_at": "2026-01-01T02:00:00.000Z",
    "modify_index": 7,
}  # fmt: skip
CREATE = Answer(200, {"valid": True, "action": "create", "fields": []})
NONE = Answer(200, {"valid": True, "action": "none", "fields": []})
MADE = Answer(201, {"id": "task", "state": "queued"})


def call(stub: Stub, *arguments: str, text: str = "") -> Result:
    return CliRunner().invoke(cli, ["template", *arguments, "--addr", stub.address], input=text)


def sent(stub: Stub) -> list[tuple[str, str, Any]]:
    """What was asked: method, path, body."""
    return [(a.method, a.path, json.loads(a.body) if a.body else None) for a in stub.asked]


def test_put_checks_a_document_and_then_writes_it(tmp_path: Path) -> None:
    file = tmp_path / "t.json"
    file.write_text(json.dumps(DOCUMENT))
    with Stub(sequence(CREATE, Answer(201, VIEW))) as stub:
        result = call(stub, "put", "t", "-f", str(file), "-o", "ndjson")
    assert result.exit_code == 0, result.output
    assert sent(stub) == [("PUT", "/v1/templates/t", DOCUMENT)] * 2
    assert [asked.query for asked in stub.asked] == [{"dry_run": "1"}, {}]
    assert json.loads(result.stdout) == {"name": "t", "action": "create", "fields": []}


def test_put_takes_back_what_show_printed() -> None:
    with Stub(sequence(Answer(200, VIEW), CREATE)) as stub:
        shown = call(stub, "show", "t").stdout
        assert call(stub, "put", "-f", "-", "--dry-run", text=shown).exit_code == 0
    assert sent(stub)[-1] == ("PUT", "/v1/templates/t", {**DOCUMENT, "description": ""})


def test_put_takes_many_and_leaves_those_that_say_the_same(tmp_path: Path) -> None:
    file = tmp_path / "many.toml"
    file.write_text(
        '[[templates]]\nname = "a"\ntask = {command = ["x"]}\n'
        '[[templates]]\nname = "b"\ntask = {command = ["y"]}\n[[schedules]]\nname = "s"\n'
    )
    with Stub(sequence(NONE, CREATE, Answer(201, VIEW))) as stub:
        assert call(stub, "put", "-f", str(file)).exit_code == 0
    assert [path for _, path, _ in sent(stub)] == [
        "/v1/templates/a", "/v1/templates/b", "/v1/templates/b",
    ]  # fmt: skip


def test_put_writes_nothing_when_one_is_wrong(tmp_path: Path) -> None:
    file = tmp_path / "many.json"
    file.write_text(json.dumps([{**DOCUMENT, "name": "a"}, {**DOCUMENT, "name": "b"}]))
    wrong = Answer(422, {"code": "invalid", "title": "t", "detail": "no such place",
                         "status": 422})  # fmt: skip
    with Stub(sequence(CREATE, wrong)) as stub:
        result = call(stub, "put", "-f", str(file))
    assert result.exit_code == 2 and len(stub.asked) == 2
    assert "template b: " in result.output and "nothing was changed" in result.output


@pytest.mark.parametrize(
    ("text", "name", "says"),
    [
        ("{", "", "Expecting"), ("{}", "", "a list of template documents"), ("3", "", "a list of"),
        ('{"task": {}}', "", "template 1 has no name"), ('[{"name": "a"}]', "a", "one template"),
    ],
)  # fmt: skip
def test_put_refuses_other_files(text: str, name: str, says: str) -> None:
    with Stub(sequence(CREATE)) as stub:
        result = call(stub, "put", *([name] if name else []), "-f", "-", text=text)
    assert (result.exit_code, stub.asked) == (2, [])
    assert says in result.output


def test_run_sends_values_by_their_types() -> None:
    with Stub(sequence(Answer(200, VIEW), MADE)) as stub:
        arguments = ["-p", "day=7", "-p", "n=7", "-p", "other=x=y", "--queue", "q", "--key", "k"]
        result = call(stub, "run", "t", *arguments, "--set", "retry.max_attempts=3")
    assert (result.exit_code, result.stdout) == (0, "task\n"), result.output
    assert sent(stub)[-1] == ("POST", "/v1/templates/t/run", {
        "queue": "q", "retry": {"max_attempts": 3},
        "parameters": {"day": "7", "n": 7, "other": "x=y"},
    })  # fmt: skip
    assert stub.asked[-1].headers["idempotency-key"] == "k"


def test_run_says_how_a_value_is_written() -> None:
    with Stub(sequence(Answer(200, VIEW))) as stub:
        wrong = call(stub, "run", "t", "-p", "n=seven")
        assert call(stub, "run", "t", "-p", "n").exit_code == 2
    assert wrong.exit_code == 2 and "n is of type integer" in wrong.output


def test_run_waits_and_tells_by_its_exit_code_how_it_ended() -> None:
    for state, code in (("succeeded", 0), ("failed", 8)):
        end = Answer(200, {"id": "task", "state": state, "attempt": 0})
        with Stub(sequence(MADE, end)) as stub:
            assert call(stub, "run", "t", "--wait").exit_code == code
        assert [path for _, path, _ in sent(stub)][1] == "/v1/tasks/task/wait"
    assert call(stub, "run", "t", "--wait", "--dry-run").exit_code == 2


def test_ls_shows_the_parameters_and_rm_removes() -> None:
    row = {**VIEW, "parameters": {"day": "string", "n": "integer"}}
    page = Answer(200, {"items": [row], "next_cursor": None})
    with Stub(sequence(page, Answer(204))) as stub:
        assert "day:string n:integer" in call(stub, "ls").stdout.splitlines()[1]
        assert call(stub, "rm", "t").stdout == "t\n"
    assert sent(stub)[-1] == ("DELETE", "/v1/templates/t", None)


def test_a_template_that_is_not_there_says_where_one_finds_them() -> None:
    missing = Answer(404, {"code": "unknown-template", "title": "t", "detail": "no template 't'",
                           "status": 404})  # fmt: skip
    with Stub(sequence(missing)) as stub:
        result = call(stub, "show", "t")
    assert result.exit_code == 3 and "raftsched template ls" in result.output
