"""Commands for tasks that a filter names."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.unit.cli.test_tasks import TASK, call
from tests.unit.client.stub import Answer, Asked, Stub, problem, sequence

#: Command, further arguments -> the verb of the route, and the body.
COMMANDS: list[tuple[list[str], str, dict[str, Any]]] = [
    (["cancel", "--reason", "enough"], "cancel", {"reason": "enough"}),
    (["retry"], "retry", {}),
    (["retry", "--only-failed"], "retry", {"only": "failed"}),
    (["pause"], "pause", {}),
    (["resume"], "resume", {}),
    (["run-now"], "run", {}),
    (["rm"], "delete", {}),
    (["edit", "priority=80", "deadline=null"], "edit", {"priority": 80, "deadline": None}),
]


def came_to(matched: int, changed: int, refused: list[dict[str, str]] | None = None) -> Answer:
    ids = [f"t{number}" for number in range(changed)]
    body = {"matched": matched, "changed": changed, "ids": ids, "more": False}
    return Answer(200, {**body, "refused": refused or []})


@pytest.mark.parametrize(("arguments", "verb", "body"), COMMANDS, ids=lambda value: str(value)[:12])
def test_all_that_match_after_the_number_was_told(
    arguments: list[str], verb: str, body: dict[str, Any]
) -> None:
    with Stub(sequence(came_to(3, 0), came_to(3, 3))) as stub:
        result = call(stub, *arguments, "--queue", "nightly", "--state", "queued", "-n", "9", "-y")
    assert result.exit_code == 0, result.stderr
    first, second = stub.asked
    query = {"queue": "nightly", "state": "queued", "limit": "9"}
    assert (first.query, second.query) == ({**query, "dry_run": "1"}, query)
    assert {asked.path for asked in stub.asked} == {f"/v1/tasks:{verb}"}
    assert second.json() == body


@pytest.mark.parametrize("arguments", [row[0] for row in COMMANDS], ids=lambda row: row[0])
def test_a_dry_run_asks_once_and_says_how_many(arguments: list[str]) -> None:
    with Stub(sequence(came_to(3, 0))) as stub:
        result = call(stub, *arguments, "--queue", "nightly", "--dry-run", "-o", "json")
    assert (result.exit_code, json.loads(result.stdout)["matched"]) == (0, 3)
    assert [asked.query["dry_run"] for asked in stub.asked] == ["1"]


@pytest.mark.parametrize("arguments", [row[0] for row in COMMANDS], ids=lambda row: row[0])
def test_nothing_is_done_without_a_yes(arguments: list[str]) -> None:
    with Stub(sequence(came_to(3, 0))) as stub:
        result = call(stub, *arguments, "--queue", "nightly", stdin="n\n")
    assert result.exit_code == 130
    assert len(stub.asked) == 1 and "3 tasks?" in result.stderr


@pytest.mark.parametrize("arguments", [row[0] for row in COMMANDS[:-1]], ids=lambda row: row[0])
def test_ids_and_filters_are_either_or(arguments: list[str]) -> None:
    with Stub(sequence(came_to(0, 0))) as stub:
        assert call(stub, *arguments).exit_code == 2
        assert call(stub, *arguments, "0190-a", "--queue", "q").exit_code == 2
        assert call(stub, *arguments, "0190-a", "--dry-run").exit_code == 2
    assert not stub.asked


def test_what_was_not_changed_is_said_with_the_reason_and_is_partial() -> None:
    refused = [{"id": "t1", "code": "task-terminal", "detail": "task t1 is cancelled"}]
    with Stub(sequence(came_to(2, 0), came_to(2, 1, refused))) as stub:
        result = call(stub, "pause", "--queue", "nightly", "-y")
    assert result.exit_code == 9
    assert "t1: task t1 is cancelled" in result.stderr
    assert "1 of 2 tasks were not changed" in result.stderr
    assert "refused" not in result.stdout


def test_edit_of_one_takes_an_id_first() -> None:
    with Stub(sequence(Answer(200, TASK))) as stub:
        assert call(stub, "edit", "0190-a", "priority=80").stdout == "0190-a\n"
        assert call(stub, "edit", "0190-a").exit_code == 2
        assert call(stub, "edit", "0190-a", "priority=80", "-n", "3").exit_code == 2
    [asked] = stub.asked
    assert (asked.method, asked.path, asked.json()) == (
        "PATCH", "/v1/tasks/0190-a", {"priority": 80},
    )  # fmt: skip


def test_edit_by_a_filter_refuses_an_id() -> None:
    with Stub(sequence(came_to(0, 0))) as stub:
        result = call(stub, "edit", "0190-a", "priority=80", "--queue", "q")
    assert (result.exit_code, stub.asked) == (2, [])


def test_a_wrong_patch_is_misuse_of_the_command() -> None:
    def respond(asked: Asked) -> Answer:
        return problem(422, "invalid", "expected int")

    with Stub(respond) as stub:
        assert call(stub, "edit", "--queue", "q", "priority=high").exit_code == 2
