"""After a cancel: what is still allowed, and what gives a broken promise away."""

from __future__ import annotations

from typing import Any

import pytest

from jepsen_like.checker.cancels import CHECKER
from jepsen_like.history import Call, Effect
from tests.jepsen.builders import (
    attempt,
    call,
    cancel,
    evidence,
    fault,
    read,
    submit,
    with_run,
)

ASKED = [submit("t", 0, 10, max_attempts=3), submit("later", 600, 610), cancel("x", 1, 2)]
LATER = attempt("later", 20, 620, 700, node="n3")


def stopping(at: float, until: float, **more: object) -> Call:
    return call("cancel", at, until, {"id": "t"}, {"id": "t", "state": "cancelling", **more})


@pytest.mark.parametrize(
    ("calls", "effects"),
    [
        ([cancel("t", 20, 30)], []),
        # It ran when it was cancelled, and was stopped.
        (
            [stopping(200, 210), read("t", 400, 410, "cancelled")],
            attempt("t", 5, 100, 390, exit=None),
        ),
        # Assigned before, on a node that had not heard of the cancel.
        ([stopping(200, 210)], attempt("t", 5, 300, 350, exit=None)),
        ([stopping(200, 210, attempt=1)], attempt("t", 5, 300, 350, exit=None)),
        # A retry that was assigned just before.
        ([stopping(200, 210)], [*attempt("t", 5, 50, 190, exit=1), *attempt("t", 9, 230, 300, 2)]),
        # Nobody knows whether this cancel happened.
        (
            [cancel("t", 200, None)],
            [*attempt("t", 5, 300, 350, exit=1), *attempt("t", 30, 800, 900, 2)],
        ),
        # It had an end of its own.
        ([stopping(200, 210), read("t", 400, 410, "succeeded")], attempt("t", 5, 100, 390)),
    ],
)
def test_what_may_follow_a_cancel_passes(calls: list[Call], effects: list[Effect]) -> None:
    verdict = CHECKER(evidence(calls=[*ASKED, *calls], effects=[*LATER, *effects]))
    assert verdict.valid is True, verdict.violations


@pytest.mark.parametrize(
    ("calls", "effects", "says"),
    [
        ([cancel("t", 20, 30)], attempt("t", 5, 100, 200), "had shown the task cancelled"),
        (
            [stopping(200, 210), read("t", 300, 310, "cancelled")],
            attempt("t", 5, 100, 390, exit=None),
            "was running on n1 80 ms after",
        ),
        # A replica that is behind shows only what was so: this is no excuse.
        (
            [stopping(200, 210), read("t", 300, 310, "cancelled", consistency="local")],
            attempt("t", 5, 100, 390, exit=None),
            "had shown the task cancelled",
        ),
        # The first one ran at the acknowledgement, so the second is new.
        (
            [stopping(200, 210)],
            [*attempt("t", 5, 100, 300, exit=1), *attempt("t", 9, 400, 500, 2)],
            "attempt 1 was current then",
        ),
        (
            [stopping(200, 210)],
            [*attempt("t", 5, 220, 300, exit=1), *attempt("t", 9, 400, 500, 2)],
            "attempt 1 was current then",
        ),
        (
            [stopping(200, 210, attempt=1)],
            [*attempt("t", 5, 50, 150, exit=1), *attempt("t", 9, 400, 500, 2)],
            "attempt 1 was current then",
        ),
        # Token 20 went to a task that was asked for after the cancel, 21 came later.
        ([stopping(200, 210)], attempt("t", 21, 710, 800), "token 21 was given after 20"),
    ],
)
def test_what_must_not_follow_a_cancel_is_found(
    calls: list[Call], effects: list[Effect], says: str
) -> None:
    verdict = CHECKER(evidence(calls=[*ASKED, *calls], effects=[*LATER, *effects]))
    assert verdict.valid is False
    assert any(says in violation.says for violation in verdict.violations), verdict.violations


@pytest.mark.parametrize("asked", [{"on_lease_loss": "continue"}, {"idempotent": True}])
def test_what_a_task_asked_to_go_on_is_counted_and_allowed(asked: dict[str, Any]) -> None:
    calls = [
        submit("t", 0, 10, **asked),
        cancel("t", 200, 210, "cancelling"),
        read("t", 300, 310, "cancelled"),
        submit("later", 320, 330),
    ]
    later = attempt("later", 20, 340, 350)
    went_on = evidence(calls=calls, effects=[*later, *attempt("t", 5, 100, 390, exit=None)])
    assert (CHECKER(went_on).valid, CHECKER(went_on).checked["ran_on_as_asked_for"]) == (True, 1)
    # The one that was given up says nothing about which one is current.
    two = [*attempt("t", 5, 100, 390, exit=None), *attempt("t", 6, 215, 295, 2)]
    assert CHECKER(evidence(calls=calls, effects=[*later, *two])).valid is True
    anew = evidence(calls=calls, effects=[*later, *attempt("t", 21, 360, 390, exit=None)])
    assert CHECKER(anew).valid is False


def test_what_wakes_up_when_its_lease_was_over_was_running_for_nobody() -> None:
    def judged(shown_at: float) -> Any:
        calls = [submit("t", 0, 10), stopping(200, 210)]
        calls.append(read("t", shown_at, shown_at + 10, "cancelled"))
        frozen = fault("pause-machine", 1_000, 8_000, "n1")
        woken = attempt("t", 5, 100, 8_050, exit=None)
        whole = evidence(calls=calls, effects=woken, faults=frozen)
        return CHECKER(with_run(whole, lease_seconds=5.0)).valid

    assert judged(7_000) is True
    assert judged(4_500) is False, "its lease was not over"
