"""Losses: a node took an attempt with it, which is not the task's fault until it is too often."""

from __future__ import annotations

import msgspec
import pytest

from raftsched.core.commands import CancelTask, NodeLost
from raftsched.core.model import AttemptStatus, NodeStatus, TaskStatus
from raftsched.core.outcomes import Accepted, Event
from tests.unit.core.builders import Replica, attempt, finished, register, started


def with_node(**settings: int) -> Replica:
    """A replica with one node."""
    replica = Replica(**settings)
    replica.accepted(register())
    return replica


def lose(replica: Replica, task_id: str = "t1") -> None:
    """One more attempt of a task is lost with its node, which comes back."""
    replica.run(task_id)
    replica.accepted(NodeLost("n1", "a"))
    replica.accepted(register())


@pytest.mark.parametrize("status", [TaskStatus.ASSIGNED, TaskStatus.RUNNING])
def test_a_lost_task_waits_again_and_keeps_its_attempt_on_record(status: TaskStatus) -> None:
    replica = with_node()
    replica.bring("t1", status)
    task, before = replica.task(), replica.latest()
    assert replica.do(NodeLost("n1", "a", "no word")) == Accepted()
    lost = msgspec.structs.replace(
        before, status=AttemptStatus.LOST, finished_at=replica.now, reason="no word"
    )
    assert replica.task() == msgspec.structs.replace(
        task,
        status=TaskStatus.QUEUED,
        reason="no word",
        losses=1,
        modify_index=replica.index,
        attempts=(lost,),
    )
    assert replica.state.nodes["n1"].status is NodeStatus.LOST
    assert replica.usage() == (0, 0, 0)
    assert list(replica.state.ready) == ["t1"]
    assert replica.events == [
        Event("task_queued", "t1", "n1", "no word"),
        Event("node_changed", node_id="n1", detail="lost"),
    ]


def test_a_lost_attempt_a_node_reports_itself_is_a_loss() -> None:
    replica = with_node()
    token = replica.bring("t1", TaskStatus.RUNNING)
    assert replica.do(finished("t1", token, "lost", reason="lease-ended")) == Accepted(())
    task = replica.task()
    assert (task.status, task.losses, task.reason) == (TaskStatus.QUEUED, 1, "lease-ended")
    assert replica.latest().status is AttemptStatus.LOST
    assert replica.state.nodes["n1"].status is NodeStatus.UP


def test_losses_do_not_count_as_attempts() -> None:
    replica = with_node(losses_max=10)
    replica.submit("t1", attempts_max=2)
    lose(replica)
    replica.fail("t1")
    lose(replica)
    assert replica.task().status is TaskStatus.QUEUED
    replica.fail("t1")
    task = replica.task()
    assert (task.status, task.attempt, task.losses) == (TaskStatus.FAILED, 4, 2)
    assert [attempt.status.value for attempt in replica.attempts()] == [
        "lost",
        "failed",
        "lost",
        "failed",
    ]


@pytest.mark.parametrize("losses_max", [1, 3])
def test_a_task_lost_too_often_fails(losses_max: int) -> None:
    replica = with_node(losses_max=losses_max)
    replica.submit("t1", attempts_max=100)
    for _ in range(losses_max):
        assert replica.task().status is TaskStatus.QUEUED
        lose(replica)
    task = replica.task()
    assert (task.status, task.reason) == (TaskStatus.FAILED, "lost_too_often")
    assert task.losses == losses_max
    assert task.finished_at > 0
    assert list(replica.state.ready) == []


def test_a_loss_a_node_reports_itself_counts_towards_too_often() -> None:
    replica = with_node(losses_max=2)
    replica.submit("t1")
    lose(replica)
    replica.accepted(finished("t1", replica.run("t1"), "lost"))
    assert (replica.task().status, replica.task().reason) == (TaskStatus.FAILED, "lost_too_often")


@pytest.mark.parametrize("end", ["succeeded", "failed", "cancelled", "lost"])
@pytest.mark.parametrize("placed_again", [False, True])
def test_a_late_report_after_a_loss_is_refused(placed_again: bool, end: str) -> None:
    replica = with_node()
    old = replica.bring("t1", TaskStatus.RUNNING)
    replica.accepted(NodeLost("n1", "a"))
    replica.accepted(register())
    if placed_again:
        replica.run("t1")
    before = replica.task()
    assert replica.do(finished("t1", old, end)) == Accepted((("t1", old),))
    assert replica.do(started("t1", old)) == Accepted((("t1", old),))
    assert replica.task() == before
    assert replica.events == [Event("report_refused", "t1", "n1", str(old))]


def test_a_lost_task_is_placed_again_under_a_higher_token() -> None:
    replica = with_node()
    replica.accepted(register("n2"))
    old = replica.bring("t1", TaskStatus.RUNNING)
    replica.accepted(NodeLost("n1", "a"))
    new = replica.assign("t1", "n2")
    assert new > old
    placed_at = replica.now
    assert replica.latest() == attempt(2, token=new, node="n2", assigned_at=placed_at)
    assert replica.accepted(finished("t1", new, node_id="n2")) == ()
    assert replica.task().status is TaskStatus.SUCCEEDED


def test_the_loss_of_a_node_ends_all_it_held_and_nothing_else() -> None:
    replica = with_node()
    replica.accepted(register("n2"))
    replica.submit("t1", "t2", "t3", "t4")
    replica.assign("t1")
    replica.run("t2")
    replica.run("t3", "n2")
    replica.accepted(CancelTask("t2"))
    replica.accepted(NodeLost("n1", "a"))
    statuses = {task.id: task.status.value for task in replica.state.tasks.values()}
    assert statuses == {"t1": "queued", "t2": "cancelled", "t3": "running", "t4": "queued"}
    assert replica.state.nodes["n2"].status is NodeStatus.UP
    assert (replica.usage("n1"), replica.usage("n2")) == ((0, 0, 0), (1, 0, 0))
