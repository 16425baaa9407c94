"""Runs that are early because a majority of clocks was wrong together, and no earlier."""

from __future__ import annotations

from typing import Any

import pytest

from jepsen_like.checker.slots import CHECKER
from jepsen_like.history import Call, Effect, FaultEvent
from tests.jepsen.builders import EPOCH_MS, MS, attempt, call, evidence, fault

SLOT_MS = EPOCH_MS + 20_000


def _early(shift_ms: int, early_ms: int) -> list[str]:
    """What is wrong with a run that much before its slot, when clocks were that much ahead."""
    document = {"name": "s", "every_ms": 20_000, "start": EPOCH_MS}
    slots = {"slots": [{"at_ms": SLOT_MS, "state": "succeeded", "task": "s.1"}]}
    calls: list[Call] = [
        call("put-schedule", 100, 110, document, {"name": "s"}),
        call("slots", 35_000, 35_010, {"name": "s"}, slots),
    ]
    began = 20_000 - early_ms
    effects: list[Effect] = attempt("s.1", 1, began, began + 100, slot=SLOT_MS, schedule="s")
    faults: list[FaultEvent] = fault("clock-all", 5_000, 25_000, "n1", shift_ms=shift_ms)
    verdict = CHECKER(evidence("schedules", calls=calls, effects=effects, faults=faults))
    return [violation.says for violation in verdict.violations]


@pytest.mark.parametrize(("shift_ms", "early_ms"), [(0, 1_900), (10_000, 1_900), (10_000, 11_900)])
def test_run_is_as_early_as_believed_clocks_were_ahead(shift_ms: int, early_ms: int) -> None:
    assert _early(shift_ms, early_ms) == []


@pytest.mark.parametrize(("shift_ms", "early_ms"), [(0, 2_200), (10_000, 12_200)])
def test_run_that_is_earlier_than_that_is_a_violation(shift_ms: int, early_ms: int) -> None:
    assert [says.split(":")[0] for says in _early(shift_ms, early_ms)] == ["early"]


BEGUN = FaultEvent("clock-all", "begin", 5_000 * MS, shift_ms=60_000)
AHEAD = (BEGUN, FaultEvent("clock-all", "end", 15_000 * MS))
#: The cluster's time could not be put right.
STAYED = (BEGUN, FaultEvent("clock-all", "end", 15_000 * MS, shift_ms=60_000))


def _judged(rows: list[int], *faults: FaultEvent, effects: list[Effect] | None = None) -> list[str]:
    """Of a schedule of every 2 s, put at 0.1 s and read at 29.5 s, with rows at these seconds."""
    document = {"name": "s", "every_ms": 2_000, "start": EPOCH_MS}
    told = [
        {"at_ms": EPOCH_MS + 1_000 * second, "state": "succeeded", "task": f"s.{second}"}
        for second in rows
    ]
    calls = [
        call("put-schedule", 100, 110, document, {"name": "s"}),
        call("slots", 29_500, 29_510, {"name": "s"}, {"slots": told}),
    ]
    whole = evidence("schedules", calls=calls, effects=effects or [], faults=list(faults))
    return [violation.says.split(" of ")[0] for violation in CHECKER(whole).violations]


def test_wrong_clocks_excuse_no_slot_that_is_missed() -> None:
    every = list(range(2, 30, 2))
    assert _judged(every, *AHEAD) == []
    # However far ahead they were: the schedule was put before.
    missed = [second for second in every if second not in (4, 10)]
    assert _judged(missed, *AHEAD) == [f"missed: slot {EPOCH_MS + at}" for at in (4_000, 10_000)]


@pytest.mark.parametrize(
    ("began", "slot", "is_early"),
    [
        (6, 64, False),  # While they are wrong.
        (4, 8, True),  # Before they were.
        (20, 74, False),  # After it, of what was fired ahead.
        (20, 78, True),  # It stands still then.
    ],
)
def test_wrong_clocks_excuse_what_is_early_only_while_they_are(
    began: int, slot: int, is_early: bool
) -> None:
    effects = attempt(
        f"s.{slot}", 1, began * 1_000, began * 1_000 + 50, slot=EPOCH_MS + slot * 1_000,
        schedule="s",
    )  # fmt: skip
    found = _judged(list(range(2, 30, 2)), *AHEAD, effects=effects)
    assert any(says.startswith("early") for says in found) is is_early


def test_a_row_of_an_instant_that_no_clock_has_reached_is_early() -> None:
    every = list(range(2, 30, 2))
    assert _judged([*every, 40], *AHEAD) == []
    (says,) = _judged([*every, 80], *AHEAD)
    assert "before anybody's clock" in says
    assert _judged([*every, 80], *STAYED) == []


def _written_off(reason: str, second: int, *faults: FaultEvent) -> list[str]:
    """What is wrong with a slot of every 2 s that has no task; the only run goes on until 7 s."""
    rows: list[dict[str, Any]] = [
        {"at_ms": EPOCH_MS + 1_000 * at, "state": "missed", "reason": reason}
        for at in range(2, 44, 2)
    ]
    rows[1] |= {"state": "succeeded", "task": "s.4", "reason": ""}
    calls = [
        call("put-schedule", 100, 110, {"name": "s", "every_ms": 2_000, "start": EPOCH_MS}, {}),
        call("slots", 42_500, 42_510, {"name": "s"}, {"slots": rows}),
    ]
    effects = attempt("s.4", 1, 4_100, 7_000, slot=EPOCH_MS + 4_000, schedule="s")
    whole = evidence("schedules", calls=calls, effects=effects, faults=list(faults))
    found = [violation.says.partition(" although ") for violation in CHECKER(whole).violations]
    return [why for what, _, why in found if f"slot {EPOCH_MS + 1_000 * second} of" in what]


def _leapt(shift_ms: int) -> tuple[FaultEvent, FaultEvent]:
    """From 5 to 7 s."""
    begin = FaultEvent("clock-all", "begin", 5_000 * MS, ["n1"], shift_ms=shift_ms)
    return begin, FaultEvent("clock-all", "end", 7_000 * MS, ["n1"])


EXCUSES = [
    ("overlap", "none before it was under way"),
    ("superseded", "nothing was in the way of it"),
]


@pytest.mark.parametrize(("reason", "says"), EXCUSES)
def test_what_was_due_by_clocks_that_leapt_was_due_then(reason: str, says: str) -> None:
    assert _written_off(reason, 36) == [says]
    assert _written_off(reason, 28, *_leapt(20_000)) == []
    # Nobody's clock had reached that.
    assert _written_off(reason, 40, *_leapt(20_000)) == [says]
    assert _written_off(reason, 36, *_leapt(1_000)) == [says]
