"""Reconciling: what is assigned to a node against what its runner has."""

from __future__ import annotations

import pytest

from raftsched.core.commands import CancelTask, PauseTask
from raftsched.core.model import TaskStatus
from raftsched.core.reconciler import (
    Abandon,
    Action,
    DesiredAttempt,
    Forget,
    RunningAttempt,
    Start,
    Stop,
    desired,
    reconcile,
)
from tests.unit.core.builders import Replica, finished, register


def wanted(token: int, *, run: bool = True, reason: str = "") -> DesiredAttempt:
    """An attempt the state assigns to this node."""
    return DesiredAttempt(token, f"t{token}", 1, b"spec", run, reason)


def has(*tokens: int, ended: tuple[int, ...] = ()) -> dict[int, RunningAttempt]:
    """What the runner has: attempts that go on, and some that ended."""
    return {
        token: RunningAttempt(token, f"t{token}", token in ended) for token in (*tokens, *ended)
    }


def start(token: int) -> Start:
    """Start the attempt that `wanted` makes."""
    return Start(token, f"t{token}", 1, b"spec")


#: Desired, running, actions.
ONE: dict[str, tuple[list[DesiredAttempt], dict[int, RunningAttempt], list[Action]]] = {
    "nothing wanted, nothing there": ([], has(), []),
    "wanted and not there: start": ([wanted(1)], has(), [start(1)]),
    "wanted and running: leave": ([wanted(1)], has(1), []),
    "wanted and ended: its report is under way": ([wanted(1)], has(ended=(1,)), []),
    "cancelling and running: stop": (
        [wanted(1, run=False, reason="operator")],
        has(1),
        [Stop(1, "operator")],
    ),
    "cancelling without a reason: stop as cancelled": (
        [wanted(1, run=False)],
        has(1),
        [Stop(1, "cancelled")],
    ),
    "cancelling and never started: abandon": (
        [wanted(1, run=False, reason="operator")],
        has(),
        [Abandon(1, "t1", 1, "operator")],
    ),
    "cancelling and ended: its report is under way": ([wanted(1, run=False)], has(ended=(1,)), []),
    "not wanted and running: stop": ([], has(1), [Stop(1, "not-assigned")]),
    "not wanted and ended: forget": ([], has(ended=(1,)), [Forget(1)]),
    "an older attempt of the same task runs: stop it, start the new one": (
        [wanted(2)],
        {1: RunningAttempt(1, "t2", False)},
        [Stop(1, "not-assigned"), start(2)],
    ),
}


@pytest.mark.parametrize(("want", "running", "actions"), ONE.values(), ids=ONE.keys())
def test_each_difference_has_its_action(
    want: list[DesiredAttempt], running: dict[int, RunningAttempt], actions: list[Action]
) -> None:
    assert reconcile(want, running) == actions


def test_stops_come_before_starts_and_both_in_order_of_their_tokens() -> None:
    want = [wanted(3), wanted(4, run=False, reason="operator"), wanted(5), wanted(6, run=False)]
    running = has(9, 6, 1, ended=(8, 2))
    assert reconcile(want, running) == [
        Abandon(4, "t4", 1, "operator"),
        Stop(6, "cancelled"),
        Stop(1, "not-assigned"),
        Forget(2),
        Forget(8),
        Stop(9, "not-assigned"),
        start(3),
        start(5),
    ]


def test_nothing_is_left_to_do_when_the_actions_are_done() -> None:
    want = [wanted(1), wanted(2), wanted(3, run=False)]
    assert reconcile(want, has(1, 2, ended=(3,))) == []


# Desired ---------------------------------------------------------------------------------------


def test_a_node_is_to_run_what_it_holds_oldest_token_first() -> None:
    replica = Replica()
    replica.accepted(register("n1"))
    replica.accepted(register("n2"))
    replica.submit("t1", "t2", "t3", "t4", spec=b"what")
    for task_id, node_id in [("t3", "n1"), ("t4", "n2"), ("t1", "n1")]:
        replica.assign(task_id, node_id)
    assert desired(replica.state, "n1", "a") == [
        DesiredAttempt(1, "t3", 1, b"what", True),
        DesiredAttempt(3, "t1", 1, b"what", True),
    ]
    assert desired(replica.state, "n2", "a") == [DesiredAttempt(2, "t4", 1, b"what", True)]


@pytest.mark.parametrize(("node_id", "incarnation"), [("n1", "b"), ("n2", "a"), ("nowhere", "a")])
def test_attempts_of_another_node_or_incarnation_are_not_desired(
    node_id: str, incarnation: str
) -> None:
    replica = Replica()
    replica.accepted(register("n1"))
    replica.accepted(register("n2"))
    replica.bring("t1", TaskStatus.RUNNING)
    assert desired(replica.state, node_id, incarnation) == []


def test_only_the_tasks_asked_for_are_looked_at_and_only_if_they_are_this_nodes() -> None:
    replica = Replica()
    replica.accepted(register("n1"))
    replica.accepted(register("n2"))
    for task_id in ("t1", "t2"):
        replica.bring(task_id, TaskStatus.RUNNING)
    replica.bring("ended", TaskStatus.SUCCEEDED)
    replica.submit("elsewhere", "waiting")
    replica.assign("elsewhere", "n2")
    asked = ["waiting", "elsewhere", "ended", "nobody", "t2"]
    found = desired(replica.state, "n1", "a", asked)
    assert [attempt.task_id for attempt in found] == ["t2"]
    assert desired(replica.state, "n1", "a", []) == []


def test_a_cancelling_attempt_is_desired_not_to_run() -> None:
    replica = Replica()
    replica.accepted(register())
    token = replica.bring("t1", TaskStatus.RUNNING)
    replica.accepted(CancelTask("t1", "operator"))
    assert desired(replica.state, "n1", "a") == [
        DesiredAttempt(token, "t1", 1, b"spec", False, "operator")
    ]


def test_a_paused_attempt_runs_on() -> None:
    replica = Replica()
    replica.accepted(register())
    replica.bring("t1", TaskStatus.RUNNING)
    replica.accepted(PauseTask("t1"))
    assert [attempt.run for attempt in desired(replica.state, "n1", "a")] == [True]


@pytest.mark.parametrize("end", ["succeeded", "failed", "lost"])
def test_an_attempt_that_ended_is_not_desired(end: str) -> None:
    replica = Replica()
    replica.accepted(register())
    token = replica.bring("t1", TaskStatus.RUNNING)
    replica.accepted(finished("t1", token, end))
    assert desired(replica.state, "n1", "a") == []


def test_a_second_attempt_is_desired_under_its_own_token_and_number() -> None:
    replica = Replica()
    replica.accepted(register())
    replica.submit("t1", attempts_max=2)
    replica.fail("t1")
    token = replica.assign("t1")
    assert desired(replica.state, "n1", "a") == [DesiredAttempt(token, "t1", 2, b"spec", True)]
