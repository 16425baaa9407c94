"""What a task came to is what its own attempt said."""

from __future__ import annotations

from typing import Any

import pytest

from jepsen_like.checker.outcomes import CHECKER
from jepsen_like.checker.verdict import Verdict
from jepsen_like.history import Effect, FinalTask, LogEntry, Row
from tests.jepsen.builders import attempt, evidence, finals, read, submit


def judged(
    effects: list[Effect],
    state: str = "succeeded",
    number: int = 2,
    reason: str = "",
    at: float = 9_000,
    **parts: Any,
) -> Verdict:
    """A task that was read in that state at that time, ms, and was so in the end."""
    answer = {"attempt": number, "reason": reason}
    calls = [submit("t", 0, 10), read("t", at - 5, at, state, answer=answer)]
    row = FinalTask("t", state, reason=reason, attempt=number)
    return CHECKER(evidence(calls=calls, effects=effects, finals=finals(row), **parts))


FIRST = attempt("t", 1, 100, 900, node="n1", exit=1)
SECOND = attempt("t", 2, 1_000, 2_000, number=2, node="n2")
KILLED = attempt("t", 2, 1_000, 2_000, number=2, node="n2", exit=None)
FAILED = attempt("t", 2, 1_000, 2_000, number=2, node="n2", exit=1)


@pytest.mark.parametrize(
    ("effects", "shown"),
    [
        ([*FIRST, *SECOND], {}),
        ([*FIRST, *FAILED], {"state": "failed", "reason": "exit-code-1"}),
        (FIRST, {"state": "retrying", "number": 1, "reason": "exit-code-1"}),
        # No program says these.
        ([*FIRST, *KILLED], {"state": "failed", "reason": "signal-9"}),
        ([*FIRST, *KILLED], {"state": "lost", "reason": "lease"}),
        ([*FIRST, *SECOND], {"state": "cancelled", "reason": "cancelled"}),
        # It could not say its last word, nor its first.
        ([*FIRST, *KILLED], {"state": "failed", "reason": "exit-code-120"}),
        (FIRST, {"state": "failed", "reason": "exit-code-1"}),
        # An older one that ends later ended nothing.
        ([*attempt("t", 1, 100, 9_500, node="n1"), *SECOND], {}),
    ],
)
def test_what_an_attempt_said_itself_passes(effects: list[Effect], shown: dict[str, Any]) -> None:
    verdict = judged(effects, **shown)
    assert not verdict.violations
    is_said = shown.get("reason", "exit-code-0").startswith("exit-code")
    assert bool(verdict.checked["outcomes"]) is is_said


@pytest.mark.parametrize(
    ("effects", "shown", "says"),
    [
        ([*FIRST, *KILLED], {}, "its program said no end"),
        ([*FIRST, *FAILED], {}, "its program said 1"),
        (attempt("t", 1, 100, 900), {}, "nobody saw that one run"),
        ([*FIRST, *SECOND], {"state": "failed", "reason": "exit-code-1"}, "its program said 0"),
        ([*FIRST, *SECOND], {"at": 1_500}, "it ran on n2 500 ms after that"),
        (
            FIRST,
            {"state": "retrying", "number": 1, "reason": "exit-code-1", "at": 500},
            "it ran on n1 400 ms after that",
        ),
    ],
)
def test_what_somebody_else_said_is_found(
    effects: list[Effect], shown: dict[str, Any], says: str
) -> None:
    verdict = judged(effects, **shown)
    assert verdict.valid is False
    assert any(says in violation.says for violation in verdict.violations), verdict.violations
    assert all(violation.ids == ["t"] for violation in verdict.violations)


def test_the_log_has_what_nobody_was_shown() -> None:
    """A late failure of the first one ended the second, which succeeded beside a third."""
    third = attempt("t", 3, 3_000, 4_000, number=3, node="n3")
    row = Row("retrying", attempt=2, told={"reason": "exit-code-1"})
    log = (LogEntry(7, rows={"t": row, "gone": None}),)
    verdict = judged([*FIRST, *SECOND, *third], number=3, log=log)
    (violation,) = verdict.violations
    assert "entry 7 showed t as ended by attempt 2 with exit code 1" in violation.says
    assert judged([*FIRST, *FAILED, *third], number=3, log=log).valid is True


def test_a_whole_runs_nothing_itself() -> None:
    verdict = judged(attempt("t.each.0", 1, 100, 900), number=1)
    assert verdict.valid == "unknown", "it saw nothing to judge"
    assert not verdict.violations
