"""Placing attempts on nodes, and what becomes of them there.

The fencing token is compared before anything else about an attempt.
"""

from __future__ import annotations

import msgspec

from raftsched.core.changes import Changes, with_latest
from raftsched.core.commands import AssignTasks, AttemptFinished, AttemptProgress, ReportAttempts
from raftsched.core.handlers.ends import (
    has_twin_running,
    set_free,
    stop_twin,
    stopped_as,
    tell,
)
from raftsched.core.lifecycle import HOLDING, end_attempt, move, move_attempt
from raftsched.core.limits import Permits, gate_of
from raftsched.core.model import (
    ATTEMPT_TERMINAL,
    REASON_MAX,
    RESULT_BYTES_MAX,
    RESULT_FILE_BYTES_MAX,
    TERMINAL,
    Attempt,
    AttemptStatus,
    Task,
    TaskStatus,
)
from raftsched.core.outcomes import Accepted, Event, Outcome, Reason, Rejected
from raftsched.core.policy import USUAL, Delivery
from raftsched.core.retry import may_retry, wait_ms
from raftsched.core.rooms import Rooms
from raftsched.core.trees import is_twin, owner_of
from raftsched.core.versions import POLICIES, WORKFLOWS

#: Characters of what an attempt says of its progress.
PROGRESS_TEXT_MAX = 200
#: What a node may report as an attempt's end.
_ENDS = {status.value: status for status in sorted(ATTEMPT_TERMINAL)}
_QUEUED = TaskStatus.QUEUED
_ASSIGNED = TaskStatus.ASSIGNED
_SUCCEEDED = TaskStatus.SUCCEEDED
_ATTEMPT_ASSIGNED = AttemptStatus.ASSIGNED
_ATTEMPT_SUCCEEDED = AttemptStatus.SUCCEEDED
_ATTEMPT_LOST = AttemptStatus.LOST
_ATTEMPT_CANCELLED = AttemptStatus.CANCELLED


def assign(changes: Changes, command: AssignTasks) -> Outcome:
    """Value: per assignment the new `Attempt`, or the `Rejected`."""
    find, staged, events = changes.find, changes.tasks, changes.events
    now, index, token = changes.state.now, changes.index, changes.next_token
    rooms, permits = Rooms(changes.state), Permits(changes.state, now)
    find_room, are_gates_needed = rooms.find, permits.is_needed
    results: list[Attempt | Rejected] = []
    for wanted in command.assignments:
        task_id, node_id = wanted.task_id, wanted.node_id
        number, stands, task = find(task_id)
        room = find_room(node_id)
        if task is None:
            results.append(Rejected(Reason.UNKNOWN_TASK, task_id))
        elif task.status is not _QUEUED:
            results.append(Rejected(Reason.TASK_NOT_QUEUED, task.status.value))
        elif task.paused:
            results.append(Rejected(Reason.TASK_PAUSED, task_id))
        elif task.extra is not None and (whole_id := _told_to_end(changes, task)):
            results.append(Rejected(Reason.TASK_NOT_QUEUED, f"{whole_id} is told to end"))
        elif room is None:
            results.append(Rejected(Reason.UNKNOWN_NODE, node_id))
        elif room.node.incarnation != wanted.incarnation:
            results.append(Rejected(Reason.STALE_INCARNATION, node_id))
        else:
            terms, earlier = task.terms, task.attempts
            policy = terms.policy
            gate = None
            if are_gates_needed or (policy is not None and policy.limits):
                gate = gate_of(terms)
                shut = permits.shut(gate)
                if shut is not None:
                    results.append(Rejected(shut.reason, shut.name))
                    continue
            reason = rooms.take(room, terms, earlier[-1].node if earlier else "")
            if reason is not None:
                results.append(Rejected(reason, node_id))
                continue
            if gate is not None:
                permits.take(gate)
            node = room.node
            attempt = Attempt(
                earlier[-1].number + 1 if earlier else 1,
                token,
                node.id,
                node.incarnation,
                _ATTEMPT_ASSIGNED,
                now,
            )
            token += 1
            moved = move(task, _ASSIGNED, index, "", (*earlier, attempt))
            staged[task_id] = (number, stands, moved)
            events.append(Event("task_assigned", task_id, node.id))
            results.append(attempt)
    changes.next_token = token
    changes.others.limits.update(permits.moved)
    return Accepted(results)


def _told_to_end(changes: Changes, task: Task) -> str:
    """The id of a whole that the task belongs to and that was told to end; empty: none was.

    One command ends only so many parts of it: the others are queued until the next one.
    """
    whole_id = owner_of(task)
    while whole_id:
        whole = changes.task(whole_id)
        if whole is None or whole.extra is None:
            return ""
        if whole.extra.stopping:
            return whole_id
        whole_id = owner_of(whole)
    return ""


def report(changes: Changes, command: ReportAttempts) -> Outcome:
    """Value: the refused items as (task id, token), started ones first."""
    refused: list[tuple[str, int]] = []
    node_id = command.node_id
    changes.is_telling = changes.state.version >= WORKFLOWS  # When all rows are put.
    for begun in command.started:
        task = changes.task(begun.task_id)
        if task is None or not _is_live(task, node_id, begun.token):
            refused.append((begun.task_id, begun.token))
        else:
            _started(changes, task)
    for ended in command.finished:
        number, stands, task = changes.find(ended.task_id)
        status = _ENDS.get(ended.status)
        if task is None or not _is_live(task, node_id, ended.token) or status is None:
            refused.append((ended.task_id, ended.token))
        elif status is _ATTEMPT_LOST:
            lose(changes, task, ended.reason[:REASON_MAX] or "lost")
        else:
            changes.tasks[task.id] = (number, stands, _finished(changes, task, status, ended))
    for news in command.progress:
        task = changes.task(news.task_id)
        if task is None or not _is_live(task, node_id, news.token):
            refused.append((news.task_id, news.token))
        elif changes.state.version >= POLICIES:
            _progressed(changes, task, news)
    tell(changes)
    for task_id, token in refused:
        changes.event("report_refused", task_id, node_id, str(token))
    return Accepted(tuple(refused))


def _is_live(task: Task, node_id: str, token: int) -> bool:
    """Is the token its latest attempt's, given to this node, and has that not ended?"""
    if not task.attempts:
        return False
    attempt = task.attempts[-1]
    if attempt.token != token or attempt.node != node_id or attempt.status in ATTEMPT_TERMINAL:
        return False
    assert task.status in HOLDING
    return True


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


def _progressed(changes: Changes, task: Task, news: AttemptProgress) -> None:
    attempt = msgspec.structs.replace(
        task.attempts[-1],
        progress=max(0, min(1_000, news.permille)),
        progress_text=news.text[:PROGRESS_TEXT_MAX],
    )
    attempts = with_latest(task, attempt)
    changes.put(msgspec.structs.replace(task, modify_index=changes.index, attempts=attempts))
    changes.event("task_changed", task.id, attempt.node, "progress")


def _finished(changes: Changes, task: Task, status: AttemptStatus, ended: AttemptFinished) -> Task:
    """The task after the end of its latest attempt: over, or waiting for the next one."""
    now = changes.state.now
    attempt = task.attempts[-1]
    started_at = attempt.started_at
    if not started_at:
        started_at = max(attempt.assigned_at, now - ended.run_ms) if ended.run_ms > 0 else now
    if ended.result or ended.result_bytes:
        ended = _with_known_result(ended, changes.state.version)
    attempts = with_latest(task, end_attempt(attempt, status, started_at, now, ended))
    reason = task.reason
    if status is _ATTEMPT_SUCCEEDED:
        to, reason = _SUCCEEDED, ""
        task = _with_own(task)
    elif task.status is TaskStatus.CANCELLING:
        to = stopped_as(task)
    elif attempt.is_evicted and status is _ATTEMPT_CANCELLED:
        if is_twin(task):
            to, reason = TaskStatus.CANCELLED, attempts[-1].reason
        elif _was_its_only_start(task, attempt, ended):
            to, reason = TaskStatus.LOST, attempts[-1].reason
        else:
            return _again(changes, task, attempts)
    elif _can_retry(task, attempts):
        return _retried(changes, task, attempts)
    elif has_twin_running(changes, task):
        return _left_to_twin(changes, task, attempts)
    else:
        to, reason = TaskStatus.FAILED, attempts[-1].reason or str(status)
    changes.events.append(Event("task_finished", task.id, attempt.node, to))
    if task.extra is not None or changes.state.relations.waiters:
        set_free(changes, task, to)
    return move(task, to, changes.index, reason, attempts, now, ready_at=0)


def _with_own(task: Task) -> Task:
    """The task with what it came to itself, though its twin had succeeded before."""
    if task.extra is None or task.extra.borrowed is None:
        return task
    return msgspec.structs.replace(task, extra=msgspec.structs.replace(task.extra, borrowed=None))


def _with_known_result(ended: AttemptFinished, version: int) -> AttemptFinished:
    """The end without a result that is over its bound, or not known to all peers yet."""
    result, size = ended.result, ended.result_bytes
    if len(result) > RESULT_BYTES_MAX or version < POLICIES:
        result = b""
    if result or version < WORKFLOWS or not 0 <= size <= RESULT_FILE_BYTES_MAX:
        size = 0
    if (len(result), size) == (len(ended.result), ended.result_bytes):
        return ended
    return msgspec.structs.replace(ended, result=result, result_bytes=size)


def _was_its_only_start(task: Task, attempt: Attempt, ended: AttemptFinished) -> bool:
    """May it not be started again, and did it start?"""
    policy = task.terms.policy or USUAL
    has_started = attempt.started_at > 0 or ended.run_ms > 0
    return policy.delivery is Delivery.AT_MOST_ONCE and has_started


def _failures(attempts: tuple[Attempt, ...]) -> int:
    """How many of them count."""
    return len([attempt for attempt in attempts if _counts(attempt)])


def _counts(attempt: Attempt) -> bool:
    if attempt.status is _ATTEMPT_CANCELLED:
        return not attempt.is_evicted
    return attempt.status is not _ATTEMPT_LOST


def _can_retry(task: Task, attempts: tuple[Attempt, ...]) -> bool:
    policy = task.terms.policy or USUAL
    return _failures(attempts) < task.terms.attempts_max and may_retry(
        policy, attempts[-1].exit_code
    )


def _retried(changes: Changes, task: Task, attempts: tuple[Attempt, ...]) -> Task:
    """The task after an attempt that failed and is not the last."""
    attempt, index = attempts[-1], changes.index
    if changes.state.version < POLICIES:
        changes.event("task_queued", task.id, attempt.node, attempt.reason)
        return move(task, _QUEUED, index, task.reason, attempts)
    stop_twin(changes, task, only_idle=True)
    wait = wait_ms(task.terms.policy or USUAL, task.id, _failures(attempts))
    why = attempt.reason or str(attempt.status)
    now = changes.state.now
    if wait:
        changes.event("task_changed", task.id, attempt.node, "retrying")
        return move(task, TaskStatus.RETRYING, index, why, attempts, ready_at=now + wait)
    changes.event("task_queued", task.id, attempt.node, why)
    return move(task, _QUEUED, index, why, attempts, ready_at=now)


def _left_to_twin(changes: Changes, task: Task, attempts: tuple[Attempt, ...]) -> Task:
    """The task after its last attempt failed: its twin, which still runs, decides."""
    why = attempts[-1].reason or str(attempts[-1].status)
    changes.event("task_changed", task.id, attempts[-1].node, "twin")
    return move(task, TaskStatus.RETRYING, changes.index, why, attempts, ready_at=0)


def _again(changes: Changes, task: Task, attempts: tuple[Attempt, ...]) -> Task:
    """Its node gave the attempt back, as it was asked to: neither failed nor lost."""
    stop_twin(changes, task, only_idle=True)
    why = attempts[-1].reason
    changes.event("task_queued", task.id, attempts[-1].node, why)
    return move(task, _QUEUED, changes.index, why, attempts, ready_at=changes.state.now)


def lose(changes: Changes, task: Task, reason: str) -> None:
    """The node took the latest attempt with it: the task waits again, unless too often."""
    now = changes.state.now
    attempt = task.attempts[-1]
    losses = task.losses + 1
    policy = task.terms.policy or USUAL
    is_last = losses >= (policy.losses_max or changes.state.settings.losses_max)
    if task.status is TaskStatus.CANCELLING:
        to, why = stopped_as(task), task.reason
    elif policy.delivery is Delivery.AT_MOST_ONCE or is_twin(task):
        to, why = TaskStatus.LOST, reason
    elif is_last and has_twin_running(changes, task):
        to, why = TaskStatus.RETRYING, "lost_too_often"
    elif is_last:
        to, why = TaskStatus.FAILED, "lost_too_often"
    else:
        to, why = _QUEUED, reason
    over = move_attempt(attempt, AttemptStatus.LOST, finished_at=now, reason=reason)
    queued = to is _QUEUED
    is_over = to in TERMINAL
    changes.put(
        move(
            task,
            to,
            changes.index,
            why,
            with_latest(task, over),
            now if is_over else 0,
            losses,
            ready_at=task.ready_at if queued else 0,
        )
    )
    if queued:
        stop_twin(changes, task, only_idle=True)
        changes.event("task_queued", task.id, attempt.node, reason)
    elif not is_over:
        changes.event("task_changed", task.id, attempt.node, "twin")
    else:
        changes.event("task_finished", task.id, attempt.node, to.value)
        set_free(changes, task, to)
