"""Records on disk and back, and histories that cannot be."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import msgspec
import pytest

from jepsen_like import history
from jepsen_like.evidence import read_evidence
from jepsen_like.history import (
    BadEvidence,
    Clock,
    Earn,
    Effect,
    Exit,
    FaultEvent,
    Final,
    FinalTask,
    LogEntry,
    Operation,
    Ordered,
    Phase,
    Position,
    Record,
    Replayed,
    Row,
    Run,
    Sample,
    Writer,
    calls,
    read_lines,
    write_document,
)
from jepsen_like.spans import NEVER, spans
from jepsen_like.statistics import distribution
from tests.jepsen.builders import fault


def operation(n: int, process: int, type: Any, at: int, f: str = "read") -> Operation:
    return Operation(n, process, type, f, at, "n1", {"id": "t"})


def test_questions_are_paired_with_their_ends() -> None:
    asked = [
        operation(0, 1, "invoke", 10),
        operation(1, 2, "invoke", 11, "submit"),
        operation(2, 1, "ok", 12),
        operation(3, 1, "invoke", 13),
        operation(4, 2, "info", 14, "submit"),
    ]
    found = [(c.n, c.outcome, c.invoked_at, c.ended_at) for c in calls(asked)]
    assert found == [(0, "ok", 10, 12), (1, "info", 11, None), (3, "info", 13, None)]


@pytest.mark.parametrize(
    ("history", "says"),
    [
        ([operation(0, 1, "ok", 1)], "did not ask"),
        ([operation(0, 1, "invoke", 1), operation(1, 1, "invoke", 2)], "asks twice"),
        ([operation(0, 1, "invoke", 1), operation(1, 1, "ok", 2, "submit")], "did not ask"),
        ([operation(0, 1, "invoke", 5), operation(1, 1, "ok", 2)], "ends before"),
        (
            [
                operation(0, 1, "invoke", 1),
                operation(1, 1, "info", 2),
                operation(2, 1, "invoke", 3),
            ],
            "goes on after an info",
        ),
    ],
)
def test_a_history_that_cannot_be_is_refused(history: list[Operation], says: str) -> None:
    with pytest.raises(BadEvidence, match=says):
        calls(history)


def test_a_torn_last_line_is_left_out_and_a_bad_one_is_named(tmp_path: Path) -> None:
    path = tmp_path / "effects.jsonl"
    effect = Effect("t", 1, 7, "n1", "start", 5)
    with Writer(path) as writer:
        writer.write(effect)
    with path.open("ab") as stream:
        stream.write(b'{"task": "t", "att')
    assert list(read_lines(path, Effect)) == [effect]
    with path.open("ab") as stream:
        stream.write(b"\n")
    with pytest.raises(BadEvidence, match=r"effects\.jsonl, line 2"):
        list(read_lines(path, Effect))


def test_a_run_is_read_as_it_was_written(tmp_path: Path) -> None:
    write_document(tmp_path / "run.json", Run("tasks", seed=7, peers=["n1"]))
    (tmp_path / "history.jsonl").write_text(
        '{"n":0,"process":0,"type":"invoke","f":"submit","at":5,"peer":"n1","value":{"id":"t"}}\n'
        '{"n":1,"process":0,"type":"ok","f":"submit","at":9,"value":{"id":"t"},"index":3,"new":1}\n'
    )
    (tmp_path / "effects").mkdir()
    for name, at in (("b", 30), ("a", 40)):
        with Writer(tmp_path / "effects" / f"{name}.jsonl") as writer:
            writer.write(Effect("t", 1, 7, "n1", "beat", at))
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "n1.log").write_text("ready\nbye\n")
    found = read_evidence(tmp_path)
    assert (found.run.seed, found.run.workload) == (7, "tasks")
    assert [(call.id, call.peer, call.index) for call in found.calls] == [("t", "n1", 3)]
    assert [effect.at for effect in found.effects] == [30, 40]
    assert found.logs[0].lines == ("ready", "bye")
    assert found.log is None


def test_what_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadEvidence, match=r"run\.json"):
        read_evidence(tmp_path)
    write_document(tmp_path / "run.json", Run("tasks", format=2))
    with pytest.raises(BadEvidence, match="format 2"):
        read_evidence(tmp_path)


def test_faults_become_spans() -> None:
    events = [
        *fault("pause", 10, 20, "n1"),
        *fault("pause", 12, 15, "n2", verified=False),
        *fault("kill", 30, None, "n3"),
    ]
    found = [(s.fault, s.targets, s.to_at, s.verified) for s in spans(events)]
    assert found == [
        ("pause", ("n1",), 20_000_000, True),
        ("pause", ("n2",), 15_000_000, False),
        ("kill", ("n3",), NEVER, True),
    ]


def test_percentiles_are_values_that_occurred() -> None:
    values = [float(v) for v in range(1, 101)]
    assert distribution(values) == {"count": 100, "p50": 50.0, "p99": 99.0, "max": 100.0}
    assert distribution([3.0]) == {"count": 1, "p50": 3.0, "p99": 3.0, "max": 3.0}
    assert distribution([]) == {}


#: What the README says of files' records.
FIELDS: dict[str, tuple[type[Record], dict[str, type[Record]]]] = {
    "run.json": (Run, {"phases": Phase, "clock": Clock, "exits": Exit, "earn": Earn}),
    "history.jsonl": (Operation, {}),
    "effects/*.jsonl": (Effect, {}),
    "faults.jsonl": (FaultEvent, {}),
    "states.jsonl": (Sample, {}),
    "final/<peer>.json": (Final, {"tasks": FinalTask}),
    "replayed/<peer>.json": (Replayed, {"entries": Position}),
    "log.jsonl": (LogEntry, {"rows": Row, "commands": Ordered}),
}


def documented(file: str) -> dict[str, set[str]]:
    """Field -> the fields of what it holds (none: not told), from the README's table of a file."""
    text = (Path(__file__).parents[2] / "jepsen-like" / "README.md").read_text(encoding="utf-8")
    section = text.partition("### Fields\n")[2].partition("\n## ")[0]
    assert f"\n`{file}`" in section, f"README.md has no table of {file}"
    told: dict[str, set[str]] = {}
    for line in section.partition(f"\n`{file}`")[2].partition("\n\n")[2].splitlines()[2:]:
        if not line.startswith("|"):
            break
        words = re.findall(r"`([^`]+)`", line.split("|")[1])
        inside = {name for word in words if word[0] in "[{" for name in parts(word)}
        told |= {word: inside for word in words if word[0] not in "[{"}
    return told


def parts(word: str) -> list[str]:
    return [name.strip() for name in word.strip("[]{}").split(",")]


@pytest.mark.parametrize("file", FIELDS)
def test_every_field_of_the_evidence_is_in_the_readme_and_no_other(file: str) -> None:
    kind, inside = FIELDS[file]
    told = documented(file)
    assert set(told) == {field.encode_name for field in msgspec.structs.fields(kind)}
    for name, names in told.items():
        of = inside.get(name)
        expected = {field.encode_name for field in msgspec.structs.fields(of)} if of else set()
        assert names == expected, name


def test_no_kind_of_record_on_disk_is_forgotten() -> None:
    on_disk = {kind for kind, inside in FIELDS.values() for kind in (kind, *inside.values())}
    kinds = {kind for kind in vars(history).values() if isinstance(kind, type)}
    # Calls are put together from operations, and never written.
    assert {k for k in kinds if issubclass(k, Record)} - {Record, history.Call} == on_disk
