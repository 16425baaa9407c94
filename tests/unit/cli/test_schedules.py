"""``raftsched schedule`` against a stub."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from raftsched.cli.main import cli
from raftsched.cli.schedule_files import _differences
from tests.unit.client.stub import Answer, Asked, Stub, sequence

VIEW = {
    "name": "s", "cron": ["0 2 * * *"], "every": "10m", "at": [], "zone": "UTC", "paused": False,
    "next_at": "2026-01-01T02:00:00.000Z", "successes": 3, "failures": 0, "running": ["a", "b"],
    "overlap": "skip", "misfire": "latest", "english": "at 02:00 every day",
}  # fmt: skip


def call(stub: Stub, *arguments: str, text: str = "") -> Result:
    return CliRunner().invoke(cli, ["schedule", *arguments, "--addr", stub.address], input=text)


def sent(stub: Stub) -> list[tuple[str, str, Any]]:
    """What was asked: method, path, body."""
    return [(a.method, a.path, json.loads(a.body) if a.body else None) for a in stub.asked]


def one_page(*items: Any) -> Answer:
    return Answer(200, {"items": list(items), "next_cursor": None})


def test_add_says_when_and_what() -> None:
    with Stub(sequence(Answer(201, VIEW))) as stub:
        arguments = ["add", "s", "--cron", "0 2 * * *", "--zone", "Europe/Berlin", "--jitter", "5m"]
        runner = [*arguments, "--overlap", "queue", "--attempts", "3", "--addr", stub.address]
        result = CliRunner().invoke(cli, ["schedule", *runner, "--", "sh", "-c", "date"])
    assert result.exit_code == 0, result.output
    task = {"command": ["sh", "-c", "date"], "retry": {"max_attempts": 3}}
    assert sent(stub) == [("POST", "/v1/schedules", {
        "name": "s", "cron": "0 2 * * *", "zone": "Europe/Berlin", "jitter": "5m",
        "overlap": "queue", "task": task,
    })]  # fmt: skip


def test_add_replaces_only_when_told_so() -> None:
    conflict = Answer(409, {"code": "schedule-exists", "title": "t", "detail": "d", "status": 409})
    with Stub(sequence(conflict, Answer(200, {"action": "update"}), Answer(200, VIEW))) as stub:
        assert call(stub, "add", "s", "--every", "1m", "true").exit_code == 4
        assert call(stub, "add", "s", "--every", "1m", "--dry-run", "true").exit_code == 4
        assert call(stub, "add", "s", "--every", "1m", "--replace", "true").exit_code == 0
    assert [method for method, _, _ in sent(stub)] == ["POST", "PUT", "PUT"]
    assert call(stub, "add", "s", "--every", "1m").exit_code == 2


def test_ls_shows_when_and_how_it_goes() -> None:
    with Stub(sequence(one_page(VIEW))) as stub:
        line = call(stub, "ls").stdout.splitlines()[1]
    assert line.split()[0] == "s" and line.split()[-1] == "2"
    assert "0 2 * * *; every 10m" in line and "3 ok" in line


def test_preview_shows_the_words_the_instants_and_the_warnings() -> None:
    item = {"at": "2026-01-01T02:00:00.000Z", "local": "2026-01-01 03:00:00", "offset": "+01:00"}
    found = {"english": "at 03:00", "items": [item], "warnings": ["mind the gap"]}
    with Stub(sequence(Answer(200, found))) as stub:
        result = call(stub, "preview", "--cron", "0 3 * * *", "-n", "1")
        assert call(stub, "preview").exit_code == 2
    assert "at 03:00" in result.stdout and "+01:00" in result.stdout
    assert "mind the gap" in result.output
    assert sent(stub) == [("POST", "/v1/schedules:preview", {"cron": "0 3 * * *"})]
    assert stub.asked[0].query == {"n": "1"}


def test_verbs_of_one_schedule() -> None:
    with Stub(sequence(Answer(200, {**VIEW, "id": "t"}))) as stub:
        assert call(stub, "show", "s", "-o", "id").stdout == "s\n"
        assert call(stub, "pause", "s").stdout == "s\n"
        assert call(stub, "resume", "s").stdout == "s\n"
        assert call(stub, "trigger", "s").stdout == "t\n"
    assert [(m, p) for m, p, _ in sent(stub)] == [
        ("GET", "/v1/schedules/s"), ("POST", "/v1/schedules/s/pause"),
        ("POST", "/v1/schedules/s/resume"), ("POST", "/v1/schedules/s/trigger"),
    ]  # fmt: skip


def test_backfill_asks_with_the_number_of_instants_and_says_when_there_is_more() -> None:
    due = {"instants": ["a", "b"], "tasks": [], "next_from": None}
    done = {"instants": ["a", "b"], "tasks": ["t1"], "next_from": "b"}
    with Stub(sequence(Answer(200, due), Answer(200, due), Answer(200, done))) as stub:
        assert call(stub, "backfill", "s", "--from", "a", text="n\n").exit_code != 0
        assert len(stub.asked) == 1
        result = call(stub, "backfill", "s", "--from", "a", text="y\n")
    assert (result.exit_code, result.stdout) == (9, "t1\n")
    assert "--from b" in result.output
    assert sent(stub)[-1][2] == {"from": "a", "dry_run": False}


def test_rm_asks_before_it_ends_tasks() -> None:
    with Stub(sequence(Answer(200, VIEW))) as stub:
        assert call(stub, "rm", "s", "--tasks", text="n\n").exit_code != 0
        assert [method for method, _, _ in sent(stub)] == ["GET"]
        assert call(stub, "rm", "s", "--tasks", "-y").exit_code == 0
        assert call(stub, "rm", "s").exit_code == 0
    assert [asked.query for asked in stub.asked if asked.method == "DELETE"] == [
        {"tasks": "1"}, {},
    ]  # fmt: skip


def test_slots_and_forecast_are_lists() -> None:
    slot = {"at": "2026-01-01T02:00:00.000Z", "upto": "2026-01-01T03:00:00.000Z", "count": 5,
            "status": "missed", "reason": "late", "task": None}  # fmt: skip
    with Stub(sequence(one_page(slot), one_page({"at": "2026", "schedule": "s"}))) as stub:
        line = call(stub, "slots", "s").stdout.splitlines()[1]
        assert line.split()[2:] == ["2026-01-01", "03:00:00", "5", "missed", "late", "-"]
        assert call(stub, "forecast", "-n", "3").stdout.splitlines()[1].split() == ["2026", "s"]
    assert stub.asked[1].query["limit"] == "3"


# Files -----------------------------------------------------------------------------------------


class Told:
    """A cluster that has some schedules, and finds one name wrong."""

    def __init__(self, *names: str) -> None:
        self.names = dict.fromkeys(names, "0 1 * * *")

    def __call__(self, asked: Asked) -> Answer:
        name = asked.path.rpartition("/")[2]
        if asked.method == "GET" and name == "schedules":
            return one_page(*[{"name": known} for known in sorted(self.names)])
        if asked.method == "GET":
            return Answer(200, {"name": name, "cron": self.names[name]})
        if asked.method == "DELETE":
            del self.names[name]
            return Answer(204, None)
        cron = asked.json()["cron"]
        if cron == "wrong":
            return Answer(422, {"code": "invalid", "title": "t", "detail": "61?", "status": 422})
        known = self.names.get(name)
        action = "create" if known is None else "none" if known == cron else "update"
        if asked.query.get("dry_run"):
            fields = ["cron"] if action == "update" else []
            return Answer(200, {"valid": True, "action": action, "fields": fields})
        self.names[name] = cron
        return Answer(200, {"name": name})


TOML = """
[[schedules]]
name = "a"
cron = "0 1 * * *"
task = {command = ["true"]}

[[schedules]]
name = "b"
cron = "0 2 * * *"
task = {command = ["true"]}

[[schedules]]
name = "c"
cron = "0 3 * * *"
task = {command = ["true"]}
"""


def test_apply_says_and_does_what_is_to_be_changed(alone: Path) -> None:
    (alone / "s.toml").write_text(TOML)
    told = Told("a", "b", "z")
    with Stub(told) as stub:
        tried = call(stub, "apply", "-f", "s.toml", "--dry-run", "--prune", "-o", "json")
        rows = {row["name"]: row for row in json.loads(tried.stdout)}
        assert {name: row["action"] for name, row in rows.items()} == {
            "a": "none", "b": "update", "c": "create", "z": "delete",
        }  # fmt: skip
        change = {"field": "cron", "old": "0 1 * * *", "new": "0 2 * * *"}
        assert rows["b"]["changes"] == [change]
        assert told.names == dict.fromkeys("abz", "0 1 * * *"), "nothing was done"
        assert call(stub, "apply", "-f", "s.toml").exit_code == 0
        assert sorted(told.names) == ["a", "b", "c", "z"]
        assert call(stub, "apply", "-f", "s.toml", "--prune", text="n\n").exit_code != 0
        assert call(stub, "apply", "-f", "s.toml", "--prune", text="y\n").exit_code == 0
    assert told.names == {"a": "0 1 * * *", "b": "0 2 * * *", "c": "0 3 * * *"}
    changing = [a for a in stub.asked if a.method == "PUT" and not a.query]
    assert [a.path[-1] for a in changing] == ["b", "c"], "each once"


def test_a_difference_of_tasks_names_its_fields_and_shows_no_secrets() -> None:
    old = {"command": ["a"], "env": {"KEY": "x"}}
    found = _differences("task", old, {"command": ["b"], "env": {"KEY": "y"}, "timeout": "1h"})
    assert found == [
        {"field": "task.command", "old": ["a"], "new": ["b"]},
        {"field": "task.env", "old": "(not shown)", "new": "(not shown)"},
        {"field": "task.timeout", "old": None, "new": "1h"},
    ]


def test_apply_changes_nothing_when_one_document_is_wrong(alone: Path) -> None:
    documents = [{"name": "a", "cron": "0 1 * * *"}, {"name": "b", "cron": "wrong"}]
    (alone / "s.json").write_text(json.dumps(documents))
    told = Told()
    with Stub(told) as stub:
        result = call(stub, "apply", "-f", "s.json")
    assert result.exit_code == 2 and not told.names
    assert "schedule 2 (b)" in result.output and "61?" in result.output


@pytest.mark.parametrize("text", ["{", "{}", "[1]", "[{}]", '[{"name":"a"},{"name":"a"}]', "\xff"])
def test_apply_refuses_what_is_no_list_of_schedules(alone: Path, text: str) -> None:
    (alone / "s.json").write_bytes(text.encode("latin-1"))
    with Stub(sequence(Answer(200, {}))) as stub:
        result = call(stub, "apply", "-f", "s.json")
    assert result.exit_code == 2, result.output
    assert not stub.asked


def test_import_takes_what_it_can_and_says_the_rest(alone: Path) -> None:
    (alone / "tab").write_text("@reboot /x\n0 5 * * * /usr/bin/backup\nwrong wrong\n")
    told = Told()
    with Stub(told) as stub:
        assert call(stub, "import-crontab", "tab", "--dry-run").exit_code == 9
        assert not told.names
        result = call(stub, "import-crontab", "tab", "--zone", "Asia/Tokyo", "--prefix", "x-")
    assert result.exit_code == 9 and "line 1: @reboot" in result.output
    assert told.names == {"x-backup": "0 5 * * *"}
    assert stub.asked[-1].json()["zone"] == "Asia/Tokyo"


def test_import_prints_documents_that_apply_takes(alone: Path) -> None:
    (alone / "tab").write_text("0 5 * * * root /usr/bin/backup\n")
    arguments = ["schedule", "import-crontab", "tab", "--system", "--no-user", "--print"]
    result = CliRunner().invoke(cli, arguments)
    [document] = json.loads(result.stdout)
    assert document["task"] == {"command": ["/usr/bin/backup"], "shell": True}
