"""Editing a task that does not run."""

from __future__ import annotations

import pytest

from raftsched.core.commands import EditTask, FireTimers, PutQueue, SubmitTasks
from raftsched.core.model import Queue, TaskStatus
from raftsched.core.outcomes import Reason
from raftsched.core.policy import Extra, Policy
from tests.unit.core.builders import Replica, finished, new_task, register


def with_node() -> Replica:
    replica = Replica()
    replica.accepted(register())
    return replica


def test_an_edited_task_is_another_one_in_the_same_place() -> None:
    replica = with_node()
    replica.submit("t1", "t2")
    before = replica.task()
    replica.accepted(EditTask(new_task("t1", spec=b"other!", queue="q", cpu_milli=500)))
    after = replica.task()
    assert (after.spec, after.queue, after.cpu_milli) == (b"other!", "q", 500)
    assert (after.order, after.created_at, after.status) == (
        before.order, before.created_at, before.status,
    )  # fmt: skip
    assert list(replica.state.ready) == ["t1", "t2"]
    assert (replica.state.queue_use["q"].open, replica.state.queue_use["default"].open) == (1, 1)


def test_a_delay_that_is_given_later_counts_from_the_creation_and_can_be_taken_back() -> None:
    replica = with_node()
    replica.submit("t1")
    created = replica.task().created_at
    replica.accepted(EditTask(new_task("t1", extra=Extra(delay_ms=1_000))))
    assert (replica.task().status, replica.task().ready_at) == (
        TaskStatus.WAITING, created + 1_000,
    )  # fmt: skip
    replica.accepted(EditTask(new_task("t1")))
    assert (replica.task().status, replica.task().extra) == (TaskStatus.QUEUED, None)
    assert len(replica.state.timers) == 0


def test_a_task_between_two_attempts_keeps_its_wait() -> None:
    replica = with_node()
    replica.submit("t1", attempts_max=2, policy=Policy())
    replica.fail("t1")
    ready_at = replica.task().ready_at
    replica.accepted(EditTask(new_task("t1", attempts_max=5, policy=Policy())))
    assert (replica.task().status, replica.task().ready_at) == (TaskStatus.RETRYING, ready_at)
    replica.do(FireTimers(), now=ready_at)
    assert replica.task().status is TaskStatus.QUEUED


def test_a_unique_key_stays() -> None:
    replica = with_node()
    replica.submit("t1", extra=Extra(unique_key="u"))
    replica.accepted(EditTask(new_task("t1", extra=Extra(unique_key="v", deadline=10**13))))
    assert replica.task().extra == Extra(unique_key="u", deadline=10**13)
    again = SubmitTasks((new_task("t2", extra=Extra(unique_key="u")),))
    assert replica.refused(again).reason is Reason.UNIQUE_CONFLICT


@pytest.mark.parametrize("status", [TaskStatus.ASSIGNED, TaskStatus.RUNNING, TaskStatus.CANCELLING])
def test_what_a_node_has_is_not_edited(status: TaskStatus) -> None:
    replica = with_node()
    replica.bring("t1", status)
    assert replica.refused(EditTask(new_task("t1"))).reason is Reason.TASK_RUNNING


def test_what_has_ended_or_is_unknown_or_has_changed_is_not_edited() -> None:
    replica = with_node()
    assert replica.refused(EditTask(new_task("t9"))).reason is Reason.UNKNOWN_TASK
    replica.submit("t1")
    seen = replica.task().modify_index
    assert replica.refused(EditTask(new_task("t1"), seen + 1)).reason is Reason.MODIFIED
    replica.accepted(EditTask(new_task("t1", priority=1), seen))
    assert replica.refused(EditTask(new_task("t1", priority=101))).reason is Reason.INVALID
    replica.accepted(finished("t1", replica.run("t1")))
    assert replica.refused(EditTask(new_task("t1"))).reason is Reason.TASK_TERMINAL


def test_a_full_queue_takes_no_more_and_says_so() -> None:
    replica = with_node()
    replica.accepted(PutQueue(Queue("q", depth_max=2)))
    tasks = tuple(new_task(f"t{n}", queue="q") for n in range(3))
    outcome = replica.accepted(SubmitTasks(tasks))
    assert [(at, why.reason) for at, why in outcome.refused] == [(2, Reason.QUEUE_FULL)]
    more = SubmitTasks((new_task("t4", queue="q"),))
    assert replica.refused(more).reason is Reason.QUEUE_FULL
    replica.accepted(finished("t0", replica.run("t0")))
    replica.accepted(more)


def test_no_task_is_moved_into_a_full_queue() -> None:
    replica = with_node()
    replica.accepted(PutQueue(Queue("q", depth_max=1)))
    replica.submit("t1", queue="q")
    replica.submit("t2")
    assert replica.refused(EditTask(new_task("t2", queue="q"))).reason is Reason.QUEUE_FULL
    replica.accepted(EditTask(new_task("t1", queue="q", priority=60)))
