"""What happens to tasks by time alone: which instant, and what is due first.

Nothing here looks at a clock: `FireTimers` does what is due by ``state.now``, and the leader
proposes it when its own clock says that something is.
"""

from __future__ import annotations

from raftsched.core.instants import Instants
from raftsched.core.model import TERMINAL, Task, TaskStatus
from raftsched.core.policy import Extra

_WAITING = TaskStatus.WAITING
_QUEUED = TaskStatus.QUEUED
_RETRYING = TaskStatus.RETRYING
_CANCELLING = TaskStatus.CANCELLING


def due_at(task: Task) -> int:
    """The next instant at which time alone changes the task, in milliseconds; 0: there is none."""
    status = task.status
    if status in TERMINAL or status is _CANCELLING:
        return 0
    extra = task.extra
    if extra is not None and extra.stopping:
        return task.ready_at
    deadline = deadline_at(task)
    found = [deadline] if deadline else []
    if extra is not None and extra.fork is not None and extra.fork.open_until:
        found.append(extra.fork.open_until)
    if status in (_WAITING, _RETRYING):
        if task.ready_at:
            found.append(task.ready_at)
    elif status is _QUEUED:
        over = queue_timeout_at(task)
        if over:
            found.append(over)
    return min(found, default=0)


def starts_at(extra: Extra, created_at: int) -> int:
    """When a task may run at the earliest, in milliseconds; at most ``created_at``: at once."""
    return max(extra.not_before, created_at + extra.delay_ms)


def deadline_at(task: Task) -> int:
    """When the task is to be over, in milliseconds; 0: never."""
    extra = task.extra
    if extra is None:
        return 0
    if not extra.expires_ms:
        return extra.deadline
    expires_at = task.created_at + extra.expires_ms
    return min(extra.deadline, expires_at) if extra.deadline else expires_at


def queue_timeout_at(task: Task) -> int:
    """When the wait for the first attempt has been too long; 0: never."""
    policy = task.terms.policy
    if policy is None or not policy.queue_timeout_ms or task.attempts:
        return 0
    return (task.ready_at or task.created_at) + policy.queue_timeout_ms


class Timers(Instants):
    """Instants by task."""

    __slots__ = ()

    def put(self, task: Task) -> None:
        """The task as it is now: its timer, or none."""
        self.set(task.id, due_at(task), task.order)
