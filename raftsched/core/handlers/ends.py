"""The end of a task that does not run, and what the end of any task sets free."""

from __future__ import annotations

import msgspec

from raftsched.core.changes import Changes
from raftsched.core.handlers import slots
from raftsched.core.handlers.broadcast import split
from raftsched.core.lifecycle import HOLDING, move
from raftsched.core.model import TERMINAL, Task, TaskStatus
from raftsched.core.timers import starts_at
from raftsched.core.trees import is_split

#: Why a task of that end is ``expired`` and not ``cancelled``.
DEADLINE = "deadline"
QUEUE_TIMEOUT = "queue-timeout"


def end(changes: Changes, task: Task, to: TaskStatus, reason: str) -> None:
    """End a task that no node holds."""
    assert task.status not in HOLDING
    changes.put(move(task, to, changes.index, reason, finished_at=changes.state.now, ready_at=0))
    changes.event("task_finished", task.id, detail=to.value)
    set_free(changes, task, to)


def stop(changes: Changes, task: Task, to: TaskStatus, reason: str) -> None:
    """End a task that does not run; of one that a node holds, ask the node to end it.

    ``to`` is what it becomes now; the node's answer makes it ``stopped_as(reason)``.  One that was
    split ends with the last of its subtasks.
    """
    if task.status in HOLDING:
        if task.status is not TaskStatus.CANCELLING:
            changes.put(move(task, TaskStatus.CANCELLING, changes.index, reason))
            changes.event("task_cancelling", task.id, task.node)
    elif is_split(task):
        _stop_subtasks(changes, task, to, reason)
    else:
        end(changes, task, to, reason)


def _stop_subtasks(changes: Changes, task: Task, to: TaskStatus, reason: str) -> None:
    assert task.extra is not None
    if task.extra.stopping:
        return
    extra = msgspec.structs.replace(task.extra, stopping=reason)
    changes.put(
        msgspec.structs.replace(task, extra=extra, reason=reason, modify_index=changes.index)
    )
    changes.event("task_changed", task.id, detail="stopping")
    for subtask in changes.subtasks(task.id):
        if subtask.status not in TERMINAL:
            stop(changes, subtask, to, reason)


def stopped_as(task: Task) -> TaskStatus:
    """What a ``cancelling`` task becomes when nothing of it runs any more."""
    return stopped_for(task.reason)


def stopped_for(reason: str) -> TaskStatus:
    """What a task becomes that was told to end."""
    return TaskStatus.EXPIRED if reason == DEADLINE else TaskStatus.CANCELLED


def set_free(changes: Changes, task: Task, to: TaskStatus) -> None:
    """A task ended: those that wait for it go on, and with the last part the whole ends."""
    if task.extra is not None and task.extra.parent:
        _subtask_ended(changes, task.extra.parent, to)
    if task.extra is not None and task.extra.schedule:
        slots.ended(changes, task, to)
    for waiting_id in changes.state.waiters.get(task.id, ()):
        waiting = changes.task(waiting_id)
        if waiting is not None and waiting.status is TaskStatus.WAITING and not waiting.ready_at:
            wake(changes, waiting)


def _subtask_ended(changes: Changes, parent_id: str, to: TaskStatus) -> None:
    """Count it; the last one ends its parent."""
    ended, succeeded = changes.subtasks_ended.get(parent_id, (0, 0))
    ended, succeeded = ended + 1, succeeded + (to is TaskStatus.SUCCEEDED)
    changes.subtasks_ended[parent_id] = ended, succeeded
    parent, before = changes.task(parent_id), changes.state.trees.of(parent_id)
    assert parent is not None and parent.extra is not None
    count = parent.extra.subtasks
    if before is not None:  # It was split by a command before this one.
        ended, succeeded = ended + before.ended, succeeded + before.succeeded
    if ended < count:
        return
    bad, stopping = count - succeeded, parent.extra.stopping
    if not bad:
        end(changes, parent, TaskStatus.SUCCEEDED, "")
    elif stopping:
        end(changes, parent, stopped_for(stopping), stopping)
    else:
        end(changes, parent, TaskStatus.FAILED, f"{bad} of {count} subtasks did not succeed")


def wake(changes: Changes, task: Task) -> None:
    """A waiting task is ready, or waits for its time from now on."""
    now, index = changes.state.now, changes.index
    at = starts_at(task.extra, task.created_at) if task.extra is not None else 0
    if at > now:
        changes.put(_waiting_until(task, at, index))
    else:
        make_ready(changes, task, "")


def make_ready(changes: Changes, task: Task, reason: str) -> None:
    """A task that waits or is to be tried again may run now."""
    if task.extra is not None and task.extra.broadcast:
        why_not = split(changes, task)
        if why_not:
            end(changes, task, TaskStatus.FAILED, why_not)
    else:
        ready = move(task, TaskStatus.QUEUED, changes.index, reason, ready_at=changes.state.now)
        changes.put(ready)
        changes.event("task_queued", task.id, detail=reason)


def _waiting_until(task: Task, at: int, index: int) -> Task:
    return Task(
        task.id, task.spec, task.terms, task.created_at, task.create_index, task.order,
        task.status, index, "not-before", task.losses, task.paused, 0, task.attempts, at,
        task.extra,
    )  # fmt: skip
