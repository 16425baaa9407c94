"""Task commands against a stub: what goes to stdout, what to stderr, and the exit code."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from raftsched.cli.main import cli
from tests.unit.client.stub import Answer, Asked, Respond, Stub, problem, sequence

TASK = {
    "id": "0190-a",
    "state": "queued",
    "attempt": 0,
    "command": ["/bin/echo", "hi"],
    "node": None,
    "created_at": "2026-01-02T03:04:05.678Z",
}
OTHER = {**TASK, "id": "0190-b", "state": "running", "paused": True, "node": "n2"}


def call(stub: Stub, *arguments: str, stdin: str | bytes | None = None) -> Result:
    # After COMMAND an option would be the program's own.
    command, *rest = arguments
    return CliRunner().invoke(cli, [command, "--addr", stub.address, *rest], input=stdin)


def ended(state: str, **fields: object) -> dict[str, object]:
    return {**TASK, "state": state, "attempt": 1, **fields}


def test_submit_prints_the_id_and_nothing_else() -> None:
    with Stub(sequence(Answer(201, TASK))) as stub:
        options = "--env A=1 --cpu 0.5 --timeout 5m --attempts 3 -- /bin/echo -n hi"
        result = CliRunner().invoke(cli, ["submit", "--addr", stub.address, *options.split()])
    assert (result.exit_code, result.stdout, result.stderr) == (0, "0190-a\n", "")
    assert stub.asked[0].json() == {
        "command": ["/bin/echo", "-n", "hi"],
        "env": {"A": "1"},
        "resources": {"cpu": 0.5},
        "timeout": "5m",
        "retry": {"max_attempts": 3},
    }


def test_submit_of_a_function_reads_its_arguments_as_json_or_text() -> None:
    with Stub(sequence(Answer(201, TASK))) as stub:
        words = ["a.png", "800", "-1", '{"a": null}', '"3"']
        assert call(stub, "submit", "--python", "images:resize", *words).exit_code == 0
        assert call(stub, "submit", "--python", "images:clean").exit_code == 0
    args = ["a.png", 800, -1, {"a": None}, "3"]
    assert [asked.json() for asked in stub.asked] == [
        {"python": {"function": "images:resize", "args": args}},
        {"python": {"function": "images:clean", "args": []}},
    ]


def test_submit_with_key_sends_it() -> None:
    with Stub(sequence(Answer(200, TASK))) as stub:
        assert call(stub, "submit", "--key", "mine", "/bin/true").exit_code == 0
    assert stub.asked[0].headers["idempotency-key"] == "mine"


@pytest.mark.parametrize(
    "arguments",
    [
        ["submit"],
        ["submit", "--env", "oops", "/bin/true"],
        ["submit", "--shell", "a", "b"],
        ["submit", "--priority", "101", "/bin/true"],
        ["submit", "--prioritty", "5", "--", "echo", "hi"],
        ["run", "--prioritty", "5", "echo", "hi"],
        ["submit", "--atomic", "/bin/true"],
        ["submit", "--dry-run", "--wait", "/bin/true"],
        ["logs", "--stream", "stdout", "0190-a"],
        ["ls", "--nonsense"],
        ["nonsense"],
        ["show"],
        ["ls", "-o", "xml"],
        ["ls", "--addr", "http://x/y"],
    ],
    ids=" ".join,
)
def test_misuse_is_one_line_and_exit_2(arguments: list[str]) -> None:
    result = CliRunner().invoke(cli, arguments)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.count("\n") == 1
    assert result.stderr.startswith("raftsched: ")


@pytest.mark.parametrize("separator", [[], ["--"]])
@pytest.mark.parametrize("verb", ["submit", "run"])
def test_options_after_the_program_are_its_own(verb: str, separator: list[str]) -> None:
    program = ["sh", "-c", "echo $1", "--name", "--wait"]
    with Stub(running(b"", ended("succeeded"))) as stub:
        assert call(stub, verb, "--queue", "q", *separator, *program).exit_code == 0
    assert stub.asked[0].json() == {"command": program, "queue": "q"}


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (problem(404, "unknown-task"), 3),
        (problem(409, "task-terminal"), 4),
        (problem(422, "idempotency-key-reused"), 4),
        (problem(401, "unauthorized"), 5),
        (problem(403, "forbidden"), 5),
        (problem(503, "no-leader", Retry_After="60"), 6),
        (problem(504, "outcome-unknown", Retry_After="60"), 7),
        (problem(422, "invalid"), 2),
        (problem(500, "internal"), 1),
        (Answer(200, b"<html>"), 1),
    ],
    ids=lambda v: str(v) if isinstance(v, int) else "",
)
def test_trouble_has_its_exit_code_and_one_line(answer: Answer, code: int) -> None:
    with Stub(sequence(answer)) as stub:
        result = call(stub, "submit", "/bin/true")
    assert result.exit_code == code
    assert result.stdout == ""
    assert result.stderr.count("\n") == 1
    assert "Traceback" not in result.stderr


def test_nobody_there_is_exit_6_with_advice() -> None:
    result = CliRunner().invoke(cli, ["ls", "--addr", "127.0.0.1:1"])
    assert result.exit_code == 6
    assert "raftsched dev" in result.stderr
    assert result.stderr.count("\n") == 1


def listing(_: Asked) -> Answer:
    return Answer(200, {"items": [TASK, OTHER], "next_cursor": None})


def test_ls_as_table() -> None:
    with Stub(listing) as stub:
        result = call(stub, "ls")
    lines = result.stdout.splitlines()
    assert lines[0].split() == ["ID", "STATE", "REASON", "NODE", "ATT", "CREATED", "COMMAND"]
    assert "running (paused)" in lines[2]
    assert "2026-01-02 03:04:05" in lines[1]
    assert lines[1].endswith("/bin/echo hi")


def test_ls_as_json_ndjson_and_id() -> None:
    with Stub(listing) as stub:
        assert json.loads(call(stub, "ls", "-o", "json").stdout) == [TASK, OTHER]
        lines = call(stub, "ls", "-o", "ndjson").stdout.splitlines()
        assert [json.loads(line) for line in lines] == [TASK, OTHER]
        assert call(stub, "ls", "-o", "id").stdout == "0190-a\n0190-b\n"
        assert "PRIORITY" in call(stub, "ls", "-o", "wide").stdout


def test_empty_list_is_empty_on_stdout() -> None:
    with Stub(sequence(Answer(200, {"items": []}))) as stub:
        result = call(stub, "ls")
        assert (result.exit_code, result.stdout, result.stderr) == (0, "", "")
        assert call(stub, "ls", "-o", "json").stdout == "[]\n"


def test_names_cannot_steer_the_terminal() -> None:
    evil = {**TASK, "command": ["\x1b]0;owned\x07\nid"]}
    with Stub(sequence(Answer(200, {"items": [evil]}))) as stub:
        result = call(stub, "ls")
    assert "\x1b" not in result.stdout
    assert result.stdout.count("\n") == 2


def running(output: bytes, end: dict[str, object]) -> Respond:
    """A task that has run: submit, watch, output, result."""

    def respond(asked: Asked) -> Answer:
        if asked.method == "POST":
            return Answer(201, TASK)
        if asked.path.endswith("/output"):
            return Answer(200, output)
        return Answer(200, end)

    return respond


@pytest.mark.parametrize(
    ("end", "code"),
    [
        (ended("succeeded", exit_code=0), 0),
        (ended("failed", exit_code=42), 42),
        (ended("failed", signal=9), 137),
        (ended("failed", reason="executable-not-found: /x"), 8),
        (ended("cancelled"), 8),
    ],
)
def test_run_streams_output_and_passes_the_exit_code(end: dict[str, object], code: int) -> None:
    with Stub(running(b"hi\x00\n", end)) as stub:
        result = CliRunner().invoke(cli, ["run", "--addr", stub.address, "--", "/bin/echo", "-x"])
    assert result.exit_code == code
    assert result.stdout_bytes == b"hi\x00\n"


def test_submit_wait_says_how_it_ended() -> None:
    respond = sequence(Answer(201, TASK), Answer(200, ended("failed", exit_code=3)))
    with Stub(respond) as stub:
        result = call(stub, "submit", "--wait", "/bin/false")
    assert result.exit_code == 8
    assert "ended failed, exit code 3" in result.stderr


def test_wait_in_vain_is_exit_7() -> None:
    with Stub(sequence(Answer(200, TASK))) as stub:
        assert call(stub, "wait", "0190-a", "--timeout", "0.05").exit_code == 7


def test_wait_for_a_failed_task_is_exit_8() -> None:
    with Stub(sequence(Answer(200, ended("failed")))) as stub:
        assert call(stub, "wait", "0190-a").exit_code == 8


def test_logs_prints_bytes_as_they_are() -> None:
    with Stub(running(b"\xff\xfe raw", ended("succeeded"))) as stub:
        assert call(stub, "logs", "0190-a").stdout_bytes == b"\xff\xfe raw"


def test_result_is_printed_as_it_was_left() -> None:
    with Stub(sequence(Answer(200, b'{"a":  1.50}'))) as stub:
        result = call(stub, "result", "0190-a")
        assert (result.exit_code, result.stdout, result.stderr) == (0, '{"a":  1.50}\n', "")
        call(stub, "result", "0190-a", "--attempt", "2")
    paths = [asked.path for asked in stub.asked]
    assert paths == ["/v1/tasks/0190-a/result", "/v1/tasks/0190-a/attempts/2/result"]


@pytest.mark.parametrize(
    ("status", "code", "exit_code"),
    [(404, "no-result", 3), (404, "unknown-task", 3), (410, "output-gone", 3),
     (502, "node-unreachable", 3)],
)  # fmt: skip
def test_result_that_there_is_not_is_exit_3(status: int, code: str, exit_code: int) -> None:
    with Stub(sequence(problem(status, code, "why not"))) as stub:
        result = call(stub, "result", "0190-a")
    assert (result.exit_code, result.stdout) == (exit_code, "")
    assert "why not" in result.stderr


def test_logs_passes_its_options_on() -> None:
    with Stub(running(b"", ended("running"))) as stub:
        call(stub, "logs", "-f", "0190-a", "--attempt", "3", "--tail", "9")
    assert stub.asked[-1].path == "/v1/tasks/0190-a/attempts/3/output"
    assert stub.asked[-1].query == {"follow": "1", "tail": "9"}


def test_cancel_of_several_is_partial_when_one_is_refused() -> None:
    def respond(asked: Asked) -> Answer:
        if "bad" in asked.path:
            return problem(404, "unknown-task", "no task bad")
        return Answer(200, {**TASK, "state": "cancelled"})

    with Stub(respond) as stub:
        result = call(stub, "cancel", "0190-a", "bad", "--reason", "enough")
        assert (result.exit_code, result.stdout) == (9, "0190-a\n")
        assert result.stderr == "raftsched: no task bad; 'raftsched ls' lists the tasks there are\n"
        assert stub.asked[0].json() == {"reason": "enough"}
        assert call(stub, "cancel", "bad").exit_code == 3


def problem_of(status: int, code: str, title: str, detail: str) -> Answer:
    return Answer(status, {"code": code, "title": title, "detail": detail})


@pytest.mark.parametrize(
    ("arguments", "answers", "line"),
    [
        (
            ["cancel", "nope"],
            [problem_of(404, "unknown-task", "No such task", "nope")],
            "no task nope; 'raftsched ls' lists the tasks there are",
        ),
        (
            ["show", "nope"],
            [problem_of(404, "unknown-task", "No such task", "nope")],
            "No such task: nope; 'raftsched ls' lists the tasks there are",
        ),
        (
            ["cancel", "0190-a"],
            [
                problem_of(409, "task-terminal", "The task has ended", "cancelled"),
                Answer(200, ended("cancelled")),
            ],
            "task 0190-a has ended (cancelled) and cannot be cancelled",
        ),
        (
            ["pause", "0190-a"],
            [problem_of(409, "task-terminal", "The task has ended", "x"), problem(404, "x")],
            "task 0190-a has ended and cannot be paused",
        ),
        (
            ["rm", "0190-a"],
            [problem_of(409, "task-not-terminal", "The task has not ended", "running")],
            "task 0190-a has not ended and cannot be removed; cancel it first, or wait",
        ),
    ],
    ids=lambda value: value[0] if isinstance(value, list) and isinstance(value[0], str) else "",
)
def test_refusals_say_what_which_and_what_now(
    arguments: list[str], answers: list[Answer], line: str
) -> None:
    with Stub(sequence(*answers)) as stub:
        assert call(stub, *arguments).stderr == f"raftsched: {line}\n"


@pytest.mark.parametrize("verb", ["pause", "resume"])
def test_pause_and_resume(verb: str) -> None:
    with Stub(sequence(Answer(200, TASK))) as stub:
        assert call(stub, verb, "0190-a").stdout == "0190-a\n"
    assert stub.asked[0].path == f"/v1/tasks/0190-a/{verb}"


def test_rm_deletes() -> None:
    with Stub(sequence(Answer(204))) as stub:
        assert call(stub, "rm", "0190-a").stdout == "0190-a\n"
    assert stub.asked[0].method == "DELETE"


def test_show_lists_attempts() -> None:
    attempts = {"items": [{"number": 1, "status": "lost", "node": "n1"}]}
    with Stub(sequence(Answer(200, attempts))) as stub:
        assert "lost" in call(stub, "show", "--attempts", "0190-a").stdout


def batch(asked: Asked) -> Answer:
    answers: list[dict[str, object]] = []
    for n, line in enumerate(asked.body.splitlines()):
        if "bad" in json.loads(line):
            answers.append({"code": "invalid", "detail": "no"})
        elif "dry_run" in asked.query:
            answers.append({"line": n, "valid": True})
        else:
            answers.append({"id": f"t{n}"})
    return Answer(200, "".join(json.dumps(a) + "\n" for a in answers).encode())


def test_batch_prints_ids(tmp_path: Path) -> None:
    file = tmp_path / "tasks.ndjson"
    file.write_text('{"command": ["a"]}\n\n{"command": ["b"]}\n')
    with Stub(batch) as stub:
        result = call(stub, "submit", "--batch", str(file))
    assert (result.exit_code, result.stdout, result.stderr) == (0, "t0\nt1\n", "")


def test_batch_from_stdin_with_a_refused_line_is_partial() -> None:
    with Stub(batch) as stub:
        result = call(stub, "submit", "--batch", "-", stdin='{"command": ["a"]}\n{"bad": 1}\n')
    assert (result.exit_code, result.stdout) == (9, "t0\n")
    assert "line 2 refused: no" in result.stderr


def test_batch_that_is_not_json_is_misuse() -> None:
    with Stub(batch) as stub:
        result = call(stub, "submit", "--batch", "-", stdin="oops\n")
    assert result.exit_code == 2
    assert "line 1 is not JSON" in result.stderr


def test_batch_dry_run_checks_and_creates_nothing() -> None:
    with Stub(batch) as stub:
        good = call(stub, "submit", "--batch", "-", "--dry-run", stdin='{"command": ["a"]}\n')
        lines = '{"command": ["a"]}\n{"bad": 1}\n'
        bad = call(stub, "submit", "--batch", "-", "--dry-run", stdin=lines)
    assert [asked.query for asked in stub.asked] == [{"dry_run": "1"}] * 2
    assert (good.exit_code, good.stdout, good.stderr) == (0, "", "")
    assert (bad.exit_code, bad.stdout) == (9, "")
    assert "line 2 refused: no" in bad.stderr


@pytest.mark.parametrize(
    "option", ["--wait", "--name=x", "--env=A=1", "--priority=5", "--timeout=1s", "--attempts=2"]
)
def test_options_of_one_task_are_refused_with_batch(option: str) -> None:
    with Stub(batch) as stub:
        result = call(stub, "submit", "--batch", "-", option, stdin='{"command": ["a"]}\n')
    assert (result.exit_code, result.stdout, stub.asked) == (2, "", [])
    assert result.stderr.startswith(f"raftsched: {option.partition('=')[0]} cannot go with --batch")


def test_no_leader_is_said_when_most_peers_do_not_listen() -> None:
    answer = problem_of(503, "no-leader", "No majority leads just now", "waited for 0.9 s")
    with Stub(sequence(answer)) as stub:
        peers = f"127.0.0.1:1,{stub.address},127.0.0.1:2"
        arguments = ["submit", "--addr", peers, "--deadline", "0.3", "/bin/true"]
        result = CliRunner().invoke(cli, arguments)
    assert result.exit_code == 6
    assert result.stderr.startswith("raftsched: no leader is known: waited for 0.9 s (tried for 0.")
    assert "2 of 3 peers do not answer: http://127.0.0.1:1, http://127.0.0.1:2" in result.stderr
    assert "start a cluster" not in result.stderr
