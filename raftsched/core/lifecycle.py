"""Which status may follow which.  Every change goes through `move` or `move_attempt`."""

from __future__ import annotations

from typing import Any

import msgspec

from raftsched.core.commands import AttemptFinished
from raftsched.core.model import (
    OUTPUT_TAIL_BYTES_MAX,
    REASON_MAX,
    Attempt,
    AttemptStatus,
    Task,
    TaskStatus,
)

_S = TaskStatus
_A = AttemptStatus

#: From -> to.  A status that is not a key is terminal and absorbs.
TASK_MOVES: dict[TaskStatus, frozenset[TaskStatus]] = {
    _S.WAITING: frozenset({_S.QUEUED, _S.CANCELLED, _S.EXPIRED, _S.FAILED, _S.SUCCEEDED}),
    # It succeeds, as from RETRYING, when its twin does.
    _S.QUEUED: frozenset({_S.ASSIGNED, _S.CANCELLED, _S.EXPIRED, _S.WAITING, _S.SUCCEEDED}),
    _S.ASSIGNED: frozenset(
        {_S.RUNNING, _S.QUEUED, _S.RETRYING, _S.CANCELLING, _S.CANCELLED}
        | {_S.SUCCEEDED, _S.FAILED, _S.EXPIRED, _S.LOST}
    ),
    _S.RUNNING: frozenset(
        {_S.QUEUED, _S.RETRYING, _S.CANCELLING, _S.CANCELLED}
        | {_S.SUCCEEDED, _S.FAILED, _S.EXPIRED, _S.LOST}
    ),
    # Or fails, when it has no attempt left and its twin does not succeed.
    _S.RETRYING: frozenset({_S.QUEUED, _S.CANCELLED, _S.EXPIRED, _S.SUCCEEDED, _S.FAILED}),
    _S.CANCELLING: frozenset({_S.CANCELLED, _S.SUCCEEDED, _S.EXPIRED}),
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


def move(
    task: Task,
    to: TaskStatus,
    index: int,
    reason: str,
    attempts: tuple[Attempt, ...] | None = None,
    finished_at: int = 0,
    losses: int | None = None,
    ready_at: int | None = None,
) -> Task:
    """The task in another status as of entry ``index``.

    Raises IllegalMove for what the table does not list.
    """
    if to not in TASK_MOVES.get(task.status, ()):
        raise IllegalMove(f"task {task.id}: {task.status} -> {to}")
    # By position: a replacement by field names takes twice as long, and this is the hottest line.
    return Task(
        task.id,
        task.spec,
        task.terms,
        task.created_at,
        task.create_index,
        task.order,
        to,
        index,
        reason,
        task.losses if losses is None else losses,
        task.paused,
        finished_at,
        task.attempts if attempts is None else attempts,
        task.ready_at if ready_at is None else ready_at,
        task.extra,
    )


def move_attempt(attempt: Attempt, to: AttemptStatus, **changes: Any) -> Attempt:
    """The attempt in another status.  Raises IllegalMove for what the table does not list."""
    _check(attempt, to)
    return msgspec.structs.replace(attempt, status=to, **changes)


def end_attempt(
    attempt: Attempt, to: AttemptStatus, started_at: int, finished_at: int, ended: AttemptFinished
) -> Attempt:
    """The attempt as its node reported its end.  Raises IllegalMove."""
    _check(attempt, to)
    tail = ended.output_tail
    return Attempt(
        attempt.number,
        attempt.token,
        attempt.node,
        attempt.incarnation,
        to,
        attempt.assigned_at,
        started_at,
        finished_at,
        ended.exit_code,
        ended.signal,
        ended.reason[:REASON_MAX],
        tail[-OUTPUT_TAIL_BYTES_MAX:] if tail else b"",
        ended.output_bytes,
        ended.result,
        attempt.progress,
        attempt.progress_text,
        attempt.is_evicted,
        ended.result_bytes,
    )


def _check(attempt: Attempt, to: AttemptStatus) -> None:
    if to not in ATTEMPT_MOVES.get(attempt.status, ()):
        raise IllegalMove(f"attempt {attempt.number}: {attempt.status} -> {to}")
