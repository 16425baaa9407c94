"""What peers' logs come to, once each was applied again by the program under test."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from jepsen_like.evidence import LOG, REPLAYED
from jepsen_like.history import LogEntry, Ordered, Replayed, Row, read_document, read_lines
from jepsen_like.orders import OrderFailed
from jepsen_like.replay import BadExport, read_export, replay

Line = dict[str, Any]


def head(peer: str = "n1", first: int = 1, **more: Any) -> Line:
    return {"format": 1, "peer": peer, "first_index": first, "committed_index": 0, **more}


def line(index: int, state: str = "queued", **more: Any) -> Line:
    row = {"id": "t", "state": state, "attempt": 0, "paused": False, "node": None, "labels": {}}
    changed = {"tasks": {"t": row, "gone": None}, "nodes": {"n1": {}}}
    return {"index": index, "term": 1, "digest": "d", "changed": changed, **more}


def written(path: Path, *lines: Line | bytes) -> Path:
    parts = [one if isinstance(one, bytes) else json.dumps(one).encode() for one in lines]
    path.write_bytes(b"".join(part + b"\n" for part in parts))
    return path


class Stopped:
    """Peers that ended, and what the program prints of each: lines, or an exit code."""

    def __init__(self, **told: list[Line] | int | str) -> None:
        self.ids = list(told)
        self.running = set(told)
        self._told = told

    async def kill(self, peer: str) -> None:
        self.running.discard(peer)

    async def export(self, peer: str, file: Path) -> tuple[int, str]:
        assert peer not in self.running
        told = self._told[peer]
        if isinstance(told, str):
            raise OrderFailed(told)
        if isinstance(told, int):
            return told, "raftsched: it cannot\n"
        written(file, *told)
        return 0, ""


async def replayed(directory: Path, **told: list[Line] | int | str) -> dict[str, Replayed]:
    await replay(Stopped(**told), directory)  # type: ignore[arg-type]
    assert not list((directory / REPLAYED).glob("*.jsonl"))
    return {
        path.stem: read_document(path, Replayed)
        for path in sorted((directory / REPLAYED).glob("*.json"))
    }


def logged(directory: Path) -> list[LogEntry]:
    return list(read_lines(directory / LOG, LogEntry))


async def test_what_judges_need_is_kept_of_the_longest(tmp_path: Path) -> None:
    commands = [
        {"command": "CancelTask", "peer": "n2", "outcome": "rejected", "about": ["t"],
         "reason": "task-terminal"},
        {"command": "FireTimers", "peer": "n1", "outcome": "accepted", "about": []},
    ]  # fmt: skip
    lines = [line(1), {"index": 2, "term": 2, "digest": "d"}, line(3, commands=commands)]
    found = await replayed(
        tmp_path,
        n1=[head(), *lines],
        n2=[head("n2"), *lines],
        n3=[head("n3", 3, committed_index=2), lines[2]],
    )
    assert [(p.index, p.term) for p in found["n1"].entries] == [(1, 1), (2, 2), (3, 1)]
    assert found["n3"].entries == found["n1"].entries[2:]
    assert found["n3"].committed_index == 2
    first, second, third = logged(tmp_path)
    row = first.rows["t"]
    assert row is not None
    assert (row.state, row.attempt, row.told["node"], row.told["id"]) == ("queued", 0, None, "t")
    assert "labels" not in row.told
    assert first.rows["gone"] is None
    assert second == LogEntry(2)
    assert third.commands == [Ordered("CancelTask", "n2", False, ["t"], "task-terminal")]


async def test_a_task_that_is_paused_before_it_runs_is_paused(tmp_path: Path) -> None:
    paused = line(1)
    paused["changed"]["tasks"]["t"]["paused"] = True
    await replayed(tmp_path, n1=[head(), paused])
    assert isinstance(row := logged(tmp_path)[0].rows["t"], Row) and row.state == "paused"


async def test_what_a_majority_does_not_have_is_left_out(tmp_path: Path) -> None:
    """The end of one log may never have been committed, or be another's."""
    await replayed(
        tmp_path,
        n1=[head(), line(1), line(2), line(3, "paused"), line(4)],
        n2=[head("n2"), line(1), line(2), line(3)],
        n3=[head("n3"), line(1)],
    )
    assert [entry.index for entry in logged(tmp_path)] == [1, 2]


async def test_without_a_majority_there_is_no_log(tmp_path: Path) -> None:
    found = await replayed(tmp_path, n1=[head(), line(1)], n2=14, n3="machine n3 has ended")
    assert not (tmp_path / LOG).exists()
    assert found["n2"].why_not == "exit code 14: raftsched: it cannot"
    assert found["n3"].why_not == "OrderFailed: machine n3 has ended"
    assert not found["n2"].is_impossible


async def test_a_program_that_knows_no_such_command_is_told_apart(tmp_path: Path) -> None:
    found = await replayed(tmp_path, n1=2, n2=2, n3=2)
    assert all(one.is_impossible and one.why_not for one in found.values())


async def test_the_order_of_fields_is_no_difference_and_any_value_is(tmp_path: Path) -> None:
    turned = dict(reversed(line(1).items()))
    found = await replayed(
        tmp_path, n1=[head(), line(1)], n2=[head("n2"), turned], n3=[head("n3"), line(1, "failed")]
    )
    assert found["n1"].entries == found["n2"].entries != found["n3"].entries


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        ([], "format None"),
        ([{**head(), "format": 2}], "format 2 is not known"),
        ([head("n2")], "it is of n2"),
        ([head(), b"{rubbish"], "line 2"),
        ([head(), line(1), line(3)], "gaps"),
        ([head(first=5), line(1)], "gaps"),
    ],
)
def test_what_is_no_log_is_refused(tmp_path: Path, lines: list[Line | bytes], says: str) -> None:
    with pytest.raises(BadExport, match=says):
        read_export("n1", written(tmp_path / "n1.jsonl", *lines))
