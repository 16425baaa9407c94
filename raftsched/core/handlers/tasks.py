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
from raftsched.core.handlers.ends import DEADLINE, make_ready, stop, stop_twin, told_after, twin_of
from raftsched.core.handlers.forks import release
from raftsched.core.handlers.rows import checked_terms, extra_with, new_row
from raftsched.core.lifecycle import HOLDING, move
from raftsched.core.model import REASON_MAX, TERMINAL, NewTask, Task, TaskStatus
from raftsched.core.outcomes import Accepted, Outcome, Reason, Rejected
from raftsched.core.policy import Extra
from raftsched.core.relations import awaited
from raftsched.core.trees import (
    UNMET,
    awaits_twin,
    has_begun,
    is_held,
    is_split,
    is_to_be_split,
    owner_of,
    parent_of,
)
from raftsched.core.versions import PAUSED_TWINS

#: Subtasks that one command deletes with the task that they are of, or before it.
DELETED_MAX = 2_000
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
    # Those words would say that time ended the task, or another one did.
    is_taken = reason == DEADLINE or reason.startswith(UNMET)
    return _CANCELLED if not reason or is_taken else reason


def run_now(changes: Changes, command: RunNow) -> Outcome:
    """No value; of a task that runs or is ready it changes nothing."""
    task = changes.task(command.task_id)
    if task is None:
        return Rejected(Reason.UNKNOWN_TASK, command.task_id)
    if task.status in TERMINAL:
        return Rejected(Reason.TASK_TERMINAL, str(task.status))
    if awaited(task):
        return Rejected(Reason.TASK_NOT_QUEUED, f"waits for the end of {awaited(task)[0]}")
    if is_held(task):
        return Rejected(
            Reason.TASK_NOT_QUEUED, f"held until others of {parent_of(task)} have ended"
        )
    if awaits_twin(task):
        return Rejected(Reason.TASK_NOT_QUEUED, "it has no attempt left, and its twin still runs")
    with told_after(changes):
        _run_now(changes, task)
    return _DONE


def _run_now(changes: Changes, task: Task) -> None:
    if task.extra is not None and task.extra.stopping:
        return
    if task.paused:
        task = _with_pause(changes, task, False)
    if task.extra is not None and has_begun(task.extra):
        for subtask in changes.subtasks_under_way(task.id):
            if not awaited(subtask):
                _run_now(changes, subtask)
        release(changes, task)  # Ends are not told yet: the row is as it was.
    elif task.status in (TaskStatus.WAITING, TaskStatus.RETRYING) and not awaits_twin(task):
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
    if is_split(task) or owner_of(task):
        return Rejected(Reason.PART_OF_TREE, owner_of(task))
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
    if task.status is not TaskStatus.RETRYING and not awaited(task):
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
    if is_to_be_split(edited) and not awaited(task):
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
    _with_pause(changes, task, paused)
    _pass_on_pause(changes, task, paused)
    return _DONE


def _pass_on_pause(changes: Changes, task: Task, paused: bool) -> None:
    """To what is below it, and is not held: what is held stays so."""
    for subtask in changes.subtasks_under_way(task.id):
        _with_pause(changes, subtask, paused)
        if is_split(subtask):
            _pass_on_pause(changes, subtask, paused)
    if is_split(task) and not paused:
        resumed = changes.task(task.id)
        assert resumed is not None
        release(changes, resumed)


def _with_pause(changes: Changes, task: Task, paused: bool) -> Task:
    """The task, paused or not, and so is its twin, if that goes on."""
    is_new = task.paused is not paused
    if is_new:
        task = msgspec.structs.replace(task, paused=paused, modify_index=changes.index)
        changes.put(task)
        changes.event("task_changed", task.id, detail="paused" if paused else "resumed")
    if changes.state.version < PAUSED_TWINS:
        if is_new and paused:
            stop_twin(changes, task)
    elif (twin := twin_of(changes, task)) is not None and twin.status not in TERMINAL:
        _with_pause(changes, twin, paused)
    return task


def delete(changes: Changes, command: DeleteTask) -> Outcome:
    """Value: how many of its subtasks are left; then it is there yet, and is to be deleted again.

    None: none is, and it is gone.
    """
    task = changes.task(command.task_id)
    if task is None:
        return Rejected(Reason.UNKNOWN_TASK, command.task_id)
    if task.status not in TERMINAL:
        return Rejected(Reason.TASK_NOT_TERMINAL, str(task.status))
    if owner_of(task):
        return Rejected(Reason.PART_OF_TREE, owner_of(task))
    if changes.state.relations.dependents.get(task.id):
        other = next(iter(changes.state.relations.dependents[task.id]))
        return Rejected(Reason.HAS_DEPENDENTS, other)
    below = changes.state.trees.ids_below(task.id)
    if len(below) > DELETED_MAX:
        changes.trimmed.append((task, DELETED_MAX))
        return Accepted(len(below) - DELETED_MAX)
    changes.deleted.append(task)
    for gone in changes.state.with_twins([task.id, *below]):
        changes.event("task_deleted", gone)
    return _DONE
