"""The end of a task that does not run, and what the end of any task sets free."""

from __future__ import annotations

from raftsched.core.changes import Changes
from raftsched.core.lifecycle import HOLDING, move
from raftsched.core.model import Task, TaskStatus
from raftsched.core.timers import starts_at

#: Why a task of that end is ``expired`` and not ``cancelled``.
DEADLINE = "deadline"
QUEUE_TIMEOUT = "queue-timeout"


def end(changes: Changes, task: Task, to: TaskStatus, reason: str) -> None:
    """End a task that no node holds."""
    assert task.status not in HOLDING
    changes.put(move(task, to, changes.index, reason, finished_at=changes.state.now, ready_at=0))
    changes.event("task_finished", task.id, detail=to.value)
    set_free(changes, task.id)


def stop(changes: Changes, task: Task, to: TaskStatus, reason: str) -> None:
    """End a task that does not run; of one that a node holds, ask the node to end it.

    ``to`` is what it becomes now; the node's answer makes it ``stopped_as(reason)``.
    """
    if task.status in HOLDING:
        if task.status is not TaskStatus.CANCELLING:
            changes.put(move(task, TaskStatus.CANCELLING, changes.index, reason))
            changes.event("task_cancelling", task.id, task.node)
    else:
        end(changes, task, to, reason)


def stopped_as(task: Task) -> TaskStatus:
    """What a ``cancelling`` task becomes when nothing of it runs any more."""
    return TaskStatus.EXPIRED if task.reason == DEADLINE else TaskStatus.CANCELLED


def set_free(changes: Changes, task_id: str) -> None:
    """A task ended: those that wait for it go on."""
    for waiting_id in changes.state.waiters.get(task_id, ()):
        waiting = changes.task(waiting_id)
        if waiting is not None and waiting.status is TaskStatus.WAITING and not waiting.ready_at:
            wake(changes, waiting)


def wake(changes: Changes, task: Task) -> None:
    """A waiting task is ready, or waits for its time from now on."""
    now, index = changes.state.now, changes.index
    at = starts_at(task.extra, task.created_at) if task.extra is not None else 0
    if at > now:
        changes.put(_waiting_until(task, at, index))
    else:
        changes.put(move(task, TaskStatus.QUEUED, index, "", ready_at=now))
        changes.event("task_queued", task.id)


def _waiting_until(task: Task, at: int, index: int) -> Task:
    return Task(
        task.id, task.spec, task.terms, task.created_at, task.create_index, task.order,
        task.status, index, "not-before", task.losses, task.paused, 0, task.attempts, at,
        task.extra,
    )  # fmt: skip
