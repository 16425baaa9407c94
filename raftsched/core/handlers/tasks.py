"""What users ask of tasks: submit, cancel, pause, resume, delete."""

from __future__ import annotations

from sys import intern

import msgspec

from raftsched.core.changes import Changes
from raftsched.core.commands import (
    Accepted,
    CancelTask,
    DeleteTask,
    Event,
    Outcome,
    PauseTask,
    Reason,
    Rejected,
    ResumeTask,
    SubmitTasks,
    Submitted,
)
from raftsched.core.lifecycle import HOLDING, move
from raftsched.core.model import TERMINAL, KeyRecord, NewTask, Task, TaskStatus
from raftsched.core.planner import STRATEGIES

_DONE = Accepted()


def submit(changes: Changes, command: SubmitTasks) -> Outcome:
    """Value: `Submitted`."""
    state = changes.state
    key = f"{command.namespace}\0{command.key}"
    if command.key:
        record = state.keys.get(key)
        if record is not None and record.expires_at > state.now:
            if record.request_hash != command.request_hash:
                return Rejected(Reason.KEY_REUSED, "the key was used with another request")
            return Accepted(Submitted(tuple(record.task_ids.split()), replayed=True))
        if record is None and len(state.keys) >= state.settings.keys_max:
            return Rejected(Reason.KEYS_FULL, f"{state.settings.keys_max} keys are held")
    if not command.tasks:
        return Rejected(Reason.INVALID, "no tasks")
    if state.open_count + len(command.tasks) > state.settings.tasks_open_max:
        return Rejected(
            Reason.OVERLOADED, f"{state.settings.tasks_open_max} open tasks are allowed"
        )
    existing: list[int] = []
    refused: list[tuple[int, Rejected]] = []
    namespace = intern(command.namespace)
    for position, new in enumerate(command.tasks):
        known = changes.task(new.id)
        if known is None:
            reason = _create(changes, namespace, new)
        elif (known.spec, known.namespace, known.queue) == (new.spec, namespace, new.queue):
            existing.append(position)
            continue
        else:
            reason = Reason.DUPLICATE_ID
        if reason is not None:
            refused.append((position, Rejected(reason, new.id)))
    if refused and (command.atomic or len(command.tasks) == 1):
        return refused[0][1]
    ids = tuple([new.id for new in command.tasks])
    if command.key:
        expires_at = state.now + state.settings.key_retention_ms
        record = KeyRecord(command.request_hash, " ".join(ids), changes.index, expires_at)
        changes.keys[key] = record
    return Accepted(Submitted(ids, existing=tuple(existing), refused=tuple(refused)))


def _create(changes: Changes, namespace: str, new: NewTask) -> Reason | None:
    """Create one task; None, or why not."""
    if new.strategy not in STRATEGIES:
        return Reason.UNKNOWN_STRATEGY
    if not (
        0 <= new.priority <= 100
        and new.cpu_milli >= 0
        and new.memory_bytes >= 0
        and 1 <= new.attempts_max <= 100
        and 0 < len(new.id) <= 64
        and " " not in new.id
    ):
        return Reason.INVALID
    index = changes.index
    # Words that most tasks share are kept once, not once a task.
    changes.tasks[new.id] = Task(
        new.id,
        new.spec,
        namespace,
        intern(new.queue),
        new.priority,
        new.cpu_milli,
        new.memory_bytes,
        intern(new.strategy),
        new.attempts_max,
        TaskStatus.QUEUED,
        changes.state.now,
        index,
        index,
    )
    changes.events.append(Event("task_queued", new.id))
    return None


def cancel(changes: Changes, command: CancelTask) -> Outcome:
    """No value; cancelling again is accepted."""
    task = changes.task(command.task_id)
    if task is None:
        return Rejected(Reason.UNKNOWN_TASK, command.task_id)
    if task.status in TERMINAL:
        return Rejected(Reason.TASK_TERMINAL, str(task.status))
    if task.status is TaskStatus.CANCELLING:
        return _DONE
    reason = command.reason or "cancelled"
    if task.status in HOLDING:
        changes.put(move(task, TaskStatus.CANCELLING, changes.index, reason))
        changes.event("task_cancelling", task.id, task.node)
    else:
        now = changes.state.now
        changes.put(move(task, TaskStatus.CANCELLED, changes.index, reason, finished_at=now))
        changes.event("task_finished", task.id, detail="cancelled")
    return _DONE


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
        changes.put(msgspec.structs.replace(task, paused=paused, modify_index=changes.index))
        changes.event("task_changed", task.id, detail="paused" if paused else "resumed")
    return _DONE


def delete(changes: Changes, command: DeleteTask) -> Outcome:
    """No value."""
    task = changes.task(command.task_id)
    if task is None:
        return Rejected(Reason.UNKNOWN_TASK, command.task_id)
    if task.status not in TERMINAL:
        return Rejected(Reason.TASK_NOT_TERMINAL, str(task.status))
    changes.deleted.append(task)
    changes.event("task_deleted", task.id)
    return _DONE
