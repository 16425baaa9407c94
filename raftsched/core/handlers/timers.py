"""What is due by the cluster's time: delays that end, retries, waits too long, drains."""

from __future__ import annotations

from raftsched.core.changes import Changes
from raftsched.core.commands import FireTimers
from raftsched.core.handlers.ends import (
    DEADLINE,
    QUEUE_TIMEOUT,
    fail_split,
    go_on_stopping,
    stop,
    wake,
)
from raftsched.core.handlers.nodes import evict
from raftsched.core.leases import draining
from raftsched.core.lifecycle import move
from raftsched.core.model import Task, TaskStatus
from raftsched.core.outcomes import Accepted, Outcome
from raftsched.core.timers import deadline_at, due_at, queue_timeout_at
from raftsched.core.trees import is_split

#: Reason of a task whose subtasks were to come, and did not.
ITEMS_MISSING = "items-missing"


def fire(changes: Changes, command: FireTimers) -> Outcome:
    """Value: how many timers fired; with ``limit`` of them there may be more."""
    now = changes.state.now
    due = changes.state.timers.due(now, max(0, command.limit))
    for task_id in due:
        task = changes.task(task_id)
        assert task is not None
        if 0 < due_at(task) <= now:  # What was due before may have ended it.
            _fire(changes, task, now)
    for node in draining(changes.state, now):
        evict(changes, node.id, only_assigned=False)
    return Accepted(len(due))


def _fire(changes: Changes, task: Task, now: int) -> None:
    if task.extra is not None and task.extra.stopping:
        go_on_stopping(changes, task)
    elif 0 < deadline_at(task) <= now:
        stop(changes, task, TaskStatus.EXPIRED, DEADLINE)
    elif is_split(task) and not task.ready_at:
        fail_split(changes, task, ITEMS_MISSING)
    elif task.status is TaskStatus.WAITING:
        wake(changes, task)
    elif task.status is TaskStatus.RETRYING:
        changes.put(move(task, TaskStatus.QUEUED, changes.index, task.reason))
        changes.event("task_queued", task.id, detail=task.reason)
    elif 0 < queue_timeout_at(task) <= now:
        stop(changes, task, TaskStatus.EXPIRED, QUEUE_TIMEOUT)
