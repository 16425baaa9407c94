"""``raftsched api`` and ``completion``."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from raftsched.cli import files
from raftsched.cli.exits import Exit
from raftsched.cli.main import cli
from tests.unit.client.stub import Answer, Stub, problem, sequence

JSON = {"Content-Type": "application/json; charset=utf-8"}


def call(stub: Stub, *arguments: str, text: str = "") -> Result:
    return CliRunner().invoke(cli, ["api", *arguments, "--addr", stub.address], input=text)


def test_get_prints_the_answer_as_json() -> None:
    with Stub(sequence(Answer(200, {"name": "ü", "n": [1]}, JSON))) as stub:
        result = call(stub, "get", "/v1/tasks?state=running&limit=5")
    assert result.stdout == '{\n  "name": "ü",\n  "n": [\n    1\n  ]\n}\n'
    assert (stub.asked[0].method, stub.asked[0].path) == ("GET", "/v1/tasks")
    assert stub.asked[0].query == {"state": "running", "limit": "5"}
    assert "idempotency-key" not in stub.asked[0].headers


def test_what_is_not_json_comes_as_it_is() -> None:
    with Stub(sequence(Answer(200, b"a 1\n\xff", {"Content-Type": "text/plain"}))) as stub:
        assert call(stub, "GET", "/metrics").stdout_bytes == b"a 1\n\xff"


def test_empty_answer_prints_nothing() -> None:
    with Stub(sequence(Answer(204))) as stub:
        result = call(stub, "DELETE", "/v1/limits/db")
    assert (result.exit_code, result.stdout, stub.asked[0].method) == (0, "", "DELETE")


@pytest.mark.parametrize("how", ["argument", "file", "stdin"])
def test_body_is_sent_as_json(how: str, alone: Path) -> None:
    text = '{ "count":\n 4 }'
    (alone / "body.json").write_text(text)
    data = {"argument": text, "file": "@body.json", "stdin": "@-"}[how]
    with Stub(sequence(Answer(200, {}, JSON))) as stub:
        assert call(stub, "PUT", "/v1/limits/db", "-d", data, text=text).exit_code == 0
    assert stub.asked[0].json() == {"count": 4}
    assert stub.asked[0].headers["content-type"] == "application/json"


def test_post_has_a_key_of_its_own_or_the_one_given() -> None:
    with Stub(lambda asked: Answer(201, {}, JSON)) as stub:
        for options in ([], [], ["--key", "mine"]):
            call(stub, "POST", "/v1/tasks", "-d", '{"command": ["true"]}', *options)
    keys = [asked.headers["idempotency-key"] for asked in stub.asked]
    assert keys[0] != keys[1] and keys[2] == "mine"


def test_change_of_what_was_seen() -> None:
    with Stub(sequence(Answer(200, {}, JSON))) as stub:
        call(stub, "PATCH", "/v1/tasks/t", "-d", "{}", "--if-match", "7")
    assert stub.asked[0].headers["if-match"] == '"7"'


def test_trouble_has_the_exit_code_of_the_other_commands() -> None:
    with Stub(sequence(problem(404, "task-not-found", "there is no task t"))) as stub:
        result = call(stub, "GET", "/v1/tasks/t")
    assert result.exit_code == Exit.NOT_FOUND
    assert "there is no task t" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["GET", "v1/tasks"], "begins with a slash"),
        (["GET", "/v1/tasks/a b"], "percent-encoded"),
        (["GET", "/v1/x\r\nHost: y"], "percent-encoded"),
        (["GET", "/v1/ü"], "percent-encoded"),
        (["POST", "/v1/tasks", "-d", "{"], "is no JSON"),
        (["POST", "/v1/tasks", "-d", "@missing"], "--data @missing: No such file"),
        (["PUT", "/v1/x", "--key", "k"], "--key is for POST"),
        (["POST", "/v1/x", "--key", ""], "--key takes"),
        (["POST", "/v1/x", "--key", "a\r\nX: y"], "--key takes"),
        (["POST", "/v1/x", "--key", "€"], "--key takes"),
        (["DELETE", "/v1/limits/db", "--if-match", "7"], "--if-match is for"),
        (["POST", "/v1/tasks", "-d", "NaN"], "NaN is no number"),
        (["POST", "/v1/tasks", "-d", "[" * 100_000], "is no JSON"),
        (["POST", "/v1/tasks:batch", "-d", '{"id": "a"}\n{'], "is no JSON"),
        (["GET", "/v1/tasks", "-o", "id"], "json is all there is"),
        (["GET", "/v1/tasks/t/attempts/1/output?follow=1"], "raftsched logs -f"),
        (["HEAD", "/v1/x"], "HEAD"),
    ],
)
def test_rubbish_is_refused_before_anything_is_sent(arguments: list[str], says: str) -> None:
    with Stub(sequence(Answer(200, {}, JSON))) as stub:
        result = call(stub, *arguments)
    assert result.exit_code == Exit.USAGE
    assert says in result.stderr
    assert not stub.asked


def test_batch_is_a_document_a_line() -> None:
    with Stub(sequence(Answer(200, b"{}\n{}\n", {"Content-Type": "application/x-ndjson"}))) as stub:
        result = call(
            stub, "POST", "/v1/tasks:batch", "-d", "@-", text='{"id":"a"}\n\n{"id":"b"}\n'
        )
    assert result.stdout == "{}\n{}\n"
    assert stub.asked[0].body == b'{"id": "a"}\n{"id": "b"}'
    assert stub.asked[0].headers["content-type"] == "application/x-ndjson"


LOST = problem(504, "unknown-outcome", "nobody knows")


@pytest.mark.parametrize(
    ("arguments", "tries", "ends_as"),
    [
        (["POST", "/v1/tasks"], 2, Exit.OK),
        (["PUT", "/v1/limits/db"], 2, Exit.OK),
        (["POST", "/v1/cluster/leader:transfer"], 1, Exit.UNKNOWN),
        (["POST", "/v1/tasks:retry?state=failed"], 1, Exit.UNKNOWN),
        (["PATCH", "/v1/tasks/t", "--if-match", "3"], 1, Exit.UNKNOWN),
    ],
)
def test_only_what_may_be_done_twice_is_tried_again(
    arguments: list[str], tries: int, ends_as: Exit
) -> None:
    with Stub(sequence(LOST, Answer(200, {}, JSON))) as stub:
        result = call(stub, *arguments, "-d", "{}")
    assert (len(stub.asked), result.exit_code) == (tries, ends_as), result.stderr


def test_what_an_earlier_try_deleted_is_deleted() -> None:
    with Stub(sequence(LOST, problem(404, "unknown-limit"))) as stub:
        assert call(stub, "DELETE", "/v1/limits/db").exit_code == Exit.OK
    with Stub(sequence(problem(404, "unknown-limit"))) as stub:
        assert call(stub, "DELETE", "/v1/limits/db").exit_code == Exit.NOT_FOUND


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_script_for_a_shell_asks_this_program(shell: str) -> None:
    result = CliRunner().invoke(cli, ["completion", shell])
    assert result.exit_code == 0
    assert f"_RAFTSCHED_COMPLETE={shell}_complete" in result.stdout


def test_bash_takes_the_script() -> None:
    if shutil.which("bash") is None:
        pytest.skip("there is no bash")
    script = CliRunner().invoke(cli, ["completion", "bash"]).stdout
    subprocess.run(["bash", "-n"], input=script.encode(), check=True, timeout=20)


def test_words_are_completed() -> None:
    asked = {"_RAFTSCHED_COMPLETE": "bash_complete", "COMP_CWORD": "1"}
    for line, wanted in (("raftsched que", ["plain,queue"]), ("raftsched nothing", [])):
        result = CliRunner().invoke(
            cli, [], env={**asked, "COMP_WORDS": line}, prog_name="raftsched"
        )
        assert result.stdout.split() == wanted, json.dumps(result.stdout)


def test_body_of_a_file_is_bounded(alone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "FILE_BYTES_MAX", 10)
    (alone / "body.json").write_text('{"count": 40000}')
    with Stub(sequence(Answer(200, {}, JSON))) as stub:
        result = call(stub, "PUT", "/v1/limits/db", "-d", "@body.json")
    assert (result.exit_code, stub.asked) == (Exit.USAGE, [])
    assert "has more than 10 bytes" in result.stderr
