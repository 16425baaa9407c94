"""What peers hold when all is over is an answer like any other, and the last one."""

from __future__ import annotations

import pytest

from jepsen_like.checker.linearizability import CHECKER
from jepsen_like.history import Call, FinalTask
from tests.jepsen.builders import call, cancel, evidence, finals, read, run, submit

HELD = submit("t", 0, 10, held=True)
PAUSED = call("pause", 20, 30, {"id": "t"}, {"id": "t", "state": "paused"})
OPEN = call("pause", 20, None, {"id": "t"})


@pytest.mark.parametrize(
    ("calls", "last"),
    [
        ([HELD], FinalTask("t", "waiting")),
        ([HELD, PAUSED], FinalTask("t", "waiting", paused=True)),
        ([HELD, OPEN], FinalTask("t", "waiting")),
        ([HELD, OPEN], FinalTask("t", "waiting", paused=True)),
        ([HELD, cancel("t", 20, 30)], FinalTask("t", "cancelled")),
        ([HELD, cancel("t", 20, None)], FinalTask("t", "cancelled")),
        ([submit("t", 0, 10), read("t", 20, 30, "running")], FinalTask("t", "succeeded", "", 1)),
    ],
)
def test_the_last_state_that_operations_explain_passes(calls: list[Call], last: FinalTask) -> None:
    verdict = CHECKER(evidence(calls=calls, finals=finals(last)))
    assert (verdict.valid, verdict.checked["last_reads"]) == (True, 1), verdict.violations


@pytest.mark.parametrize(
    ("calls", "last"),
    [
        # Acknowledged, and nobody looked at the task again.
        ([HELD, PAUSED], FinalTask("t", "waiting")),
        ([HELD, cancel("t", 20, 30)], FinalTask("t", "waiting")),
        ([HELD], FinalTask("t", "waiting", paused=True)),
        ([submit("t", 0, 10), read("t", 20, 30, "succeeded")], FinalTask("t", "failed", "", 1)),
        ([submit("t", 0, 10)], FinalTask("t", "cancelled")),
    ],
)
def test_the_last_state_that_they_do_not_explain_is_found(
    calls: list[Call], last: FinalTask
) -> None:
    (violation,) = CHECKER(evidence(calls=calls, finals=finals(last))).violations
    assert violation.ids == ["t"]
    assert violation.history[-1]["f"] == "final"


def test_peers_that_hold_different_things_give_a_read_each() -> None:
    some = finals(FinalTask("t", "waiting", paused=True))[:2]
    other = finals(FinalTask("t", "waiting"))[2:]
    verdict = CHECKER(evidence(run=run("register"), calls=[HELD, PAUSED], finals=some + other))
    assert (verdict.valid, verdict.checked["last_reads"]) == (False, 2)
