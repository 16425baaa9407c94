"""Cancelling: at once where nothing runs, else `cancelling` until the node has confirmed."""

from __future__ import annotations

import msgspec
import pytest

from raftsched.core.commands import (
    Assignment,
    AssignTasks,
    CancelTask,
    NodeLost,
    PauseTask,
    SubmitTasks,
)
from raftsched.core.model import TERMINAL, AttemptStatus, TaskStatus
from raftsched.core.outcomes import Accepted, Event, Reason, Rejected
from tests.unit.core.builders import Replica, finished, new_task, register, started


def with_node(**settings: int) -> Replica:
    """A replica with one node."""
    replica = Replica(**settings)
    replica.accepted(register())
    return replica


def test_a_waiting_task_is_cancelled_at_once() -> None:
    replica = with_node()
    replica.submit("t1")
    before = replica.task()
    assert replica.do(CancelTask("t1")) == Accepted()
    assert replica.task() == msgspec.structs.replace(
        before,
        status=TaskStatus.CANCELLED,
        reason="cancelled",
        finished_at=replica.now,
        modify_index=replica.index,
    )
    assert list(replica.state.ready) == []
    assert replica.events == [Event("task_finished", "t1", detail="cancelled")]


def test_a_paused_task_is_cancelled_at_once() -> None:
    replica = with_node()
    replica.submit("t1")
    replica.accepted(PauseTask("t1"))
    assert replica.do(CancelTask("t1")) == Accepted()
    assert replica.task().status is TaskStatus.CANCELLED


@pytest.mark.parametrize("status", [TaskStatus.ASSIGNED, TaskStatus.RUNNING])
def test_a_task_on_a_node_is_cancelling_and_holds_its_room(status: TaskStatus) -> None:
    replica = with_node()
    replica.bring("t1", status)
    task = replica.task()
    assert replica.do(CancelTask("t1", "operator")) == Accepted()
    assert replica.task() == msgspec.structs.replace(
        task, status=TaskStatus.CANCELLING, reason="operator", modify_index=replica.index
    )
    assert replica.usage() == (1, 0, 0)
    assert replica.events == [Event("task_cancelling", "t1", "n1")]


def test_a_second_cancel_changes_nothing_more() -> None:
    replica = with_node()
    replica.bring("t1", TaskStatus.CANCELLING)
    before = replica.task()
    assert replica.do(CancelTask("t1", "another reason")) == Accepted()
    assert replica.task() == before
    assert replica.events == []


@pytest.mark.parametrize("status", [TaskStatus.SUCCEEDED, TaskStatus.FAILED, TaskStatus.CANCELLED])
def test_a_task_that_ended_is_not_cancelled(status: TaskStatus) -> None:
    replica = with_node()
    replica.bring("t1", status)
    assert replica.refused(CancelTask("t1")) == Rejected(Reason.TASK_TERMINAL, str(status))


def test_a_task_nobody_knows_is_not_cancelled() -> None:
    assert Replica().refused(CancelTask("t1")) == Rejected(Reason.UNKNOWN_TASK, "t1")


# Confirming ------------------------------------------------------------------------------------


@pytest.mark.parametrize("end", ["cancelled", "failed", "timed_out"])
@pytest.mark.parametrize("status", [TaskStatus.ASSIGNED, TaskStatus.RUNNING])
def test_a_cancelling_task_is_cancelled_when_its_node_confirms(
    status: TaskStatus, end: str
) -> None:
    replica = with_node()
    token = replica.bring("t1", status)
    replica.accepted(CancelTask("t1", "operator"))
    assert replica.do(finished("t1", token, end, signal=15)) == Accepted(())
    task = replica.task()
    assert (task.status, task.reason) == (TaskStatus.CANCELLED, "operator")
    assert task.finished_at == replica.now
    assert (replica.latest().status, replica.latest().signal) == (AttemptStatus(end), 15)
    assert replica.usage() == (0, 0, 0)
    assert replica.events == [Event("task_finished", "t1", "n1", "cancelled")]


def test_a_success_wins_over_cancelling() -> None:
    replica = with_node()
    token = replica.bring("t1", TaskStatus.CANCELLING)
    assert replica.do(finished("t1", token, "succeeded", exit_code=0)) == Accepted(())
    assert (replica.task().status, replica.task().reason) == (TaskStatus.SUCCEEDED, "")
    assert replica.latest().status is AttemptStatus.SUCCEEDED
    assert replica.events == [Event("task_finished", "t1", "n1", "succeeded")]


def test_a_cancelling_task_is_not_retried() -> None:
    replica = with_node()
    replica.submit("t1", attempts_max=5)
    token = replica.run("t1")
    replica.accepted(CancelTask("t1"))
    replica.accepted(finished("t1", token, "failed"))
    assert replica.task().status is TaskStatus.CANCELLED
    assert list(replica.state.ready) == []


@pytest.mark.parametrize("reported", [False, True])
def test_a_cancelling_task_is_cancelled_when_its_lease_ran_out(reported: bool) -> None:
    replica = with_node()
    token = replica.bring("t1", TaskStatus.CANCELLING)
    lost = finished("t1", token, "lost") if reported else NodeLost("n1", "a")
    replica.accepted(lost)
    assert (replica.task().status, replica.task().reason) == (TaskStatus.CANCELLED, "cancelled")
    assert replica.latest().status is AttemptStatus.LOST
    assert list(replica.state.ready) == []


def test_a_cancelling_task_lost_too_often_is_cancelled_all_the_same() -> None:
    replica = with_node(losses_max=1)
    replica.bring("t1", TaskStatus.CANCELLING)
    replica.accepted(NodeLost("n1", "a"))
    assert (replica.task().status, replica.task().reason) == (TaskStatus.CANCELLED, "cancelled")


def test_a_start_reported_while_cancelling_is_noted_and_the_task_stays_cancelling() -> None:
    replica = with_node()
    token = replica.bring("t1", TaskStatus.ASSIGNED)
    replica.accepted(CancelTask("t1"))
    assert replica.do(started("t1", token)) == Accepted(())
    assert replica.task().status is TaskStatus.CANCELLING
    assert (replica.latest().status, replica.latest().started_at) == (
        AttemptStatus.RUNNING,
        replica.now,
    )


# Afterwards ------------------------------------------------------------------------------------


@pytest.mark.parametrize("end", ["succeeded", "failed", "cancelled", "lost"])
def test_a_report_after_the_cancel_was_confirmed_is_refused(end: str) -> None:
    replica = with_node()
    token = replica.bring("t1", TaskStatus.CANCELLED)
    before = replica.task()
    assert replica.do(finished("t1", token, end)) == Accepted((("t1", token),))
    assert replica.task() == before


def test_a_report_of_a_task_cancelled_between_two_attempts_is_refused() -> None:
    replica = with_node()
    replica.submit("t1", attempts_max=2)
    token = replica.run("t1")
    replica.accepted(finished("t1", token, "failed"))
    replica.accepted(CancelTask("t1"))
    assert replica.do(finished("t1", token)) == Accepted((("t1", token),))
    assert replica.task().status is TaskStatus.CANCELLED


@pytest.mark.parametrize(
    "status", [TaskStatus.QUEUED, TaskStatus.ASSIGNED, TaskStatus.RUNNING, TaskStatus.CANCELLING]
)
def test_no_attempt_is_assigned_after_a_cancel(status: TaskStatus) -> None:
    replica = with_node()
    replica.bring("t1", status)
    replica.accepted(CancelTask("t1"))
    shown = str(replica.task().status)
    outcome = replica.do(AssignTasks((Assignment("t1", "n1", "a"),)))
    assert outcome == Accepted([Rejected(Reason.TASK_NOT_QUEUED, shown)])


def test_a_cancelled_task_submitted_again_stays_cancelled() -> None:
    replica = with_node()
    replica.submit("t1")
    replica.accepted(CancelTask("t1"))
    replica.accepted(SubmitTasks((new_task("t1"),)))
    assert replica.task().status in TERMINAL
