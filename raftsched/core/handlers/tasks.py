"""What users ask of tasks that are there: cancel, pause, resume, edit, run now, delete."""

from __future__ import annotations

import msgspec

from raftsched.core.changes import Changes
from raftsched.core.commands import (
    CancelTask,
    CancelTasks,
    DeleteTask,
    EditTask,
    PauseTask,
    ResumeTask,
    RunNow,
)
from raftsched.core.handlers.ends import DEADLINE, make_ready, stop
from raftsched.core.handlers.submit import checked_terms, extra_with, new_row
from raftsched.core.lifecycle import HOLDING, move
from raftsched.core.model import REASON_MAX, TERMINAL, NewTask, Task, TaskStatus
from raftsched.core.outcomes import Accepted, Outcome, Reason, Rejected
from raftsched.core.policy import Extra
from raftsched.core.state import waits_for_another
from raftsched.core.trees import is_split, is_to_be_split, parent_of

_DONE = Accepted()
_CANCELLED = "cancelled"


def cancel(changes: Changes, command: CancelTask) -> Outcome:
    """No value; cancelling again is accepted."""
    task = changes.task(command.task_id)
    if task is None:
        return Rejected(Reason.UNKNOWN_TASK, command.task_id)
    if task.status in TERMINAL:
        return Rejected(Reason.TASK_TERMINAL, str(task.status))
    stop(changes, task, TaskStatus.CANCELLED, _why(command.reason))
    return _DONE


def cancel_many(changes: Changes, command: CancelTasks) -> Outcome:
    """Value: ids of those that are ended or asked to."""
    ended: list[str] = []
    for task_id in command.task_ids:
        task = changes.task(task_id)
        if task is None or task.status in TERMINAL or task.status is TaskStatus.CANCELLING:
            continue
        if command.spare_running and (task.status in HOLDING or is_split(task)):
            continue
        stop(changes, task, TaskStatus.CANCELLED, _why(command.reason))
        ended.append(task_id)
    return Accepted(tuple(ended))


def _why(reason: str) -> str:
    reason = reason[:REASON_MAX]
    # That word would say that time ended the task.
    return _CANCELLED if not reason or reason == DEADLINE else reason


def run_now(changes: Changes, command: RunNow) -> Outcome:
    """No value; of a task that runs or is ready it changes nothing."""
    task = changes.task(command.task_id)
    if task is None:
        return Rejected(Reason.UNKNOWN_TASK, command.task_id)
    if task.status in TERMINAL:
        return Rejected(Reason.TASK_TERMINAL, str(task.status))
    if waits_for_another(task):
        after = task.extra.after if task.extra is not None else ""
        return Rejected(Reason.TASK_NOT_QUEUED, f"waits for the end of {after}")
    _run_now(changes, task)
    return _DONE


def _run_now(changes: Changes, task: Task) -> None:
    if task.paused:
        task = _with_pause(changes, task, False)
    if is_split(task):
        for subtask in _open_subtasks(changes, task):
            _run_now(changes, subtask)
    elif task.status in (TaskStatus.WAITING, TaskStatus.RETRYING):
        make_ready(changes, task, task.reason)


def edit(changes: Changes, command: EditTask) -> Outcome:
    """No value.  The unique key and what the task is another try of stay as they are."""
    new = command.task
    task = changes.task(new.id)
    if task is None:
        return Rejected(Reason.UNKNOWN_TASK, new.id)
    if task.status in TERMINAL:
        return Rejected(Reason.TASK_TERMINAL, str(task.status))
    if task.status in HOLDING:
        return Rejected(Reason.TASK_RUNNING, str(task.status))
    if is_split(task) or parent_of(task):
        return Rejected(Reason.PART_OF_TREE, parent_of(task))
    if task.attempts and new.extra is not None and new.extra.broadcast:
        return Rejected(Reason.INVALID, "a task that has run stays one for one node")
    if command.if_index and command.if_index != task.modify_index:
        return Rejected(Reason.MODIFIED, f"modify index {task.modify_index}")
    if new.queue != task.queue and _is_full(changes, new.queue):
        return Rejected(Reason.QUEUE_FULL, new.id)
    terms = checked_terms(
        changes.state,
        (
            task.namespace, new.queue, new.priority, new.cpu_milli, new.memory_bytes,
            new.strategy, new.attempts_max, new.policy,
        ),
    )  # fmt: skip
    if isinstance(terms, Reason):
        return Rejected(terms, new.id)
    edited = msgspec.structs.replace(
        task,
        spec=new.spec,
        terms=terms,
        extra=_edited_extra(task.extra, new),
        modify_index=changes.index,
    )
    if task.status is not TaskStatus.RETRYING and not waits_for_another(task):
        ready = msgspec.structs.replace(edited, status=TaskStatus.QUEUED, reason="", ready_at=0)
        target = new_row(ready, extra_with(edited.extra or Extra(), ""), changes.state.now)
        if target.status is task.status:
            edited = msgspec.structs.replace(edited, ready_at=target.ready_at)
        else:
            edited = move(
                edited, target.status, changes.index, target.reason, ready_at=target.ready_at
            )
    changes.put(edited)
    changes.event("task_changed", task.id, detail="edited")
    if is_to_be_split(edited) and not waits_for_another(task):
        make_ready(changes, edited, "")
    return _DONE


def _is_full(changes: Changes, queue: str) -> bool:
    """Has the queue as many open tasks as it may?"""
    row, use = changes.state.queues.get(queue), changes.state.queue_use.get(queue)
    return row is not None and 0 < row.depth_max <= (0 if use is None else use.open)


def _edited_extra(known: Extra | None, new: NewTask) -> Extra | None:
    if known is None and new.extra is None:
        return None
    known, wanted = known or Extra(), new.extra or Extra()
    extra = msgspec.structs.replace(
        known,
        not_before=wanted.not_before,
        deadline=wanted.deadline,
        delay_ms=wanted.delay_ms,
        expires_ms=wanted.expires_ms,
        placement_key=wanted.placement_key,
        broadcast=wanted.broadcast,
    )
    return None if extra == Extra() else extra


def pause(changes: Changes, command: PauseTask) -> Outcome:
    """No value; pausing again is accepted."""
    return _set_paused(changes, command.task_id, True)


def resume(changes: Changes, command: ResumeTask) -> Outcome:
    """No value; resuming what is not paused is accepted."""
    return _set_paused(changes, command.task_id, False)


def _set_paused(changes: Changes, task_id: str, paused: bool) -> Outcome:
    task = changes.task(task_id)
    if task is None:
        return Rejected(Reason.UNKNOWN_TASK, task_id)
    if task.status in TERMINAL:
        return Rejected(Reason.TASK_TERMINAL, str(task.status))
    if task.paused is not paused:
        _with_pause(changes, task, paused)
    for subtask in _open_subtasks(changes, task):
        if subtask.paused is not paused:
            _with_pause(changes, subtask, paused)
    return _DONE


def _with_pause(changes: Changes, task: Task, paused: bool) -> Task:
    task = msgspec.structs.replace(task, paused=paused, modify_index=changes.index)
    changes.put(task)
    changes.event("task_changed", task.id, detail="paused" if paused else "resumed")
    return task


def _open_subtasks(changes: Changes, task: Task) -> list[Task]:
    """Those that have not ended, the oldest first."""
    return [found for found in changes.subtasks(task.id) if found.status not in TERMINAL]


def delete(changes: Changes, command: DeleteTask) -> Outcome:
    """No value."""
    task = changes.task(command.task_id)
    if task is None:
        return Rejected(Reason.UNKNOWN_TASK, command.task_id)
    if task.status not in TERMINAL:
        return Rejected(Reason.TASK_NOT_TERMINAL, str(task.status))
    if parent_of(task):
        return Rejected(Reason.PART_OF_TREE, parent_of(task))
    changes.deleted.append(task)
    for gone in (task, *changes.state.subtasks(task)):
        changes.event("task_deleted", gone.id)
    return _DONE
