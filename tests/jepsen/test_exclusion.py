"""Attempts of one task: what must not be, and what looks like it and is allowed."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from jepsen_like.checker.exclusion import CHECKER
from jepsen_like.evidence import Evidence
from jepsen_like.history import Effect, FaultEvent, FinalTask
from tests.jepsen.builders import (
    MS,
    attempt,
    call,
    evidence,
    fault,
    finals,
    leads,
    read,
    submit,
    with_run,
)


def write(token: int, at: int, accepted: bool) -> Effect:
    return Effect("t", 1, token, "sink", "write", at * MS, accepted=accepted)


TWO_IN_TURN = [*attempt("t", 5, 100, 400, exit=None), *attempt("t", 9, 500, 900, 2, "n2")]
OVERLAP = [*attempt("t", 5, 100, 600, exit=None), *attempt("t", 9, 500, 900, 2, "n2")]


@pytest.mark.parametrize(
    ("asked", "effects"),
    [
        ({"max_attempts": 3}, [*attempt("t", 1, 0, 90, exit=1), *attempt("t", 2, 200, 300, 2)]),
        # Killed, or cut off until its lease was over: it runs again.
        ({}, TWO_IN_TURN),
        # Its success was never heard.
        ({}, [*attempt("t", 5, 100, 400), *attempt("t", 9, 500, 900, 2, "n2")]),
        # Two losses, and then it came through.
        ({}, [e for k in range(3) for e in attempt("t", k + 1, 100 * k, 100 * k + 60, k + 1)]),
        ({"idempotent": True}, OVERLAP),
        ({"on_lease_loss": "continue"}, OVERLAP),
        # An old one that may overlap starts late.
        ({"idempotent": True}, [*attempt("t", 9, 100, 400, 2), *attempt("t", 5, 200, 300)]),
        ({"delivery": "at_most_once"}, attempt("t", 5, 100, 400, exit=None)),
        # One that failed by its own word may be tried again.
        (
            {"delivery": "at_most_once", "max_attempts": 2},
            [*attempt("t", 5, 100, 400, exit=1), *attempt("t", 6, 500, 600, 2)],
        ),
    ],
)
def test_what_the_asker_allows_passes(asked: dict[str, Any], effects: list[Effect]) -> None:
    verdict = CHECKER(evidence(calls=[submit("t", 0, 10, **asked)], effects=effects))
    assert verdict.valid is True, verdict.violations


@pytest.mark.parametrize(
    ("asked", "effects", "says"),
    [
        ({}, OVERLAP, "ran at once"),
        # The last beat of a killed one shows that it ran till then.
        (
            {},
            [*attempt("t", 5, 100, 1_000, exit=None), *attempt("t", 9, 960, 990, 2)],
            "ran at once",
        ),
        ({}, [*attempt("t", 9, 100, 400, 1), *attempt("t", 5, 500, 600, 2)], "do not rise"),
        ({}, [*attempt("t", 5, 100, 400, 1), *attempt("t", 5, 500, 600, 2)], "given twice"),
        ({}, [*attempt("t", 5, 100, 400, 1), *attempt("t", 6, 500, 600, 1)], "do not rise"),
        # Token 5 was over, by its lease, when 9 was given.
        ({}, [*attempt("t", 9, 100, 400, 2), *attempt("t", 5, 500, 600, 1)], "started on n1 after"),
        ({}, [*attempt("t", 5, 100, 300), *attempt("t", 5, 100, 300)], "started 2 times"),
        ({}, [*attempt("t", 5, 100, 300), *attempt("u", 5, 500, 600)], "given twice"),
        ({"delivery": "at_most_once"}, TWO_IN_TURN, "at most once"),
        (
            {"idempotent": True},
            [*attempt("t", 9, 100, 400, 1), *attempt("t", 5, 500, 600, 2)],
            "do not rise",
        ),
        # One attempt and at most three losses: the third loss ends it.
        (
            {},
            [e for k in range(4) for e in attempt("t", k + 1, 100 * k, 100 * k + 60, k + 1)],
            "ran 4 times",
        ),
    ],
)
def test_what_the_promise_forbids_is_found(
    asked: dict[str, Any], effects: list[Effect], says: str
) -> None:
    calls = [submit("t", 0, 10, **asked), submit("u", 0, 10)]
    verdict = CHECKER(evidence(calls=calls, effects=effects))
    assert verdict.valid is False
    assert any(says in violation.says for violation in verdict.violations), verdict.violations


def test_overlaps_are_counted_apart_from_those_that_had_effect() -> None:
    finished = [*attempt("t", 5, 100, 600), *attempt("t", 9, 500, 900, 2, "n2")]
    assert CHECKER(evidence(effects=OVERLAP)).checked["overlaps_with_effect"] == 0
    verdict = CHECKER(evidence(effects=finished))
    assert (verdict.checked["overlaps"], verdict.checked["overlaps_with_effect"]) == (1, 1)
    asked = CHECKER(evidence(calls=[submit("t", 0, 10, idempotent=True)], effects=finished))
    assert asked.checked["overlaps_asked_for_with_effect"] == 1
    assert "overlaps" not in asked.checked


def test_a_sink_that_refuses_makes_an_overlap_have_no_effect() -> None:
    finished = [*attempt("t", 5, 100, 600), *attempt("t", 9, 500, 900, 2, "n2")]
    refused = [*finished, write(9, 550, True), write(5, 560, False)]
    taken = [*finished, write(5, 540, True), write(9, 550, True)]
    assert CHECKER(evidence(effects=refused)).checked["overlaps_with_effect"] == 0
    assert CHECKER(evidence(effects=taken)).checked["overlaps_with_effect"] == 1


def test_a_sink_that_takes_an_old_token_is_found() -> None:
    effects = [*TWO_IN_TURN, write(9, 600, True), write(5, 610, True)]
    (violation,) = CHECKER(evidence(effects=effects)).violations
    assert "took token 5 after 9" in violation.says
    late = [*TWO_IN_TURN, write(5, 300, True), write(9, 600, False)]
    (violation,) = CHECKER(evidence(effects=late)).violations
    assert violation.says == "the sink of t refused attempt 2, the newest, with token 9"
    fine = [*TWO_IN_TURN, write(5, 300, True), write(9, 600, True), write(5, 610, False)]
    assert CHECKER(evidence(effects=fine)).valid is True


def test_a_sink_that_got_nothing_was_not_tried() -> None:
    assert CHECKER(evidence("fencing", effects=TWO_IN_TURN)).valid == "unknown"
    wrote = [*TWO_IN_TURN, write(5, 300, True)]
    assert CHECKER(evidence("fencing", effects=wrote)).valid is True


def test_a_start_after_a_success_that_somebody_was_shown_is_found() -> None:
    effects = [*attempt("t", 5, 100, 200), *attempt("t", 9, 500, 900, 2, "n2")]
    shown = read("t", 210, 220, "succeeded")
    verdict = CHECKER(evidence(calls=[submit("t", 0, 10), shown], effects=effects))
    assert "280 ms after n1 had shown the task succeeded" in verdict.violations[0].says
    again = [submit("t", 0, 10), shown, read("t", 910, 920, "succeeded")]
    assert CHECKER(evidence(calls=again, effects=effects)).valid is False
    later = read("t", 910, 920, "succeeded")
    assert CHECKER(evidence(calls=[submit("t", 0, 10), later], effects=effects)).valid is True


def test_an_attempt_beyond_the_one_that_succeeded_is_found() -> None:
    rows = finals(FinalTask("t", "succeeded", attempt=1))
    verdict = CHECKER(evidence(effects=TWO_IN_TURN, finals=rows))
    assert "has succeeded with attempt 1, and attempt 2 ran" in verdict.violations[0].says


def test_what_a_node_that_is_drained_or_stopped_gives_back_is_no_try() -> None:
    def judged(drained: str, until: float, *faults: FaultEvent, exit: int | None = None) -> Any:
        effects = [
            effect
            for k in range(6)
            for effect in attempt("t", k + 1, 100 * k, 100 * k + 60, k + 1, exit=exit)
        ]
        orders = [
            call("drain", 0, 1, {"node": drained}, {}),
            call("uncordon", until, until + 1, {"node": drained}, {}),
        ]
        whole = evidence("drain", effects=effects, calls=orders, faults=list(faults))
        return CHECKER(whole).valid

    assert judged("n1", 900) is True
    assert judged("n2", 900) is False, "its node was not drained"
    assert judged("n1", 900, exit=1) is False, "it was not given back, it failed"
    assert judged("n2", 900, *fault("restart-one", 0, 900, "n1")) is True
    assert judged("n2", 900, *fault("kill-one", 0, 900, "n1")) is False


def woken(old_until: float, new_at: float, *faults: FaultEvent) -> Evidence:
    """Leases are 5 s; the older attempt runs on n1 from 0 on."""
    old = attempt("t", 1, 0, old_until, node="n1")
    new = attempt("t", 2, new_at, 9_000, number=2, node="n2")
    return with_run(evidence(effects=old + new, faults=list(faults)), lease_seconds=5.0)


FROZEN = fault("pause-machine", 1_000, 8_000, "n1")
CUT_BEFORE = fault("partition-one", 100, 500, "n1")


def test_what_wakes_up_on_a_machine_that_stood_still_is_counted_apart() -> None:
    verdict = CHECKER(woken(8_050, 7_000, *FROZEN))
    assert (verdict.valid, verdict.checked["overlaps_of_machines_that_stood_still"]) == (True, 1)
    # Its last renewal may be from before the cut, which was over shortly before the freeze.
    cut = CHECKER(woken(8_050, 4_500, *CUT_BEFORE, *FROZEN))
    assert cut.checked["overlaps_of_machines_that_stood_still"] == 1


LEADER_N2 = tuple(leads("n2", 1, 0, 500, 1_000))


@pytest.mark.parametrize(
    ("before", "may_be_over"),
    [
        (CUT_BEFORE, True),
        (fault("partition-one", 100, 500, "n2"), True),
        # The leader and the other one go on without it.
        (fault("partition-one", 100, 500, "n3"), False),
        ([*fault("kill-one", 100, 500, "n3"), *fault("slow-fsync", 100, 500, "n2")], True),
        (fault("clock-one", 100, 500, "n1"), False),
        (fault("kill-majority", 100, 500, "n2", "n3"), True),
    ],
)
def test_only_what_kept_a_frozen_machine_from_renewing_ends_its_leases_early(
    before: list[FaultEvent], may_be_over: bool
) -> None:
    whole = woken(8_050, 4_500, *before, *FROZEN)
    verdict = CHECKER(msgspec.structs.replace(whole, samples=LEADER_N2))
    assert verdict.valid is may_be_over


@pytest.mark.parametrize(
    ("why", "whole"),
    [
        ("only its peer stood still", woken(8_050, 7_000, *fault("pause-one", 1e3, 8e3, "n1"))),
        ("another machine did", woken(8_050, 7_000, *fault("pause-machine", 1e3, 8e3, "n2"))),
        ("it went on for longer", woken(9_500, 7_000, *FROZEN)),
        ("they ran at once before", woken(8_050, 500, *FROZEN)),
        ("its lease was not over", woken(8_050, 4_500, *FROZEN)),
        ("it woke up within it", woken(4_050, 3_900, *fault("pause-machine", 1e3, 4e3, "n1"))),
    ],
)
def test_a_machine_that_stood_still_excuses_nothing_else(why: str, whole: Evidence) -> None:
    (violation,) = CHECKER(whole).violations
    assert "ran at once" in violation.says, why


def first_word_at(born: float | None, *faults: FaultEvent) -> Evidence:
    """An attempt of n1 that says its first word at 8,000, behind a newer one of n2."""
    first, *others = attempt("t", 1, 8_000, 8_040, node="n1")
    old = [msgspec.structs.replace(first, born=None if born is None else int(born * MS)), *others]
    new = attempt("t", 2, 7_000, 7_100, number=2, node="n2")
    return with_run(evidence(effects=old + new, faults=list(faults)), lease_seconds=5.0)


@pytest.mark.parametrize("born", [990, 1_010, 2_900])
def test_a_machine_may_stand_still_between_a_process_and_its_first_word(born: float) -> None:
    """Within the two seconds that it takes to stop all of a machine."""
    verdict = CHECKER(first_word_at(born, *FROZEN))
    assert (verdict.valid, verdict.checked["overlaps_of_machines_that_stood_still"]) == (True, 1)


@pytest.mark.parametrize(
    ("why", "whole", "says"),
    [
        ("it was not made before", first_word_at(7_990, *FROZEN), "started on n1 after"),
        ("nobody knows when it was made", first_word_at(None, *FROZEN), "started on n1 after"),
        ("nothing stood still", first_word_at(1_010), "ran at once"),
        ("another one stood still",
         first_word_at(1_010, *fault("pause-machine", 1_000, 8_000, "n2")), "ran at once"),
    ],
)  # fmt: skip
def test_an_old_attempt_whose_process_is_made_late_is_a_violation(
    why: str, whole: Evidence, says: str
) -> None:
    assert any(says in violation.says for violation in CHECKER(whole).violations), why
