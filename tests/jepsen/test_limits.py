"""Attempts that share a limit."""

from __future__ import annotations

from typing import Any

from jepsen_like.checker.limits import CHECKER
from tests.jepsen.builders import attempt, evidence, fault, submit, with_run

CALLS = [submit(task, 0, 10, limits=["k"]) for task in ("a", "b", "c")]


def test_a_mutex_held_in_turn_passes_and_was_tried() -> None:
    effects = [*attempt("a", 1, 100, 200), *attempt("b", 2, 200, 300), *attempt("c", 3, 301, 400)]
    verdict = CHECKER(evidence("limits", calls=CALLS, effects=effects))
    assert verdict.valid is True
    assert (verdict.checked["attempts"], verdict.checked["limits_reached"]) == (3, 1)


def test_a_mutex_held_twice_is_found_once_each_time() -> None:
    effects = [*attempt("a", 1, 100, 200), *attempt("b", 2, 150, 300), *attempt("c", 3, 250, 400)]
    verdict = CHECKER(evidence("limits", calls=CALLS, effects=effects))
    assert [violation.ids for violation in verdict.violations] == [["k", "a", "b"], ["k", "b", "c"]]


def test_a_limit_of_two_takes_two_and_not_three() -> None:
    two = [*attempt("a", 1, 100, 200), *attempt("b", 2, 150, 300)]
    whole = with_run(evidence("limits", calls=CALLS, effects=two), limits={"k": 2})
    assert CHECKER(whole).valid is True
    three = [*two, *attempt("c", 3, 160, 170)]
    whole = with_run(evidence("limits", calls=CALLS, effects=three), limits={"k": 2})
    assert "3 attempts at once hold limit k, which has 2" in CHECKER(whole).violations[0].says


def test_a_limit_that_was_never_full_was_not_tried() -> None:
    whole = evidence("limits", calls=CALLS, effects=attempt("a", 1, 100, 200))
    assert CHECKER(with_run(whole, limits={"k": 2})).valid == "unknown"


def test_a_killed_attempt_holds_no_longer_than_its_last_beat() -> None:
    effects = [*attempt("a", 1, 100, 200, exit=None), *attempt("b", 2, 250, 300)]
    assert CHECKER(evidence("limits", calls=CALLS, effects=effects)).valid is True


def test_tasks_that_may_overlap_are_left_out() -> None:
    calls = [*CALLS[:2], submit("c", 0, 10, limits=["k"], idempotent=True)]
    effects = [*attempt("a", 1, 100, 200), *attempt("c", 3, 120, 180)]
    verdict = CHECKER(evidence("limits", calls=calls, effects=effects))
    assert (verdict.valid, verdict.checked["attempts_left_out"]) == (True, 1)


def test_what_wakes_up_on_a_machine_that_stood_still_holds_nothing() -> None:
    def judged(other_at: float, name: str, until: float = 8_000) -> Any:
        woken = attempt("a", 1, 100, until + 50, node="n1")
        effects = [*woken, *attempt("b", 2, other_at, 9_000, node="n2")]
        frozen = fault(name, 1_000, until, "n1")
        whole = evidence("limits", calls=CALLS, effects=effects, faults=frozen)
        return CHECKER(with_run(whole, lease_seconds=5.0)).valid

    assert judged(7_000, "pause-machine") is True
    assert judged(7_000, "pause-one") is False, "only its peer stood still"
    assert judged(4_500, "pause-machine") is False, "its lease was not over"
    assert judged(3_500, "pause-machine", until=4_000) is False, "it woke up within its lease"
