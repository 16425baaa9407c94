"""Placing attempts on nodes, and what becomes of them there.

The fencing token is compared before anything else about an attempt.
"""

from __future__ import annotations

import msgspec

from raftsched.core.changes import Changes, with_latest
from raftsched.core.commands import (
    Accepted,
    AssignTasks,
    AttemptFinished,
    Event,
    Outcome,
    Reason,
    Rejected,
    ReportAttempts,
)
from raftsched.core.lifecycle import HOLDING, end_attempt, move, move_attempt
from raftsched.core.model import (
    ATTEMPT_TERMINAL,
    Attempt,
    AttemptStatus,
    Node,
    Task,
    TaskStatus,
)
from raftsched.core.planner import Room

#: What a node may report as an attempt's end.
_ENDS = {status.value: status for status in sorted(ATTEMPT_TERMINAL)}


def assign(changes: Changes, command: AssignTasks) -> Outcome:
    """Value: per assignment the new `Attempt`, or the `Rejected`."""
    tasks, tasks_before = changes.tasks, changes.state.tasks.get
    rooms: dict[str, Room | None] = {}
    results: list[Attempt | Rejected] = []
    for wanted in command.assignments:
        task_id, node_id = wanted.task_id, wanted.node_id
        task = tasks.get(task_id) or tasks_before(task_id)
        if node_id not in rooms:
            node = changes.state.nodes.get(node_id)
            usage = changes.state.usage[node_id].copy() if node is not None else None
            rooms[node_id] = Room(node, usage) if node is not None and usage is not None else None
        room = rooms[node_id]
        if task is None:
            results.append(Rejected(Reason.UNKNOWN_TASK, task_id))
        elif task.status is not TaskStatus.QUEUED:
            results.append(Rejected(Reason.TASK_NOT_QUEUED, task.status.value))
        elif task.paused:
            results.append(Rejected(Reason.TASK_PAUSED, task_id))
        elif room is None:
            results.append(Rejected(Reason.UNKNOWN_NODE, node_id))
        elif room.node.incarnation != wanted.incarnation:
            results.append(Rejected(Reason.STALE_INCARNATION, node_id))
        elif (reason := room.refusal(task)) is not None:
            results.append(Rejected(reason, node_id))
        else:
            room.take(task)
            results.append(_place(changes, task, room.node))
    return Accepted(results)


def _place(changes: Changes, task: Task, node: Node) -> Attempt:
    token = changes.next_token
    changes.next_token = token + 1
    earlier = task.attempts
    number = earlier[-1].number + 1 if earlier else 1
    attempt = Attempt(
        number, token, node.id, node.incarnation, AttemptStatus.ASSIGNED, changes.state.now
    )
    changes.tasks[task.id] = move(
        task, TaskStatus.ASSIGNED, changes.index, "", attempts=(*earlier, attempt)
    )
    changes.events.append(Event("task_assigned", task.id, node.id))
    return attempt


def report(changes: Changes, command: ReportAttempts) -> Outcome:
    """Value: the refused items as (task id, token), started ones first."""
    refused: list[tuple[str, int]] = []
    node_id = command.node_id
    for begun in command.started:
        task = _live(changes, node_id, begun.task_id, begun.token)
        if task is None:
            refused.append((begun.task_id, begun.token))
        else:
            _started(changes, task)
    for ended in command.finished:
        task = _live(changes, node_id, ended.task_id, ended.token)
        if task is None:
            refused.append((ended.task_id, ended.token))
        else:
            _finished(changes, task, ended)
    for task_id, token in refused:
        changes.event("report_refused", task_id, node_id, str(token))
    return Accepted(tuple(refused))


def _live(changes: Changes, node_id: str, task_id: str, token: int) -> Task | None:
    """The task if the token is its latest attempt's, given to this node, and that has not ended."""
    task = changes.task(task_id)
    if task is None or not task.attempts:
        return None
    attempt = task.attempts[-1]
    if attempt.token != token or attempt.node != node_id or attempt.status in ATTEMPT_TERMINAL:
        return None
    assert task.status in HOLDING
    return task


def _started(changes: Changes, task: Task) -> None:
    attempt = task.attempts[-1]
    if attempt.status is AttemptStatus.RUNNING:
        return
    running = move_attempt(attempt, AttemptStatus.RUNNING, started_at=changes.state.now)
    attempts = with_latest(task, running)
    if task.status is TaskStatus.CANCELLING:
        changes.put(msgspec.structs.replace(task, modify_index=changes.index, attempts=attempts))
        changes.event("task_changed", task.id, attempt.node, "started")
    else:
        changes.put(move(task, TaskStatus.RUNNING, changes.index, task.reason, attempts=attempts))
        changes.event("task_started", task.id, attempt.node)


def _finished(changes: Changes, task: Task, ended: AttemptFinished) -> None:
    status = _ENDS[ended.status]
    if status is AttemptStatus.LOST:
        lose(changes, task, ended.reason or "lost")
        return
    now = changes.state.now
    attempt = task.attempts[-1]
    started_at = attempt.started_at or max(attempt.assigned_at, now - max(0, ended.run_ms))
    over = end_attempt(attempt, status, started_at, now, ended)
    reason = task.reason
    if status is AttemptStatus.SUCCEEDED:
        to, reason = TaskStatus.SUCCEEDED, ""
    elif task.status is TaskStatus.CANCELLING:
        to = TaskStatus.CANCELLED
    elif attempt.number - task.losses < task.attempts_max:
        to = TaskStatus.QUEUED
    else:
        to, reason = TaskStatus.FAILED, ended.reason or str(status)
    queued = to is TaskStatus.QUEUED
    changes.tasks[task.id] = move(
        task,
        to,
        changes.index,
        reason,
        attempts=with_latest(task, over),
        finished_at=0 if queued else now,
    )
    if queued:
        changes.event("task_queued", task.id, attempt.node, ended.reason)
    else:
        changes.events.append(Event("task_finished", task.id, attempt.node, to.value))


def lose(changes: Changes, task: Task, reason: str) -> None:
    """The node took the latest attempt with it: the task waits again, unless too often."""
    now = changes.state.now
    attempt = task.attempts[-1]
    losses = task.losses + 1
    if task.status is TaskStatus.CANCELLING:
        to, why = TaskStatus.CANCELLED, task.reason
    elif losses >= changes.state.settings.losses_max:
        to, why = TaskStatus.FAILED, "lost_too_often"
    else:
        to, why = TaskStatus.QUEUED, reason
    over = move_attempt(attempt, AttemptStatus.LOST, finished_at=now, reason=reason)
    queued = to is TaskStatus.QUEUED
    changes.put(
        move(
            task,
            to,
            changes.index,
            why,
            attempts=with_latest(task, over),
            finished_at=0 if queued else now,
            losses=losses,
        )
    )
    if queued:
        changes.event("task_queued", task.id, attempt.node, reason)
    else:
        changes.event("task_finished", task.id, attempt.node, to.value)
