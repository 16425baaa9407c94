"""The search, against all orders tried one by one, and histories whose verdict is known."""

from __future__ import annotations

import random

import pytest

from jepsen_like.linear import Budget, Op, linearizable
from jepsen_like.models import REGISTER, TASK, ops_of
from tests.jepsen.builders import call

VERBS = ("submit", "cancel", "pause", "resume")
STATES = (None, "queued", "paused", "cancelled")
HISTORIES = 20_000


def op(
    at: int, until: int | None, verb: str, saw: str | None = None, attempt: int | None = None
) -> Op:
    return Op(at, until, (verb, saw, attempt))


def brute_force(ops: list[Op], initial: object = None) -> bool:
    """Is there an order?  Every one is tried: next may be what no other had to come before."""

    def explains(left: list[Op], state: object) -> bool:
        must = [other.to_at for other in left if other.to_at is not None]
        if not must:
            return True
        first_end = min(must)
        for place, one in enumerate(left):
            if one.from_at > first_end:
                continue
            rest = left[:place] + left[place + 1 :]
            if any(explains(rest, after) for after in REGISTER.after(state, one.does)):
                return True
        return False

    return explains(ops, initial)


def random_history(dice: random.Random) -> list[Op]:
    """Up to seven operations, some open, with instants that often coincide.

    Answers come from an order that is really run through, so that many are explainable; then one in
    two is spoiled.
    """
    count = dice.randint(2, 7)
    state: object = None
    ops: list[Op] = []
    for number in range(count):
        begin = max(0, 2 * number + dice.randint(-4, 1))
        end: int | None = 2 * number + dice.randint(1, 5)
        verb = "submit" if number == 0 else dice.choice((*VERBS, "read", "read", "read"))
        after = REGISTER.after(state, (verb, None, None)) if verb != "read" else (state,)
        if not after:
            continue
        does = (verb, state if verb == "read" else None, None)
        if verb != "read" and dice.random() < 0.15:
            end = None
            if dice.random() < 0.5:
                after = (state,)
        state = after[0]
        ops.append(Op(begin, end, does))
    if ops and dice.random() < 0.5:
        place = dice.randrange(len(ops))
        ops[place] = ops[place]._replace(does=("read", dice.choice(STATES), None))
    return ops


def test_the_search_and_all_orders_agree_on_random_histories() -> None:
    dice = random.Random(6)
    verdicts = {True: 0, False: 0}
    budget = Budget()
    for number in range(HISTORIES):
        ops = random_history(dice)
        expected = brute_force(ops)
        assert linearizable(ops, REGISTER, budget) is expected, (number, ops)
        verdicts[expected] += 1
    # Neither answer is rare, so agreeing means something.
    assert min(verdicts.values()) > HISTORIES // 5, verdicts


SUBMIT = op(0, 1, "submit")

GOOD = {
    "nothing": [],
    "a read before the submission": [op(0, 1, "read", None), op(2, 3, "submit")],
    "reads during a pause see either state, in this order": [
        SUBMIT,
        op(2, 9, "pause"),
        op(3, 4, "read", "queued"),
        op(5, 6, "read", "paused"),
    ],
    "an open cancel that happened late": [
        SUBMIT,
        op(2, None, "cancel"),
        op(3, 4, "read", "queued"),
        op(50, 51, "read", "cancelled"),
    ],
    "an open cancel that never happened": [
        SUBMIT,
        op(2, None, "cancel"),
        op(9, 10, "read", "queued"),
    ],
    "an open submission that happened": [op(0, None, "submit"), op(5, 6, "read", "queued")],
}

BAD = {
    "a lost submission": [SUBMIT, op(2, 3, "read", None)],
    "a stale read": [SUBMIT, op(2, 3, "pause"), op(4, 5, "read", "queued")],
    "a cancel undone": [
        SUBMIT,
        op(2, 3, "cancel"),
        op(4, 5, "read", "cancelled"),
        op(6, 7, "resume"),
    ],
    "two reads in turns that disagree during a pause": [
        SUBMIT,
        op(2, 9, "pause"),
        op(3, 4, "read", "paused"),
        op(5, 6, "read", "queued"),
    ],
    "an open cancel seen, then not": [
        SUBMIT,
        op(2, None, "cancel"),
        op(3, 4, "read", "cancelled"),
        op(5, 6, "read", "queued"),
    ],
    "a task nobody submitted": [op(0, 1, "read", "queued")],
}


@pytest.mark.parametrize("name", GOOD)
def test_what_has_an_order_is_linearizable(name: str) -> None:
    assert linearizable(GOOD[name], REGISTER, Budget()) is True


@pytest.mark.parametrize("name", BAD)
def test_what_has_none_is_not(name: str) -> None:
    assert linearizable(BAD[name], REGISTER, Budget()) is False


def running(*seen: tuple[str | None, int | None]) -> list[Op]:
    """A submission and reads one after the other."""
    reads = [op(10 + 2 * k, 11 + 2 * k, "read", s, a) for k, (s, a) in enumerate(seen)]
    return [SUBMIT, *reads]


@pytest.mark.parametrize(
    ("history", "is_fine"),
    [
        (running(("queued", 0), ("assigned", 1), ("running", 1), ("succeeded", 1)), True),
        (running(("running", 1), ("retrying", 1), ("queued", 1), ("running", 2)), True),
        (running(("queued", None), ("succeeded", None)), True),
        (running(("succeeded", 1), ("running", 1)), False),
        (running(("succeeded", 1), ("succeeded", 2)), False),
        (running(("running", 2), ("running", 1)), False),
        (running(("running", 1), ("assigned", 1)), False),
        (running(("retrying", 1), ("running", 1)), False),
        (running(("running", 1), (None, None)), False),
        (running(("cancelled", 0)), False),
        (running(("cancelling", 1)), False),
        ([SUBMIT, op(2, 3, "cancel"), op(4, 5, "read", "cancelling", 1)], True),
        ([SUBMIT, op(2, 3, "cancel"), op(4, 5, "read", "succeeded", 1)], True),
        ([SUBMIT, op(2, 3, "cancel"), op(4, 5, "read", "queued", 0)], False),
        ([SUBMIT, op(2, None, "cancel"), op(4, 5, "read", "queued", 0)], True),
        ([SUBMIT, op(2, 3, "read", "succeeded", 1), op(4, 5, "cancel")], False),
        ([SUBMIT, op(2, 3, "pause"), op(4, 5, "read", "paused", 0)], True),
        ([SUBMIT, op(2, 3, "read", "paused", 0)], False),
        ([op(0, 1, "submit-may-cancel"), op(2, 3, "read", "cancelled", 0)], True),
        ([op(0, 1, "read", None), op(2, 3, "submit")], True),
        ([op(0, 1, "read", "queued", 0), op(2, 3, "submit")], False),
        ([op(0, 1, "cancel"), op(2, 3, "submit")], False),
        ([op(0, 1, "submit-may-cancel"), op(2, 3, "read", None)], False),
        ([SUBMIT, op(2, 3, "cancel"), op(4, 5, "read", "cancelled", 0), op(6, 7, "cancel")], True),
        ([SUBMIT, op(2, 3, "cancel"), op(4, 5, "read", "cancelled", 0), op(6, 7, "pause")], False),
        ([SUBMIT, op(2, 3, "read", "failed", 1), op(4, 5, "pause")], False),
        (running(("queued", 1), ("assigned", 1)), False),
        (running(("queued", 0), ("running", None)), True),
    ],
)
def test_a_task_that_runs_moves_by_itself_but_not_anywhere(
    history: list[Op], is_fine: bool
) -> None:
    assert linearizable(history, TASK, Budget()) is is_fine


def hard_history(pairs: int) -> list[Op]:
    """All at once, and then an answer that none of the orders explains."""
    ops = [op(0, 1_000 + k, VERBS[1 + k % 3]) for k in range(pairs)]
    return [op(-2, -1, "submit"), *ops, op(9_000, 9_001, "read", None)]


def test_a_search_past_its_budget_says_so() -> None:
    assert linearizable(hard_history(24), REGISTER, Budget(steps=20_000)) is None
    assert linearizable(hard_history(24), REGISTER, Budget(seconds=0.0)) is None
    assert linearizable(hard_history(6), REGISTER, Budget()) is False


def test_a_long_history_needs_no_recursion() -> None:
    ops = [SUBMIT]
    for k in range(3_000):
        verb, saw = ("pause", "paused") if k % 2 == 0 else ("resume", "queued")
        ops += [op(10 + 10 * k, 18 + 10 * k, verb), op(11 + 10 * k, 19 + 10 * k, "read", saw)]
    assert linearizable(ops, REGISTER, Budget()) is True
    assert linearizable([*ops, op(99_000, 99_001, "read", None)], REGISTER, Budget()) is False


def test_a_whole_that_was_told_to_end_waits_for_its_parts() -> None:
    def read(reason: str) -> bool | None:
        answer = {"id": "w", "state": "waiting", "attempt": 0, "reason": reason}
        ops = [
            half
            for one in (
                call("submit", 0, 10, {"id": "w"}, {"id": "w", "state": "waiting", "attempt": 0}),
                call("cancel", 20, 30, {"id": "w"}, answer),
                call("read", 40, 50, {"id": "w"}, answer),
            )
            for half in ops_of(one, may_cancel=False)
        ]
        return linearizable(ops, TASK, Budget(10_000, 10.0))

    assert read("cancelled") is True
    assert read("subtasks") is False, "nothing else waits after it was cancelled"
