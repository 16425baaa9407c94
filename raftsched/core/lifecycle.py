"""Which status may follow which.  Every change goes through `move` or `move_attempt`."""

from __future__ import annotations

from typing import Any

import msgspec

from raftsched.core.model import Attempt, AttemptStatus, Task, TaskStatus

_S = TaskStatus
_A = AttemptStatus

#: From -> to.  A status that is not a key is terminal and absorbs.
TASK_MOVES: dict[TaskStatus, frozenset[TaskStatus]] = {
    _S.WAITING: frozenset({_S.QUEUED, _S.CANCELLED, _S.EXPIRED, _S.FAILED}),
    _S.QUEUED: frozenset({_S.ASSIGNED, _S.CANCELLED, _S.EXPIRED}),
    _S.ASSIGNED: frozenset(
        {_S.RUNNING, _S.QUEUED, _S.RETRYING, _S.CANCELLING, _S.CANCELLED}
        | {_S.SUCCEEDED, _S.FAILED, _S.EXPIRED, _S.LOST}
    ),
    _S.RUNNING: frozenset(
        {_S.QUEUED, _S.RETRYING, _S.CANCELLING, _S.CANCELLED}
        | {_S.SUCCEEDED, _S.FAILED, _S.EXPIRED, _S.LOST}
    ),
    _S.RETRYING: frozenset({_S.QUEUED, _S.CANCELLED, _S.EXPIRED}),
    _S.CANCELLING: frozenset({_S.CANCELLED, _S.SUCCEEDED}),
}

ATTEMPT_MOVES: dict[AttemptStatus, frozenset[AttemptStatus]] = {
    _A.ASSIGNED: frozenset(
        {_A.STARTING, _A.RUNNING, _A.SUCCEEDED, _A.FAILED, _A.TIMED_OUT, _A.CANCELLED, _A.LOST}
    ),
    _A.STARTING: frozenset(
        {_A.RUNNING, _A.SUCCEEDED, _A.FAILED, _A.TIMED_OUT, _A.CANCELLED, _A.LOST}
    ),
    _A.RUNNING: frozenset({_A.SUCCEEDED, _A.FAILED, _A.TIMED_OUT, _A.CANCELLED, _A.LOST}),
}

#: A task in one of these holds capacity of its node.
HOLDING = frozenset({_S.ASSIGNED, _S.RUNNING, _S.CANCELLING})


class IllegalMove(AssertionError):
    """A handler tried what the table forbids: a bug, which ends the command as INTERNAL."""


def move(task: Task, to: TaskStatus, **changes: Any) -> Task:
    """The task in another status.  Raises IllegalMove for what the table does not list."""
    if to not in TASK_MOVES.get(task.status, ()):
        raise IllegalMove(f"task {task.id}: {task.status} -> {to}")
    return msgspec.structs.replace(task, status=to, **changes)


def move_attempt(attempt: Attempt, to: AttemptStatus, **changes: Any) -> Attempt:
    """The attempt in another status.  Raises IllegalMove for what the table does not list."""
    if to not in ATTEMPT_MOVES.get(attempt.status, ()):
        raise IllegalMove(f"attempt {attempt.number}: {attempt.status} -> {to}")
    return msgspec.structs.replace(attempt, status=to, **changes)
