"""Nodes that were closed are given nothing."""

from __future__ import annotations

from typing import Any

import pytest

from jepsen_like.checker.cordons import CHECKER
from jepsen_like.history import Call, FaultEvent
from tests.jepsen.builders import attempt, call, evidence, fault, with_run


def told(verb: str, at: float, node: str = "n1", until: float | None = 0) -> Call:
    ended = at + 10 if until == 0 else until
    return call(verb, at, ended, {"node": node}, {"node": node} if ended else None)


def judged(orders: list[Call], start: float, *faults: FaultEvent) -> Any:
    effects = attempt("t", 1, start, start + 100, node="n1")
    whole = evidence("drain", calls=orders, effects=effects, faults=list(faults))
    return CHECKER(with_run(whole, lease_seconds=5.0)).valid


@pytest.mark.parametrize("verb", ["cordon", "drain"])
def test_an_attempt_that_starts_long_after_the_order_is_found(verb: str) -> None:
    assert judged([told(verb, 1_000)], 3_600) is False
    # It was assigned before.
    assert judged([told(verb, 1_000)], 3_400) is True
    assert judged([told(verb, 1_000, "n2")], 3_600) is True


@pytest.mark.parametrize(
    ("orders", "valid"),
    [
        ([told("cordon", 1_000), told("uncordon", 5_000)], True),
        ([told("cordon", 1_000), told("uncordon", 6_500)], False),
        ([told("cordon", 1_000), told("uncordon", 5_000, "n2")], False),
        # Nobody knows when it was done, or of which of the two was the last.
        ([told("cordon", 1_000), told("uncordon", 500, until=None)], True),
        ([told("cordon", 1_000), told("uncordon", 990, until=1_005)], True),
        ([told("uncordon", 500), told("cordon", 1_000)], False),
        ([told("cordon", 1_000, until=None)], True),
        ([call("cordon", 1_000, 1_010, {"node": "n1"})], True),
        ([told("cordon", 1_000), told("cordon", 4_000), told("uncordon", 5_000)], True),
    ],
)
def test_only_a_node_that_was_surely_closed_is_judged(orders: list[Call], valid: bool) -> None:
    # Another one's, so that there is one to judge.
    assert judged([*orders, told("cordon", 29_000, "n3")], 6_000) is valid


@pytest.mark.parametrize(
    ("start", "fault_", "valid"),
    [
        (8_500, fault("pause-one", 500, 6_000, "n1"), True),
        # Later than any lease and what follows it.
        (9_500, fault("pause-one", 500, 6_000, "n1"), False),
        (6_000, fault("pause-one", 7_000, 8_000, "n1"), False),
    ],
)
def test_an_assignment_may_wait_for_its_machine_as_long_as_its_lease(
    start: float, fault_: list[FaultEvent], valid: bool
) -> None:
    assert judged([told("cordon", 1_000)], start, *fault_) is valid


def test_a_run_without_any_order_is_vacuous() -> None:
    assert CHECKER(evidence("drain")).valid == "unknown"
    assert CHECKER(evidence("tasks")).vacuous
