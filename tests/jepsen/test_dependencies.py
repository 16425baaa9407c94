"""What waits for others, and parts of what was split."""

from __future__ import annotations

from typing import Any

import pytest

from jepsen_like.checker.dependencies import CHECKER
from jepsen_like.history import Effect, FinalTask
from tests.jepsen.builders import attempt, evidence, finals, submit

A_OK = attempt("a", 1, 100, 200)
A_FAILED = attempt("a", 1, 100, 200, exit=1)
B_AFTER = attempt("b", 2, 300, 400)
B_MEANWHILE = attempt("b", 2, 150, 400)


def after(on: str | None, **more: Any) -> dict[str, Any]:
    named: Any = "a" if on is None else {"task": "a", "on": on}
    return {"depends_on": [named], **more}


@pytest.mark.parametrize(
    ("asked", "effects", "ended"),
    [
        (after("success"), [*A_OK, *B_AFTER], "succeeded"),
        (after(None), [*A_OK, *B_AFTER], "succeeded"),
        # A first success was not heard, so it ran again.
        (after("success"), [*A_OK, *attempt("a", 2, 210, 290, 2), *B_AFTER], "succeeded"),
        (after("failure"), [*A_FAILED, *B_AFTER], "failed"),
        # It was lost: the last beat is all that is known.
        (after("failure"), [*attempt("a", 1, 100, 200, exit=None), *B_AFTER], "lost"),
        (after("always"), [*A_FAILED, *B_AFTER], "failed"),
        (after("always"), B_AFTER, "cancelled"),
        ({"depends_on": ["a", "c"], "needs": "any"}, [*A_OK, *B_AFTER], "succeeded"),
        ({"depends_on": ["a", "c"], "needs": 1}, [*A_OK, *B_AFTER], "succeeded"),
    ],
)
def test_a_start_after_the_end_that_was_asked_for_passes(
    asked: dict[str, Any], effects: list[Effect], ended: str
) -> None:
    calls = [submit("a", 0, 10), submit("c", 0, 10), submit("b", 20, 30, **asked)]
    rows = finals(FinalTask("a", ended), FinalTask("c", "failed"), FinalTask("b", "succeeded"))
    verdict = CHECKER(evidence("workflow", calls=calls, effects=effects, finals=rows))
    assert verdict.valid is True, verdict.violations
    assert verdict.checked["dependents_run"] == 1


@pytest.mark.parametrize(
    ("asked", "effects", "ended", "says"),
    [
        (after("success"), [*A_OK, *B_MEANWHILE], "succeeded", "had not succeeded"),
        (after("success"), [*A_FAILED, *B_AFTER], "failed", "ended failed"),
        (after("success"), [*A_FAILED, *B_AFTER], "succeeded", "had not succeeded"),
        (after("success"), B_AFTER, "cancelled", "ended cancelled"),
        # It is a program, and nobody saw it.
        (after("success"), B_AFTER, "succeeded", "a (success) was not seen to run"),
        (after(None), B_AFTER, "succeeded", "a (success) was not seen to run"),
        (after("failure"), [*A_OK, *B_AFTER], "succeeded", "succeeded"),
        (after("always"), [*A_OK, *B_MEANWHILE], "succeeded", "was running until 50 ms later"),
        (
            {"depends_on": ["a", "c"]},
            [*A_OK, *B_AFTER],
            "succeeded",
            "needs 2 of 2): c (success) ended failed",
        ),
        ({"depends_on": ["a", "c"], "needs": "any"}, B_AFTER, "failed", "needs 1 of 2"),
    ],
)
def test_a_start_before_it_is_found(
    asked: dict[str, Any], effects: list[Effect], ended: str, says: str
) -> None:
    calls = [submit("a", 0, 10), submit("c", 0, 10), submit("b", 20, 30, **asked)]
    rows = finals(FinalTask("a", ended), FinalTask("c", "failed"), FinalTask("b", "succeeded"))
    verdict = CHECKER(evidence("workflow", calls=calls, effects=effects, finals=rows))
    assert verdict.valid is False
    assert says in verdict.violations[0].says


@pytest.mark.parametrize("asked", [{"workflow": {"split": []}}, {"maps": {"": 3}}])
def test_a_whole_succeeds_without_an_attempt_of_its_own(asked: dict[str, Any]) -> None:
    calls = [submit("a", 0, 10, **asked), submit("b", 20, 30, **after("success"))]
    rows = finals(FinalTask("a", "succeeded"), FinalTask("b", "succeeded"))
    verdict = CHECKER(evidence("workflow", calls=calls, effects=B_AFTER, finals=rows))
    assert verdict.valid is True, verdict.violations


def parts(parent: str, *states: str) -> list[FinalTask]:
    split = [FinalTask(f"m.{k}", state, parent="m") for k, state in enumerate(states)]
    return [FinalTask("m", parent), *split]


def test_a_join_comes_with_the_last_part() -> None:
    for rows, valid in (
        (parts("succeeded", "succeeded", "succeeded"), True),
        (parts("waiting", "succeeded", "running"), True),
        (parts("succeeded", "succeeded", "running"), False),
    ):
        calls = [submit("m", 0, 10, maps={"": 3}), submit("b", 20, 30, depends_on=["m"])]
        rows = [*rows, FinalTask("b", "succeeded")]
        verdict = CHECKER(evidence("workflow", calls=calls, effects=B_AFTER, finals=finals(*rows)))
        assert verdict.valid is valid


def test_an_item_that_two_tasks_ran_is_found() -> None:
    calls = [submit("m", 0, 10, maps={"": 3}), submit("b", 20, 30, depends_on=["m"])]
    once = [*attempt("m.0", 3, 50, 90, index=0), *attempt("m.1", 4, 50, 90, index=1)]
    fine = evidence("workflow", calls=calls, effects=[*once, *B_AFTER])
    assert CHECKER(fine).valid is True
    twice = [*once, *attempt("m.2", 5, 50, 90, index=1)]
    verdict = CHECKER(evidence("workflow", calls=calls, effects=[*twice, *B_AFTER]))
    assert "item 1 of m was run by m.1 and by m.2" in verdict.violations[0].says
