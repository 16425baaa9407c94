"""After the heal everything ends."""

from __future__ import annotations

import pytest

from jepsen_like.checker.termination import CHECKER
from jepsen_like.history import Call, FinalTask
from tests.jepsen.builders import attempt, call, evidence, fault, finals, read, submit


@pytest.mark.parametrize("state", ["succeeded", "failed", "cancelled", "expired", "lost"])
def test_any_end_is_an_end(state: str) -> None:
    rows = finals(FinalTask("t", state))
    assert CHECKER(evidence(calls=[submit("t", 0, 10)], finals=rows)).valid is True


@pytest.mark.parametrize("state", ["waiting", "queued", "assigned", "running", "retrying"])
def test_an_acknowledged_task_that_is_still_open_is_found(state: str) -> None:
    rows = finals(FinalTask("t", state), FinalTask("u", "succeeded"))
    verdict = CHECKER(evidence(calls=[submit("t", 0, 10), submit("u", 0, 10)], finals=rows))
    assert [violation.ids for violation in verdict.violations] == [["t", "n1"]]


def test_a_task_that_nobody_was_told_of_may_be_open() -> None:
    rows = finals(FinalTask("t", "queued"), FinalTask("u", "succeeded"))
    calls = [submit("t", 0, None), submit("u", 0, 10)]
    assert CHECKER(evidence(calls=calls, finals=rows)).valid is True


def pause(until: float | None) -> Call:
    return call("pause", 20, until, {"id": "t"}, None if until is None else {"id": "t"})


RESUME = call("resume", 60, 70, {"id": "t"}, {"id": "t"})
OPEN_RESUME = call("resume", 60, None, {"id": "t"})


@pytest.mark.parametrize(
    ("calls", "valid"),
    [
        ([pause(30)], True),
        ([pause(None)], True),
        ([pause(30), OPEN_RESUME], True),
        ([pause(30), RESUME], False),
        # An open pause may come after the resume.
        ([pause(None), RESUME], True),
        ([call("pause", 20, 30, {"id": "t"})], False),
    ],
)
def test_a_task_that_may_be_paused_need_not_end(calls: list[Call], valid: bool) -> None:
    rows = finals(FinalTask("t", "queued"), FinalTask("u", "succeeded"))
    asked = [submit("t", 0, 10), submit("u", 0, 10)]
    assert CHECKER(evidence(calls=[*asked, *calls], finals=rows)).valid is valid


def test_how_long_ends_took_after_the_heal_is_measured() -> None:
    calls = [submit(task, 0, 10) for task in ("a", "b", "c")]
    calls += [read("b", 21_900, 22_000, "failed"), read("c", 15_000, 15_010, "succeeded")]
    rows = finals(*(FinalTask(task, "succeeded") for task in ("a", "b", "c")))
    effects = attempt("a", 1, 20_500, 21_000)
    measured = CHECKER(evidence(calls=calls, effects=effects, finals=rows)).measures
    assert measured["heal_to_end_ms"] == {
        "count": 2,
        "p50": 1_000.0,
        "p99": 2_000.0,
        "max": 2_000.0,
    }
    # The one ran for half a second of that; when the other began to end nobody knows.
    assert measured["heal_to_last_start_ms"]["p50"] == 500.0
    assert measured["heal_to_last_start_ms"]["max"] == 2_000.0


def test_time_is_counted_from_the_end_of_the_last_fault() -> None:
    """What it killed comes back before the phase that is called healed."""
    calls = [submit("a", 0, 10)]
    rows = finals(FinalTask("a", "succeeded"))
    effects = attempt("a", 1, 17_000, 21_000)
    for until, to_end, to_start in ((16_000, 5_000.0, 1_000.0), (18_000, 3_000.0, 0.0)):
        faults = fault("kill-one", 12_000, until, "n1")
        whole = evidence(calls=calls, effects=effects, finals=rows, faults=faults)
        measured = CHECKER(whole).measures
        assert measured["heal_to_end_ms"]["max"] == to_end
        assert measured["heal_to_last_start_ms"]["max"] == to_start


def test_without_a_read_after_the_heal_nothing_is_known() -> None:
    verdict = CHECKER(evidence(calls=[submit("t", 0, 10)]))
    assert (verdict.valid, verdict.doubts) == ("unknown", ["no peer was read after the heal"])
