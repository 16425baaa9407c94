"""Answers against indexes and against the log."""

from __future__ import annotations

import pytest

from jepsen_like.checker.linearizability import CHECKER as LINEARIZABILITY
from jepsen_like.checker.linearizability import judge
from jepsen_like.checker.verdict import Findings
from jepsen_like.checker.witness import CHECKER
from jepsen_like.history import Call, LogEntry, Row
from jepsen_like.linear import Budget
from tests.jepsen.builders import call, cancel, evidence, read, submit


def seen(at: float, until: float, state: str | None, index: int, **more: object) -> Call:
    return read("t", at, until, state, index=index, **more)


LOG = [
    LogEntry(1),
    LogEntry(5, {"t": Row("queued")}),
    LogEntry(8, {"t": Row("running", 1), "u": Row("queued")}),
    LogEntry(9, {"t": Row("succeeded", 1)}),
    LogEntry(12, {"t": None}),
]


@pytest.mark.parametrize(
    "calls",
    [
        [seen(0, 10, "queued", 5), seen(20, 30, "queued", 5), seen(40, 50, "running", 8)],
        # At once: either may be first.
        [seen(0, 10, "running", 8), seen(5, 15, "queued", 7)],
        [seen(0, 10, "running", 8), seen(20, 30, "queued", 6, consistency="local")],
        [seen(0, 10, None, 4), seen(20, 30, None, 13 - 1)],
        [seen(0, 10, "succeeded", 11, answer={"attempt": 1})],
        [submit("u", 0, 10)],
    ],
)
def test_answers_that_the_log_explains_pass(calls: list[Call]) -> None:
    verdict = CHECKER(evidence(calls=[*calls, seen(90, 99, None, 12)], log=LOG))
    assert verdict.valid is True, verdict.violations


@pytest.mark.parametrize(
    ("calls", "says"),
    [
        ([seen(0, 10, "running", 8), seen(20, 30, "queued", 7)], "stale: read"),
        # Another task's answer counts as well: one log, one order.
        ([read("u", 0, 10, "queued", index=9), seen(20, 30, "running", 8)], "stale: read"),
        (
            [seen(0, 10, "running", 5)],
            "answered at index 5 state 'running' where the log has 'queued'",
        ),
        ([seen(0, 10, None, 6)], "state None where the log has 'queued'"),
        ([seen(0, 10, "queued", 8, consistency="local")], "where the log has 'running'"),
        (
            [seen(0, 10, "running", 8, answer={"attempt": 2})],
            "index 8 attempt 2 where the log has 1",
        ),
        ([submit("lost", 0, 10)], "is not in the log"),
        ([call("retry", 0, 10, {"id": "t", "key": "r"}, {"id": "new"})], "is not in the log"),
    ],
)
def test_answers_that_it_does_not_explain_are_found(calls: list[Call], says: str) -> None:
    verdict = CHECKER(evidence(calls=calls, log=LOG))
    assert verdict.valid is False
    assert any(says in violation.says for violation in verdict.violations), verdict.violations


def version(at: float, state: str, modify_index: int) -> Call:
    return read("t", at, at + 5, state, answer={"modify_index": modify_index, "attempt": 1})


def test_versions_of_a_row_rise_and_each_is_one_row() -> None:
    index = seen(90, 91, "succeeded", 30)
    fine = [version(0, "running", 8), version(10, "running", 8), version(20, "succeeded", 9), index]
    assert CHECKER(evidence(calls=fine)).valid is True
    back = [version(0, "succeeded", 9), version(10, "running", 8), index]
    assert "modify_index of t 8" in CHECKER(evidence(calls=back)).violations[0].says
    split = [version(0, "running", 8), version(10, "succeeded", 8), index]
    assert "two rows with modify_index 8" in CHECKER(evidence(calls=split)).violations[0].says


def test_the_checker_takes_each_task_by_itself() -> None:
    good = [submit("t", 0, 10), cancel("t", 20, 30), read("t", 40, 50, "cancelled")]
    other = [submit("u", 0, 10), read("u", 40, 50, "queued")]
    verdict = LINEARIZABILITY(evidence("register", calls=[*good, *other]))
    assert (verdict.valid, verdict.checked["tasks"]) == (True, 2)
    bad = [*good, *other, read("u", 60, 70, None)]
    (violation,) = LINEARIZABILITY(evidence("register", calls=bad)).violations
    assert violation.ids == ["u"]
    # Seen once, and then unknown: that it was submitted is not even needed.
    assert [record["f"] for record in violation.history] == ["read", "read"]


@pytest.mark.parametrize(
    ("calls", "valid"),
    [
        # A local read may be behind.
        (
            [
                submit("t", 0, 10),
                cancel("t", 20, 30),
                read("t", 40, 50, "queued", consistency="local"),
                read("t", 60, 70, "cancelled"),
            ],
            True,
        ),
        ([submit("t", 0, 10, state=None), read("t", 20, 30, "queued")], False),
        ([submit("t", 0, None), read("t", 20, 30, "queued")], True),
        # The row that an answer shows may have been changed by another client's write meanwhile.
        (
            [submit("t", 0, 30, "cancelled"), cancel("t", 5, 15), read("t", 40, 50, "cancelled")],
            True,
        ),
        ([submit("t", 0, 10, "cancelled"), read("t", 40, 50, "cancelled")], False),
        (
            [submit("t", 0, 10), call("final", 20, 30, {"id": "t"}, {"id": "t", "state": None})],
            False,
        ),
    ],
)
def test_calls_become_operations(calls: list[Call], valid: bool) -> None:
    assert LINEARIZABILITY(evidence("register", calls=calls)).valid is valid


def test_a_task_that_waits_for_others_may_be_cancelled_by_their_ends() -> None:
    shown = read("t", 20, 30, "cancelled", answer={"attempt": 0})
    for asked, valid in (
        ({"depends_on": ["a"]}, True),
        ({"unique": {"key": "k"}}, True),
        ({}, False),
    ):
        calls = [submit("t", 0, 10, **asked), shown]
        assert LINEARIZABILITY(evidence("tasks", calls=calls)).valid is valid


def test_an_answer_with_an_attempt_is_read_with_it() -> None:
    back = [
        submit("t", 0, 10),
        read("t", 20, 30, "running", answer={"attempt": 2}),
        read("t", 40, 50, "running", answer={"attempt": 1}),
    ]
    assert LINEARIZABILITY(evidence("tasks", calls=back)).valid is False


def test_a_task_past_the_budget_is_a_doubt() -> None:
    findings = Findings()
    whole = evidence("register", calls=[submit("t", 0, 10), read("t", 20, 30, "queued")])
    judge(whole, findings, Budget(steps=1))
    assert findings.doubts == ["t: its 3 operations were not judged within budget"]
    assert not findings.violations
