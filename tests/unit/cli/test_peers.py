"""``raftsched peers`` against a stub."""

from __future__ import annotations

import json

from click.testing import CliRunner, Result

from raftsched.cli.main import cli
from tests.unit.client.stub import Answer, Stub, problem, sequence

ROW = {"id": "n4", "role": "learner", "raft": "h4:1", "api": "h4:2", "lag_entries": 7}
DONE = {"done": True, "waits_for": "", "items": [{**ROW, "role": "voter"}]}
WAITS = {"done": False, "waits_for": "n4 lacks 7 entries", "items": [ROW]}


def call(stub: Stub, *arguments: str, text: str = "") -> Result:
    return CliRunner().invoke(cli, [*arguments, "--addr", stub.address], input=text)


def test_ls_shows_roles_and_lag() -> None:
    with Stub(sequence(Answer(200, WAITS))) as stub:
        line = call(stub, "peers", "ls").stdout.splitlines()[1]
    assert line.split()[:2] == ["n4", "learner"]
    assert "7" in line.split()


def test_add_asks_until_it_is_done() -> None:
    with Stub(sequence(Answer(202, WAITS), Answer(202, WAITS), Answer(200, DONE))) as stub:
        result = call(stub, "peers", "add", "n4", "--raft", "h4:1", "--api", "h4:2", "-o", "json")
    assert (result.exit_code, json.loads(result.stdout)) == (0, DONE["items"])
    assert [json.loads(asked.body) for asked in stub.asked] == 3 * [
        {"id": "n4", "raft": "h4:1", "api": "h4:2", "replaces": ""}
    ]


def test_replace_names_the_one_that_goes() -> None:
    with Stub(sequence(Answer(200, DONE))) as stub:
        call(stub, "peers", "replace", "n1", "n4", "--raft", "h4:1", "--api", "h4:2")
    assert json.loads(stub.asked[0].body)["replaces"] == "n1"


def test_what_lasts_too_long_is_exit_7_and_goes_on() -> None:
    with Stub(sequence(Answer(202, WAITS))) as stub:
        result = call(stub, "peers", "add", "n4", "--raft", "h:1", "--api", "h:2", "--timeout", "0")
    assert result.exit_code == 7
    assert "it goes on: n4 lacks 7 entries" in result.stderr


def test_remove_says_the_impact_and_asks() -> None:
    three = {**DONE, "items": [{"id": f"n{i}", "role": "voter"} for i in (1, 2, 3)]}
    with Stub(sequence(Answer(200, three))) as stub:
        result = call(stub, "peers", "remove", "n3", text="n\n")
    assert "2 voters stay (n1 n2), 2 of them must be up" in result.stderr
    assert result.exit_code == 130
    assert [asked.method for asked in stub.asked] == ["GET"]


def test_refused_change_is_exit_4() -> None:
    refused = problem(409, "change-refused", "n3 did not answer")
    with Stub(sequence(refused)) as stub:
        result = call(stub, "peers", "remove", "n2", "--yes")
    assert (result.exit_code, "n3 did not answer" in result.stderr) == (4, True)
