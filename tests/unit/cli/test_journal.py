"""``raftsched journal export``: lines that a script can read, refusals in one line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner, Result

from raftsched.cli.exits import Exit
from raftsched.cli.main import cli
from raftsched.core.commands import (
    ActivateVersion,
    CancelTask,
    DeleteTask,
    PutLimit,
    PutQueue,
    SubmitTasks,
)
from raftsched.core.model import Limit, Queue
from raftsched.core.spec import TaskSpec
from tests.unit.core.builders import new_task, register
from tests.unit.peer.directories import Directory

SPEC = msgspec.msgpack.encode(TaskSpec(command=("true",), name="nightly"))


def export(path: Path, *words: str) -> Result:
    return CliRunner().invoke(cli, ["journal", "export", str(path), *words])


def lines(path: Path, *words: str) -> list[dict[str, Any]]:
    done = export(path, *words)
    assert done.exit_code == Exit.OK, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def filled(path: Path) -> Directory:
    directory = Directory(path)
    directory.do(ActivateVersion(7), register())
    directory.do(SubmitTasks((new_task("a", spec=SPEC), new_task("a", spec=b"")), key="k"))
    directory.do(CancelTask("a"), CancelTask("nobody"))
    directory.do(PutQueue(Queue("q")), PutLimit(Limit("l", 2)), DeleteTask("a"))
    return directory


def files(path: Path) -> dict[str, tuple[bytes, int]]:
    return {
        str(file.relative_to(path)): (file.read_bytes(), file.stat().st_mtime_ns)
        for file in sorted(path.rglob("*"))
        if file.is_file()
    }


def test_it_tells_who_what_and_what_came_of_it(tmp_path: Path) -> None:
    path = filled(tmp_path).stop()
    before = files(path)
    head, began, registered, submitted, cancelled, put = lines(path)
    assert files(path) == before
    assert head == {
        "format": 1, "peer": "n1", "cluster": "c", "term": 3, "snapshot_index": 0,
        "first_index": 1, "last_index": 5, "committed_index": 0, "torn_bytes": 0,
    }  # fmt: skip
    assert set(began) == {"index", "term", "digest"}
    assert registered["changed"]["cluster"]["version"] == 7
    assert registered["changed"]["nodes"]["n1"]["slots"] == 4
    (submit,) = submitted["commands"]
    assert (submit["command"], submit["peer"], submit["outcome"]) == (
        "SubmitTasks", "n1", "accepted"
    )  # fmt: skip
    assert submit["about"] == ["a", "a"]
    assert [(one["item"], one["reason"]) for one in submit["refused"]] == [(1, "duplicate-id")]
    assert submitted["events"] == [{"event": "task_queued", "task": "a"}]
    row = submitted["changed"]["tasks"]["a"]
    assert (row["name"], row["state"], row["modify_index"]) == ("nightly", "queued", 3)
    assert submitted["changed"]["keys"]["default/k"]["index"] == 3
    assert submitted["stamped_at"] == "2023-11-14T22:13:23.000Z"
    assert [one["outcome"] for one in cancelled["commands"]] == ["accepted", "rejected"]
    assert cancelled["commands"][1]["reason"] == "unknown-task"
    assert cancelled["changed"]["tasks"]["a"]["state"] == "cancelled"
    assert put["changed"]["tasks"] == {"a": None}
    assert put["changed"]["queues"]["q"]["name"] == "q"
    assert put["changed"]["limits"]["l"]["count"] == 2


def test_a_range_is_printed_with_the_same_head(tmp_path: Path) -> None:
    path = filled(tmp_path).stop()
    whole = lines(path)
    assert lines(path, "--from", "3", "--to", "4") == [whole[0], *whole[3:5]]
    done = export(path, "--from", "4", "--to", "3")
    assert (done.exit_code, "lies before" in done.stderr) == (Exit.USAGE, True)


def test_a_compacted_journal_says_where_it_begins(tmp_path: Path) -> None:
    directory = filled(tmp_path)
    directory.snapshot()
    directory.compact()
    directory.do(CancelTask("a"))
    done = export(directory.stop())
    head, last = [json.loads(line) for line in done.stdout.splitlines()]
    assert (head["snapshot_index"], head["first_index"], head["committed_index"]) == (5, 6, 5)
    assert (last["index"], last["commands"][0]["reason"]) == (6, "unknown-task")
    assert "the entries up to 5 are compacted away" in done.stderr


def test_a_torn_tail_is_told_and_left(tmp_path: Path) -> None:
    path = filled(tmp_path).stop(clean=False)
    segment = path / "raft" / "journal" / "segment-000000000001.log"
    segment.write_bytes(segment.read_bytes()[:-2])
    before = files(path)
    done = export(path)
    assert len(done.stdout.splitlines()) == 5
    assert "of an unfinished write at the end were passed over" in done.stderr
    assert files(path) == before


def test_a_directory_of_a_peer_that_runs_is_refused(tmp_path: Path) -> None:
    directory = filled(tmp_path)
    done = export(tmp_path)
    assert done.exit_code == Exit.CHECK_FAILED
    assert "is in use by another process; stop that peer" in done.stderr
    directory.stop()
    assert export(tmp_path).exit_code == Exit.OK


@pytest.mark.parametrize("name", ["segment-000000000001.log", "hard-state", "identity"])
def test_damage_is_refused_in_a_line(tmp_path: Path, name: str) -> None:
    path = filled(tmp_path).stop()
    (path / "raft" / "journal" / name).write_bytes(b"rubbish" * 2_000)
    done = export(path)
    assert (done.exit_code, done.stdout) == (Exit.DAMAGED, "")
    assert name in done.stderr and len(done.stderr.splitlines()) == 1


def test_what_is_no_peer_s_is_refused_and_not_made_one(tmp_path: Path) -> None:
    done = export(tmp_path / "nothing")
    assert done.exit_code == Exit.CHECK_FAILED
    assert "cannot be read" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_what_this_program_does_not_know_is_refused(tmp_path: Path) -> None:
    directory = filled(tmp_path)
    directory.do(CancelTask("a"), version=99)
    done = export(directory.stop())
    assert done.exit_code == Exit.UPGRADE_NEEDED
    assert "version 99" in done.stderr and len(done.stdout.splitlines()) == 6


def test_an_entry_of_rubbish_is_refused(tmp_path: Path) -> None:
    directory = filled(tmp_path)
    directory.add(b"\0rubbish")
    done = export(directory.stop())
    assert done.exit_code == Exit.DAMAGED
    assert "entry 6 of term 3 cannot be read" in done.stderr
