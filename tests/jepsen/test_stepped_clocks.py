"""Runs that are early because a majority of clocks was wrong together, and no earlier."""

from __future__ import annotations

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
