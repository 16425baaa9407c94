"""What slots, tasks and the functions' own file say of schedules, and what is made of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from raftsched.app import Context, enter
from raftsched.cli.bench.command import bench
from raftsched.cli.bench.noop import note_run
from raftsched.cli.bench.schedules.evidence import (
    Row,
    Shown,
    Slot,
    Start,
    account,
    due,
    instant_ms,
    is_exact,
    rows,
    starts,
)
from raftsched.core.handlers.runs import run_id
from tests.ports import base_port

T0 = 1_795_226_400_000


def test_due_are_steps_from_the_first_one_on_and_none_at_the_end() -> None:
    found = due({"a": T0, "b": T0 + 3}, {"a": 5, "b": 10}, T0 + 13)
    assert found == [("a", T0), ("a", T0 + 5), ("a", T0 + 10), ("b", T0 + 3)]


def test_a_run_notes_its_slot(tmp_path: Path) -> None:
    path = tmp_path / "runs"
    for task_id in (run_id("a.b-1", T0), run_id("a", T0 + 250) + "-2"):
        enter(Context(task_id))
        note_run(str(path))
    enter(Context())
    first, second = starts(path.read_text())
    assert (first.slot, second.slot) == (("a.b-1", T0), ("a", T0 + 250))
    assert Start(("a", 1_000), 1_002_500_000).lag_ms == 2.5


def test_a_range_has_a_row_for_each_instant() -> None:
    slot = {
        "at": "2026-11-21T02:00:00Z", "upto": "2026-11-21T02:00:10Z", "count": 3,
        "status": "missed", "reason": "late", "fired_at": "2026-11-21T02:01:00.5Z",
    }  # fmt: skip
    found = rows("a", [slot], 5_000)
    assert found == {("a", T0 + n * 5_000): Row("missed", "late", T0 + 60_500) for n in range(3)}
    assert instant_ms("2026-11-21T02:00:00Z") == T0


GOOD: Slot = ("a", T0)
DONE = {GOOD: Row("succeeded", "", T0 + 4)}
ONCE = [Start(GOOD, T0 * 1_000_000 + 20_000_000)]


def test_an_instant_that_ran_once_and_is_shown_so_is_exact() -> None:
    report = account([GOOD], ONCE, Shown([GOOD], DONE))
    assert is_exact(report)
    assert (report["due"], report["started"], report["slots"]) == (1, 1, {"succeeded": 1})
    assert (report["start_lag_ms"]["p99"], report["decided_after_ms"]["p99"]) == (20.0, 4)


@pytest.mark.parametrize(
    ("began", "tasks", "shown", "wrong"),
    [
        ([], [GOOD], DONE, "missed"),
        (ONCE * 2, [GOOD], DONE, "twice"),
        (ONCE, [GOOD, GOOD], DONE, "tasks_twice"),
        (ONCE, [GOOD], {}, "without_slot"),
        (ONCE, [GOOD, ("a", T0 + 1)], DONE, "never_due"),
        ([*ONCE, Start(("b", T0), T0)], [GOOD], DONE, "never_due"),
        (ONCE, [GOOD], {**DONE, ("a", T0 + 1): DONE[GOOD]}, "never_due"),
    ],
)
def test_whatever_disagrees_is_counted(
    began: list[Start], tasks: list[Slot], shown: dict[Slot, Row], wrong: str
) -> None:
    report = account([GOOD], began, Shown(tasks, shown))
    assert report[wrong] == 1 and not is_exact(report)


def test_without_a_task_it_did_not_fire() -> None:
    assert not is_exact(account([GOOD], ONCE, Shown([], DONE)))


def test_the_start_that_counts_is_the_first() -> None:
    twice = [Start(GOOD, T0 * 1_000_000 + 9_000_000), ONCE[0]]
    assert account([GOOD], twice, Shown([GOOD], DONE))["start_lag_ms"]["longest"] == 9.0


def test_small_case_starts_every_schedule_once() -> None:
    arguments = ["schedules", "--only", "instant", "--at-once", "20"]
    result = CliRunner().invoke(bench, [*arguments, "--base-port", str(base_port())])
    assert result.exit_code == 0, result.output
    found: dict[str, Any] = json.loads(result.stdout)["instant"]
    assert found["is_exact"] and found["started"] == found["due"] == 20, found
    assert found["slots"] == {"succeeded": 20}
