"""The smallest part of what no order explains: refuted by itself, impossible answer included."""

from __future__ import annotations

import random

import pytest

from jepsen_like.checker.linearizability import CHECKER
from jepsen_like.checker.verdict import SUB_HISTORY_MAX, Findings
from jepsen_like.history import Call
from jepsen_like.linear import Op
from jepsen_like.models import REGISTER, TASK, is_read
from jepsen_like.shrink import Part, Steps, refuted_at, smallest
from tests.jepsen.builders import MS, call, evidence, read, submit
from tests.jepsen.test_linear import (
    BAD,
    GOOD,
    SUBMIT,
    brute_force,
    hard_history,
    op,
    random_history,
    running,
)

MANY = 1_000_000


def shrunk(ops: list[Op]) -> Part:
    return smallest(ops, REGISTER, is_read)


def beginnings(ops: list[Op]) -> set[object]:
    """All states that it may have been in before the answer that cannot be."""
    states: set[object] = {None}
    refuted_at(ops, [None], REGISTER, Steps(MANY), states=states)
    return states


def test_what_is_refuted_is_what_has_no_order() -> None:
    dice = random.Random(16)
    refuted = 0
    for number in range(5_000):
        ops = random_history(dice)
        at = refuted_at(ops, [None], REGISTER, Steps(MANY))
        assert (at is None) is brute_force(ops), (number, ops)
        if at is None:
            continue
        refuted += 1
        part = shrunk(ops)
        assert part.at == at
        assert at in {one.to_at for one in part.ops}, (number, ops, part)
        asked = {(one.from_at, one.does) for one in ops}
        assert {(one.from_at, one.does) for one in part.ops} <= asked
        for state in beginnings(ops) if part.is_cut else {None}:
            assert not brute_force(part.ops, state), (number, ops, part, state)
    assert refuted > 1_000


@pytest.mark.parametrize("name", GOOD)
def test_what_has_an_order_is_not_refuted(name: str) -> None:
    assert refuted_at(GOOD[name], [None], REGISTER, Steps(MANY)) is None


def pauses(count: int, at: int = 10) -> list[Op]:
    """Pauses and resumes in turns, each with a read that has it right."""
    ops = []
    for k in range(count):
        verb, saw = ("pause", "paused") if k % 2 == 0 else ("resume", "queued")
        ops += [
            op(at + 10 * k, at + 10 * k + 4, verb),
            op(at + 10 * k + 5, at + 10 * k + 6, "read", saw),
        ]
    return ops


def test_of_a_hundred_operations_the_two_stay_that_contradict_each_other() -> None:
    before = [SUBMIT, *pauses(50)]
    last = op(9_000, 9_001, "pause")
    stale = op(9_010, 9_011, "read", "queued")
    after = [op(9_020, 9_021, "read", "paused"), *pauses(10, 9_100)]
    assert shrunk([*before, last, stale, *after]) == Part([last, stale], 9_011, is_cut=True)


def test_what_overlaps_or_is_open_is_left_out_when_it_explains_nothing() -> None:
    others = [op(2, None, "cancel"), op(3, 200, "read", "paused"), op(4, 300, "pause")]
    acknowledged, stale = op(20, 30, "resume"), op(40, 50, "read", None)
    part = shrunk([SUBMIT, *others, acknowledged, stale])
    # Once it was there it is never away; which of them shows that does not matter.
    assert (len(part.ops), part.ops[-1], part.at) == (2, stale, 50)


def test_a_write_stays_without_which_something_else_would_look_wrong() -> None:
    # The open pause happened once, and was seen; it cannot explain both answers.
    ops = [
        SUBMIT,
        op(2, None, "pause"),
        op(3, 4, "read", "paused"),
        op(5, 6, "resume"),
        op(7, 8, "read", "queued"),
        op(9, 10, "read", "paused"),
    ]
    part = shrunk(ops)
    assert part.at == 10
    assert ops[1] in part.ops
    # Without it the answer would be impossible for want of any pause, which says nothing.
    assert {ops[2], ops[5]} <= set(part.ops)


def test_a_read_too_many_is_left_out() -> None:
    ops = [
        SUBMIT,
        op(2, 3, "read", "queued"),
        op(4, 5, "pause"),
        op(6, 7, "read", "paused"),
        op(8, 9, "read", "queued"),
        op(10, 11, "resume"),
        op(12, 13, "read", "queued"),
    ]
    # That it was paused, and was not: the two answers are enough.
    assert shrunk(ops) == Part([ops[3], ops[4]], 9, is_cut=True)


@pytest.mark.parametrize("name", BAD)
def test_small_ones_keep_the_answer_that_cannot_be(name: str) -> None:
    part = shrunk(BAD[name])
    assert part.at in {one.to_at for one in part.ops}
    assert len(part.ops) <= len(BAD[name])


def test_a_task_that_runs_needs_no_beginning() -> None:
    seen = [(state, 1) for state in ("assigned", "running", "succeeded", "running")]
    ops = running(("queued", 0), *seen)
    assert smallest(ops, TASK, is_read) == Part(ops[-2:], ops[-1].to_at, is_cut=True)


def test_what_takes_too_long_is_left_as_it_is() -> None:
    ops, whole = hard_history(24), Steps(20_000)
    assert smallest(ops, REGISTER, is_read, whole) == Part(ops)
    assert whole.left == 0, "what it took is taken from all others"
    assert shrunk(hard_history(4)).at == 9_001


def test_the_violation_shows_the_impossible_answer_and_not_the_beginning() -> None:
    calls: list[Call] = [submit("r", 0, 5, held=True)]
    for k in range(60):
        verb, state = ("pause", "paused") if k % 2 == 0 else ("resume", "queued")
        at = 10.0 + 10 * k
        calls.append(call(verb, at, at + 4, {"id": "r"}, {"id": "r", "state": state}))
    calls.append(read("r", 900, 901, "paused"))
    verdict = CHECKER(evidence("register", calls=calls))
    (violation,) = verdict.violations
    assert violation.at == [901 * MS]
    assert [record["f"] for record in violation.history] == ["resume", "read"]
    assert violation.history[-1]["ended_at"] == 901 * MS
    assert "2 of its 62 operations" in violation.says
    assert violation.left_out == 0


def test_of_too_many_records_the_last_are_listed() -> None:
    findings = Findings()
    records = [read("t", at, at + 1, "queued") for at in range(SUB_HISTORY_MAX + 7)]
    findings.broken("it", history=records)
    (violation,) = findings.violations
    assert len(violation.history) == SUB_HISTORY_MAX
    assert violation.history[-1]["invoked_at"] == records[-1].invoked_at
    assert violation.left_out == 7
