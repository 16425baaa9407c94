"""Maps and trees against a stub: what is asked for, and what one sees of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.unit.cli.test_tasks import TASK, call, ended
from tests.unit.client.stub import Answer, Asked, Stub, problem, sequence


def mapped(*arguments: str, stdin: str = "") -> Any:
    """The document that a map asks for."""
    with Stub(sequence(Answer(201, TASK))) as stub:
        result = call(stub, "map", *arguments, stdin=stdin)
    assert (result.exit_code, result.stdout) == (0, "0190-a\n"), result.stderr
    return stub.asked[0].json()


def test_items_are_lines_and_the_program_is_told_once() -> None:
    document = mapped("--items", "-", "--", "gzip", "{item}", stdin="a b\n\nc\n")
    assert document == {
        "map": {
            "task": {"command": ["gzip", "{item}"]},
            "items": ["a b", "c"],
            "on_failure": "fail_fast",
        }
    }


def test_items_may_be_json_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "items"
    path.write_text('{"a": 1}\n2\n"x"\n')
    document = mapped("--json", "--items", str(path), "--on-failure", "3", "--", "p", "{item.a}")
    assert document["map"]["items"] == [{"a": 1}, 2, "x"]
    assert document["map"]["on_failure"] == {"allow": 3}


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("--range", "2:9"), {"range": [2, 9, 1]}),
        (("--range", "9:0:-3"), {"range": [9, 0, -3]}),
        (("--from", "t-1", "--max-parallel", "4"), {"from": "t-1", "max_parallel": 4}),
        (("--range", "0:2", "--speculate"), {"range": [0, 2, 1], "speculate": True}),
        (
            ("--range", "0:2", "--speculate", "--speculate-after", "0"),
            {"range": [0, 2, 1], "speculate": {"after_share": 0}},
        ),
        (
            ("--range", "0:2", "--speculate-factor", "3", "--speculate-min", "1m"),
            {"range": [0, 2, 1], "speculate": {"factor": 3, "min_seconds": "1m"}},
        ),
    ],
)
def test_items_may_be_numbers_or_of_another_task(words: Any, expected: Any) -> None:
    found = mapped(*words, "--on-failure", "finish", "--", "true")["map"]
    assert found == {"task": {"command": ["true"]}, "on_failure": "finish", **expected}


def test_options_of_the_whole_stay_with_it_and_others_go_to_each_item() -> None:
    options = "--name all --queue q --priority 9 --label a=b --after t-1 --timeout 5s --attempts 3"
    document = mapped("--range", "0:2", *options.split(), "--python", "jobs:f")
    each = document.pop("map")["task"]
    assert document == {
        "name": "all", "queue": "q", "priority": 9, "labels": {"a": "b"}, "depends_on": ["t-1"],
    }  # fmt: skip
    assert each == {
        "python": {"function": "jobs:f", "args": []},
        "timeout": "5s",
        "retry": {"max_attempts": 3},
    }


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--range", "0:2"], "COMMAND is missing"),
        (["--", "true"], "exactly one of --items"),
        (["--range", "0:2", "--from", "t", "--", "true"], "exactly one of --items"),
        (["--range", "3", "--", "true"], "write A:B or A:B:STEP"),
        (["--range", "0:1:0", "--", "true"], "write A:B or A:B:STEP"),
        (["--range", "0:2", "--json", "--", "true"], "--json goes with --items"),
        (["--items", "-", "--json", "--", "true"], "line 1 is not JSON"),
        (["--range", "0:2", "--broadcast", "all", "--", "true"], "no --broadcast"),
        (["--range", "0:2", "--dry-run", "--wait", "--", "true"], "--dry-run creates nothing"),
    ],
)
def test_misuse_is_one_line_and_exit_2(words: list[str], message: str) -> None:
    with Stub(sequence(Answer())) as stub:
        result = call(stub, "map", *words, stdin="{\n")
    assert (result.exit_code, result.stderr.count("\n"), stub.asked) == (2, 1, [])
    assert message in result.stderr


def test_wait_is_exit_8_when_it_did_not_succeed() -> None:
    def answer(asked: Asked) -> Answer:
        if asked.path.endswith("/tree"):
            return Answer(200, {"task": {}, "counts": {"failed": 1}, "items": []})
        fields = {"reason": "subtasks-failed", "fork": {}}
        return Answer(200, ended("failed", **fields) if asked.method == "GET" else TASK)

    with Stub(answer) as stub:
        result = call(stub, "map", "--range", "0:1", "--wait", "--", "false")
    assert (result.exit_code, result.stdout) == (8, "0190-a\n")
    assert "ended failed (subtasks-failed)" in result.stderr


@pytest.mark.parametrize(
    ("words", "fields"),
    [
        (["--after", "t-1"], {"depends_on": ["t-1"]}),
        (
            ["--after", "a", "--after", "b:failure", "--needs", "any"],
            {"depends_on": ["a", {"task": "b", "on": "failure"}], "needs": "any"},
        ),
        (["--after", "a:always", "--needs", "1"],
         {"depends_on": [{"task": "a", "on": "always"}], "needs": 1}),
    ],
)  # fmt: skip
def test_submit_says_what_a_task_waits_for(words: list[str], fields: Any) -> None:
    with Stub(sequence(Answer(201, TASK))) as stub:
        result = call(stub, "submit", *words, "--", "true")
    assert result.exit_code == 0
    assert stub.asked[0].json() == {"command": ["true"], **fields}


@pytest.mark.parametrize(
    "words", [["--after", "a:sometimes"], ["--after", ":always"], ["--needs", "most"]]
)
def test_submit_refuses_what_nobody_waits_for(words: list[str]) -> None:
    with Stub(sequence(Answer(201, TASK))) as stub:
        result = call(stub, "submit", *words, "--", "true")
    assert (result.exit_code, stub.asked) == (2, [])


TOML = """
name = "nightly"
[[workflow.tasks]]
name = "dump"
command = ["true"]
"""


def test_submit_reads_a_workflow_from_toml_or_json(tmp_path: Path) -> None:
    wanted = {"name": "nightly", "workflow": {"tasks": [{"name": "dump", "command": ["true"]}]}}
    (tmp_path / "a.toml").write_text(TOML)
    (tmp_path / "a.json").write_text(json.dumps(wanted))
    with Stub(sequence(Answer(201, TASK))) as stub:
        for name in ("a.toml", "a.json"):
            assert call(stub, "submit", "-f", str(tmp_path / name)).exit_code == 0
            assert stub.asked[-1].json() == wanted
        (tmp_path / "b.toml").write_text("= 1")
        result = call(stub, "submit", "-f", str(tmp_path / "b.toml"))
        assert result.exit_code == 2 and "no TOML" in result.stderr
        result = call(stub, "run", "-f", str(tmp_path / "a.toml"))
        assert result.exit_code == 2 and "run follows one task, no workflow" in result.stderr
    assert len(stub.asked) == 2


def part(name: str, state: str, **fields: Any) -> dict[str, Any]:
    return {"id": f"t.{name}", "name": name, "parent": "t", "state": state, "attempt": 0, **fields}


ALERT = [{"task": "t.check", "on": "failure"}, {"task": "t.dump", "on": "success"}]
PARTS = [
    part("dump", "succeeded", node="n1", attempt=1, command=["./dump", "all"]),
    part("check", "running", subtasks=2, fork={"items_from": "t.dump", "max_parallel": 4},
         depends_on=[{"task": "t.dump", "on": "success"}]),
    part("alert", "waiting", depends_on=ALERT, needs=1, reason="depends-on: t.check"),
]  # fmt: skip
LEAVES = [
    {**part("0", "failed"), "id": "t.check.0", "parent": "t.check", "reason": "exit-code-1"},
    {**part("x", "queued"), "id": "t.check.1", "parent": "t.check", "name": "check it"},
]


def trees(asked: Asked) -> Answer:
    whole = {"task": {"state": "running", "fork": {}}, "next_cursor": None}
    if asked.path.endswith("/t/tree"):
        counts = {"running": 1, "succeeded": 1, "waiting": 1}
        return Answer(200, {**whole, "counts": counts, "items": PARTS})
    return Answer(200, {**whole, "counts": {"failed": 1, "queued": 1}, "items": LEAVES})


def test_a_tree_says_who_waits_for_whom() -> None:
    with Stub(trees) as stub:
        result = call(stub, "tree", "t")
    assert result.exit_code == 0
    assert result.stdout.splitlines() == [
        "PART            STATE      REASON             WAITS FOR                NODE  ATT  COMMAND",
        "dump            succeeded  -                  -                        "
        "n1    1    ./dump all",
        "check           running    -                  dump                     "
        "-     0    2 subtasks from dump, 4 at once",
        "  0             failed     exit-code-1        -                        -     0    -",
        "  1 (check it)  queued     -                  -                        -     0    -",
        "alert           waiting    depends-on: check  1 of check:failure dump  -     0    -",
    ]


def test_a_tree_for_scripts_is_the_parts_as_they_are() -> None:
    with Stub(trees) as stub:
        result = call(stub, "tree", "t", "-o", "json")
    assert json.loads(result.stdout) == PARTS


RESULTS = [
    {"index": 0, "id": "t.0", "state": "succeeded", "reason": "", "result": {"ä": 1},
     "exit_code": 0, "result_bytes": 0},
    {"index": 1, "id": "t.1", "state": "succeeded", "reason": "", "result": None,
     "exit_code": None, "result_bytes": 70_000},
]  # fmt: skip


def lines(*rows: Any) -> Answer:
    return Answer(200, b"".join(json.dumps(row).encode() + b"\n" for row in rows))


def test_results_are_lines_of_json_or_a_table() -> None:
    with Stub(sequence(lines(*RESULTS))) as stub:
        result = call(stub, "results", "t")
        table = call(stub, "results", "-o", "table", "t")
    assert [json.loads(line) for line in result.stdout.splitlines()] == RESULTS
    assert table.stdout.splitlines() == [
        "INDEX  STATE      REASON  EXIT  RESULT",
        '0      succeeded  -       0     {"ä": 1}',
        "1      succeeded  -       -     (70,000 bytes: raftsched result t.1)",
    ]
    assert (result.exit_code, table.exit_code) == (0, 0)


def test_results_of_which_some_are_missing_are_partial() -> None:
    bad = {**RESULTS[0], "state": "failed"}
    with Stub(sequence(lines(bad, RESULTS[1]))) as stub:
        result = call(stub, "results", "t")
    assert result.exit_code == 9 and "1 of 2 did not succeed" in result.stderr


def test_results_of_what_was_not_split_are_exit_3() -> None:
    with Stub(sequence(problem(404, "no-subtasks", "task t was not split"))) as stub:
        result = call(stub, "results", "t")
    assert (result.exit_code, result.stdout) == (3, "")
