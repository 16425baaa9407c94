"""After a cancel: what is still allowed, and what gives a broken promise away."""

from __future__ import annotations

from typing import Any

import pytest

from jepsen_like.checker.cancels import CHECKER
from jepsen_like.history import Call, Effect, FinalTask
from tests.jepsen.builders import (
    attempt,
    call,
    cancel,
    evidence,
    fault,
    finals,
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


GRAPH: dict[str, Any] = {
    "workflow": {"split": [], "each": ["split"], "join": ["each"]},
    "maps": {"each": 2},
}
WHOLE = [submit("g", 0, 10, **GRAPH), submit("later", 600, 610)]


def told(at: float, until: float, state: str = "waiting", task: str = "g") -> Call:
    """The answer to a cancel of something that waits for its parts."""
    return call("cancel", at, until, {"id": task}, {"id": task, "state": state, "attempt": 0})


@pytest.mark.parametrize(
    ("calls", "effects"),
    [
        # What ran was stopped, and then it was shown.
        (
            [told(200, 210), read("g", 400, 410, "cancelled")],
            attempt("g.each.0", 5, 100, 390, exit=None),
        ),
        # Assigned before, on a node that had not heard of the cancel; it counts its own attempts.
        ([told(200, 210)], attempt("g.each.0", 6, 300, 350, 3, exit=None)),
        # Both were assigned before, as none of them waits for the other.
        (
            [told(200, 210)],
            [*attempt("g.each.0", 5, 100, 300), *attempt("g.each.1", 6, 220, 300, exit=None)],
        ),
        # What it waits for had ended.
        (
            [told(200, 210)],
            [*attempt("g.split", 5, 100, 190), *attempt("g.each.1", 6, 220, 300, exit=None)],
        ),
        # A client gave another task such a name.
        (
            [submit("g.each.0", 0, 10), told(20, 30, "cancelled")],
            attempt("g.each.0", 5, 100, 200),
        ),
        # Only one part was cancelled.
        (
            [told(200, 210, "cancelling", "g.each.0"), read("g.each.0", 300, 310, "cancelled")],
            attempt("g.each.1", 21, 710, 800),
        ),
        # Another try of all of it is another whole.
        (
            [told(20, 30, "cancelled"), call("retry", 40, 50, {"id": "g"}, {"id": "g2"})],
            attempt("g2.each.0", 5, 100, 200),
        ),
    ],
)
def test_what_parts_may_do_after_a_cancel_of_the_whole(
    calls: list[Call], effects: list[Effect]
) -> None:
    verdict = CHECKER(evidence("workflow", calls=[*WHOLE, *calls], effects=[*LATER, *effects]))
    assert verdict.valid is True, verdict.violations


@pytest.mark.parametrize(
    ("calls", "effects", "says"),
    [
        (
            [told(20, 30), read("g", 40, 50, "cancelled")],
            [*attempt("g.each.0", 5, 100, 600), *attempt("g.each.1", 6, 100, 600, node="n2")],
            "attempt 1 of g.each.1 was running on n2 550 ms after n1 had shown g cancelled",
        ),
        (
            [told(20, 30, "cancelled")],
            attempt("g.each.0", 5, 100, 200),
            "had shown g cancelled",
        ),
        # Parts of parts.
        (
            [told(20, 30, "cancelled")],
            attempt("g.inner.each.0", 5, 100, 200),
            "had shown g cancelled",
        ),
        (
            [told(200, 210)],
            [*attempt("g.each.0", 5, 100, 300, exit=1), *attempt("g.each.0", 9, 400, 500, 2)],
            "attempt 2 of g.each.0 was assigned after n1 had acknowledged the cancel of g: "
            "attempt 1 was current then",
        ),
        (
            [told(200, 210)],
            [*attempt("g.split", 5, 100, 300), *attempt("g.each.1", 6, 310, 400)],
            "attempt 1 of g.split was current then",
        ),
        (
            [told(200, 210)],
            [*attempt("g.each.0", 6, 100, 300), *attempt("g.join", 7, 310, 400)],
            "attempt 1 of g.each.0 was current then",
        ),
        ([told(200, 210)], attempt("g.each.0", 21, 710, 800), "token 21 was given after 20"),
        (
            [told(200, 210), submit("h", 220, 230, **GRAPH)],
            [*attempt("h.split", 8, 240, 300), *attempt("g.each.0", 9, 310, 400)],
            "token 9 was given after 8",
        ),
    ],
)
def test_parts_of_what_was_cancelled_are_followed(
    calls: list[Call], effects: list[Effect], says: str
) -> None:
    verdict = CHECKER(evidence("workflow", calls=[*WHOLE, *calls], effects=[*LATER, *effects]))
    assert verdict.valid is False
    assert any(says in violation.says for violation in verdict.violations), verdict.violations
    assert all("g" in violation.ids for violation in verdict.violations)
    assert verdict.checked["attempts_of_parts"] > 0


def test_parts_are_also_known_by_what_peers_hold() -> None:
    rows = finals(FinalTask("g", "cancelled"), FinalTask("p7", "cancelled", parent="g"))
    calls = [*WHOLE, told(20, 30, "cancelled")]
    verdict = CHECKER(
        evidence("workflow", calls=calls, effects=attempt("p7", 5, 100, 200), finals=rows)
    )
    assert "p7 was running" in verdict.violations[0].says


def test_parts_of_what_may_overlap_may_go_on() -> None:
    calls = [submit("g", 0, 10, idempotent=True, **GRAPH), told(200, 210)]
    calls.append(read("g", 300, 310, "cancelled"))
    went_on = evidence("workflow", calls=calls, effects=attempt("g.each.0", 5, 100, 390, exit=None))
    assert (CHECKER(went_on).valid, CHECKER(went_on).checked["ran_on_as_asked_for"]) == (True, 1)
