"""Runs that are early because a majority of clocks was wrong together, and no earlier."""

from __future__ import annotations

import pytest

from jepsen_like.checker.slots import CHECKER
from jepsen_like.history import Call, Effect, FaultEvent
from tests.jepsen.builders import EPOCH_MS, attempt, call, evidence, fault

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
