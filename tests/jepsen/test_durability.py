"""What was acknowledged is there."""

from __future__ import annotations

from jepsen_like.checker.durability import CHECKER
from jepsen_like.history import FinalTask
from tests.jepsen.builders import call, cancel, evidence, final, finals, read, submit, with_run

DONE = FinalTask("t", "succeeded", attempt=1)


def test_acknowledged_and_there_on_every_peer_passes() -> None:
    verdict = CHECKER(evidence(calls=[submit("t", 0, 10)], finals=finals(DONE)))
    assert (verdict.valid, verdict.checked["reads"]) == (True, 3)


def test_a_task_that_one_peer_does_not_have_is_lost() -> None:
    peers = (final("n1", DONE), final("n2"), final("n3", DONE))
    verdict = CHECKER(evidence(calls=[submit("t", 0, 10)], finals=peers))
    assert [violation.ids for violation in verdict.violations] == [["t", "n2"]]
    assert verdict.violations[0].history[0]["f"] == "submit"


def test_what_was_not_acknowledged_may_be_missing_and_may_be_there() -> None:
    calls = [submit("open", 0, None), submit("refused", 0, 10, state=None), submit("t", 20, 30)]
    assert CHECKER(evidence(calls=calls, finals=finals(DONE))).valid is True
    there = finals(DONE, FinalTask("open", "succeeded"))
    assert CHECKER(evidence(calls=calls, finals=there)).valid is True


def test_the_new_task_of_an_acknowledged_retry_counts() -> None:
    retry = call("retry", 50, 60, {"id": "t", "key": "r"}, {"id": "t2"})
    verdict = CHECKER(evidence(calls=[submit("t", 0, 10), retry], finals=finals(DONE)))
    assert {violation.ids[0] for violation in verdict.violations} == {"t2"}


def test_an_end_that_was_shown_is_the_end() -> None:
    calls = [submit("t", 0, 10), cancel("t", 20, 30)]
    (first, *_) = CHECKER(evidence(calls=calls, finals=finals(DONE))).violations
    assert "shown cancelled and is succeeded on n1" in first.says
    shown = [*calls, read("t", 40, 50, "failed", consistency="local")]
    cancelled = finals(FinalTask("t", "cancelled"))
    (only,) = CHECKER(evidence(calls=shown, finals=cancelled)).violations
    assert "was shown cancelled, later failed" in only.says


def test_a_cancel_that_was_only_begun_may_end_otherwise() -> None:
    calls = [submit("t", 0, 10), cancel("t", 20, 30, "cancelling")]
    assert CHECKER(evidence(calls=calls, finals=finals(DONE))).valid is True


def test_a_schedule_that_is_gone_is_lost() -> None:
    put = call("put-schedule", 0, 10, {"name": "s", "every_ms": 1_000}, {"name": "s"})
    there = tuple(final(peer, schedules=[{"name": "s"}]) for peer in ("n1", "n2", "n3"))
    assert CHECKER(evidence("schedules", calls=[put], finals=there)).valid is True
    verdict = CHECKER(evidence("schedules", calls=[put], finals=(*there[:2], final("n3"))))
    assert [violation.ids for violation in verdict.violations] == [["s", "n3"]]


def test_a_peer_that_was_not_read_is_a_doubt_unless_it_was_left_dead() -> None:
    whole = evidence(calls=[submit("t", 0, 10)], finals=finals(DONE)[:2])
    assert CHECKER(whole).valid == "unknown"
    assert CHECKER(with_run(whole, dead=["n3"])).valid is True


def test_what_was_shown_and_never_acknowledged_counts_as_well() -> None:
    calls = [submit("t", 0, None), read("t", 100, 110, "queued")]
    (violation, *_) = CHECKER(evidence(calls=calls, finals=finals())).violations
    assert violation.says.startswith("task t was shown by n1 and is not on n1")
    there = finals(FinalTask("t", "succeeded"))
    assert CHECKER(evidence(calls=calls, finals=there)).valid is True
    nobody = [submit("t", 0, None), read("t", 100, 110, None)]
    assert CHECKER(evidence(calls=nobody, finals=finals())).violations == []
