"""Nothing that nobody asked for, and nothing twice."""

from __future__ import annotations

import pytest

from jepsen_like.checker import once, phantoms
from jepsen_like.history import Call, FinalTask
from tests.jepsen.builders import EPOCH_MS, attempt, call, evidence, finals, submit

RAN = attempt("t", 1, 100, 200)


@pytest.mark.parametrize(
    "calls",
    [
        [submit("t", 0, 10)],
        [submit("t", 0, None)],
        # One try was refused, the other nobody knows of.
        [submit("t", 0, 10, state=None), submit("t", 20, None)],
        [call("retry", 0, 10, {"id": "old", "key": "k"}, {"id": "t"})],
    ],
)
def test_what_may_have_been_asked_for_is_no_phantom(calls: list[Call]) -> None:
    rows = finals(FinalTask("t", "succeeded"))
    assert phantoms.CHECKER(evidence(calls=calls, effects=RAN, finals=rows)).valid is True


def test_parts_and_runs_of_schedules_belong_to_what_they_are_of() -> None:
    put = call("put-schedule", 0, 10, {"name": "s", "every_ms": 1_000}, {"name": "s"})
    row = {"at_ms": EPOCH_MS + 1_000, "state": "fired", "task": "s-1"}
    listed = call("slots", 50, 60, {"name": "s"}, {"slots": [row]})
    effects = [
        *attempt("m.check.0", 1, 100, 200),
        *attempt("part", 2, 100, 200),
        *attempt("s-1", 3, 100, 200),
        *attempt("s-2", 4, 100, 200, schedule="s"),
    ]
    rows = finals(
        FinalTask("part", "succeeded", parent="m"), FinalTask("s-3", "queued", schedule="s")
    )
    calls = [submit("m", 0, 10), put, listed]
    verdict = phantoms.CHECKER(evidence(calls=calls, effects=effects, finals=rows))
    assert verdict.valid is True, verdict.violations


@pytest.mark.parametrize(
    ("calls", "says"),
    [
        ([], "nobody asked for it"),
        ([submit("other", 0, 10)], "nobody asked for it"),
        ([submit("t", 0, 10, state=None)], "was told that it did not happen"),
    ],
)
def test_effects_of_nothing_are_found(calls: list[Call], says: str) -> None:
    (violation,) = phantoms.CHECKER(evidence(calls=calls, effects=RAN)).violations
    assert says in violation.says
    rows = finals(FinalTask("t", "queued"))
    verdict = phantoms.CHECKER(evidence(calls=calls, effects=attempt("x", 9, 1, 2), finals=rows))
    assert any(violation.ids == ["t"] for violation in verdict.violations)


def test_an_open_retry_may_have_made_a_task() -> None:
    calls = [submit("old", 0, 10), call("retry", 20, None, {"id": "old", "key": "k"})]
    rows = finals(FinalTask("t", "succeeded", retry_of="old"))
    assert phantoms.CHECKER(evidence(calls=calls, effects=RAN, finals=rows)).valid is True
    other = finals(FinalTask("t", "succeeded", retry_of="another"))
    assert phantoms.CHECKER(evidence(calls=calls, effects=RAN, finals=other)).valid is False
    assert phantoms.CHECKER(evidence(calls=calls, effects=RAN)).valid == "unknown"


def keyed(at: float, task: str, replayed: bool, asked: str = "") -> Call:
    value = {"key": "k", **({"id": asked} if asked else {})}
    return call("submit", at, at + 5, value, {"id": task, "state": "queued", "replayed": replayed})


def open_(at: float, asked: str = "") -> Call:
    return call("submit", at, None, {"key": "k", **({"id": asked} if asked else {})})


@pytest.mark.parametrize(
    ("calls", "valid"),
    [
        ([keyed(0, "t", False), keyed(10, "t", True)], True),
        # The first one's answer was lost.
        ([open_(0), keyed(10, "t", True), keyed(20, "t", True)], True),
        ([keyed(0, "t", False), keyed(0, "u", True)], False),
        ([keyed(0, "t", False), keyed(2, "t", False)], False),
    ],
)
def test_a_key_is_one_task(calls: list[Call], valid: bool) -> None:
    assert once.CHECKER(evidence(calls=calls)).valid is valid


def test_two_tasks_of_one_key_on_the_replicas_are_found() -> None:
    calls = [open_(0, "t"), keyed(10, "u", False, "u")]
    assert (
        once.CHECKER(evidence(calls=calls, finals=finals(FinalTask("u", "queued")))).valid is True
    )
    both = finals(FinalTask("t", "queued"), FinalTask("u", "queued"))
    assert (
        "key k made 2 tasks: t, u"
        in once.CHECKER(evidence(calls=calls, finals=both)).violations[0].says
    )


@pytest.mark.parametrize(("at", "peer", "count"), [(5, "n2", 1), (5, "n1", 0), (20, "n2", 0)])
def test_a_key_at_two_peers_at_once_is_counted(at: float, peer: str, count: int) -> None:
    value = {"id": "t", "key": "k", "task": {}}
    answer = {"id": "t", "state": "queued", "replayed": False}
    again = {**answer, "replayed": True}
    calls = [call("submit", 0, 10, value, answer)]
    calls.append(call("submit", at, at + 10, value, again, peer=peer))
    verdict = once.CHECKER(evidence(calls=calls))
    assert (verdict.valid, verdict.checked["keys_at_two_peers_at_once"]) == (True, count)
