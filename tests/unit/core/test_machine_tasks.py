"""Pausing, resuming and deleting tasks."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from raftsched.core.commands import CancelTask, DeleteTask, PauseTask, ResumeTask
from raftsched.core.model import TaskStatus
from raftsched.core.outcomes import Accepted, Event, Reason, Rejected
from tests.unit.core.builders import Replica, finished, register, started

OPEN = [TaskStatus.QUEUED, TaskStatus.ASSIGNED, TaskStatus.RUNNING, TaskStatus.CANCELLING]
ENDED = [TaskStatus.SUCCEEDED, TaskStatus.FAILED, TaskStatus.CANCELLED]


def with_task(status: TaskStatus) -> tuple[Replica, int]:
    """A replica with one node and one task, and the task's token."""
    replica = Replica()
    replica.accepted(register())
    return replica, replica.bring("t1", status)


@pytest.mark.parametrize("kind", [CancelTask, PauseTask, ResumeTask, DeleteTask])
def test_a_task_nobody_knows_is_refused(kind: Any) -> None:
    assert Replica().refused(kind("t1")) == Rejected(Reason.UNKNOWN_TASK, "t1")


# Pause and resume ------------------------------------------------------------------------------


@pytest.mark.parametrize("status", OPEN)
def test_a_pause_leaves_the_status_untouched(status: TaskStatus) -> None:
    replica, _ = with_task(status)
    before = replica.task()
    assert replica.do(PauseTask("t1")) == Accepted()
    assert replica.task() == msgspec.structs.replace(
        before, paused=True, modify_index=replica.index
    )
    assert replica.events == [Event("task_changed", "t1", detail="paused")]
    assert list(replica.state.ready) == []


@pytest.mark.parametrize("status", OPEN)
def test_a_resume_undoes_a_pause(status: TaskStatus) -> None:
    replica, _ = with_task(status)
    before = replica.task()
    replica.accepted(PauseTask("t1"))
    assert replica.do(ResumeTask("t1")) == Accepted()
    assert replica.task() == msgspec.structs.replace(before, modify_index=replica.index)
    assert replica.events == [Event("task_changed", "t1", detail="resumed")]
    assert list(replica.state.ready) == (["t1"] if status is TaskStatus.QUEUED else [])


@pytest.mark.parametrize("kinds", [(PauseTask, PauseTask), (ResumeTask,)])
def test_a_pause_or_resume_that_changes_nothing_is_accepted_and_silent(kinds: Any) -> None:
    replica, _ = with_task(TaskStatus.QUEUED)
    for kind in kinds[:-1]:
        replica.accepted(kind("t1"))
    before = replica.task()
    assert replica.do(kinds[-1]("t1")) == Accepted()
    assert replica.task() == before
    assert replica.events == []


@pytest.mark.parametrize("kind", [PauseTask, ResumeTask])
@pytest.mark.parametrize("status", ENDED)
def test_a_task_that_ended_is_neither_paused_nor_resumed(kind: Any, status: TaskStatus) -> None:
    replica, _ = with_task(status)
    assert replica.refused(kind("t1")) == Rejected(Reason.TASK_TERMINAL, str(status))


def test_a_paused_task_that_runs_goes_on_to_its_end() -> None:
    replica, token = with_task(TaskStatus.ASSIGNED)
    replica.accepted(PauseTask("t1"))
    assert replica.accepted(started("t1", token)) == ()
    assert replica.accepted(finished("t1", token)) == ()
    assert replica.task().status is TaskStatus.SUCCEEDED


# Delete ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", ENDED)
def test_a_deleted_task_is_gone_with_its_attempts(status: TaskStatus) -> None:
    replica, _ = with_task(status)
    replica.submit("t2")
    assert replica.do(DeleteTask("t1")) == Accepted()
    assert [found.id for found in replica.state.list_tasks()] == ["t2"]
    assert replica.attempts("t1") == ()
    assert replica.state.counts[status] == 0
    assert replica.state.finished_count == 0
    assert replica.events == [Event("task_deleted", "t1")]


@pytest.mark.parametrize("status", OPEN)
def test_a_task_that_has_not_ended_is_not_deleted(status: TaskStatus) -> None:
    replica, _ = with_task(status)
    assert replica.refused(DeleteTask("t1")) == Rejected(Reason.TASK_NOT_TERMINAL, str(status))


def test_a_task_is_deleted_once() -> None:
    replica, _ = with_task(TaskStatus.FAILED)
    replica.accepted(DeleteTask("t1"))
    assert replica.refused(DeleteTask("t1")) == Rejected(Reason.UNKNOWN_TASK, "t1")


def test_a_report_of_a_deleted_task_is_refused() -> None:
    replica, token = with_task(TaskStatus.SUCCEEDED)
    replica.accepted(DeleteTask("t1"))
    assert replica.accepted(finished("t1", token)) == (("t1", token),)
    assert len(replica.state.tasks) == 0


def test_a_report_for_an_earlier_life_of_a_reused_id_is_refused() -> None:
    replica, token = with_task(TaskStatus.FAILED)
    replica.accepted(DeleteTask("t1"))
    replica.submit("t1")
    replica.run("t1")
    assert replica.accepted(finished("t1", token)) == (("t1", token),)
    assert replica.task().status is TaskStatus.RUNNING
