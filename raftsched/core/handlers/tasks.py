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
from raftsched.core.handlers import answers
from raftsched.core.lifecycle import HOLDING, move
from raftsched.core.model import (
    REASON_MAX,
    TASK_ID_MAX,
    TERMINAL,
    KeyRecord,
    NewTask,
    Task,
    TaskStatus,
    Terms,
)
from raftsched.core.planner import STRATEGIES
from raftsched.core.state import State

_DONE = Accepted()
_QUEUED = TaskStatus.QUEUED


def submit(changes: Changes, command: SubmitTasks) -> Outcome:
    """Value: `Submitted`."""
    state = changes.state
    key = f"{command.namespace}\0{command.key}"
    if command.key:
        record = state.keys.get(key)
        if record is not None and record.expires_at > state.now:
            if record.request_hash != command.request_hash:
                return Rejected(Reason.KEY_REUSED, "the key was used with another request")
            return Accepted(answers.unpack(record.answer))
        if record is None and len(state.keys) >= state.settings.keys_max:
            return Rejected(Reason.KEYS_FULL, f"{state.settings.keys_max} keys are held")
    if not command.tasks:
        return Rejected(Reason.INVALID, "no tasks")
    if _is_over_limit(state, command.tasks):
        return Rejected(
            Reason.OVERLOADED, f"{state.settings.tasks_open_max} open tasks are allowed"
        )
    ids = [new.id for new in command.tasks]
    existing, refused = _create(
        changes, intern(command.namespace), command.tasks, ids_are_good=_is_good("".join(ids))
    )
    if refused and (command.atomic or len(command.tasks) == 1):
        return refused[0][1]
    if refused:
        ids = [task_id[:TASK_ID_MAX] for task_id in ids]
    submitted = Submitted(tuple(ids), existing=tuple(existing), refused=tuple(refused))
    if command.key:
        expires_at = state.now + state.settings.key_retention_ms
        changes.keys[key] = KeyRecord(
            command.request_hash, answers.pack(submitted), changes.index, expires_at
        )
    return Accepted(submitted)


def _is_over_limit(state: State, tasks: tuple[NewTask, ...]) -> bool:
    """Would there be too many open tasks?  Those that are there already are not counted again."""
    room = state.settings.tasks_open_max - state.open_count
    if len(tasks) <= room:
        return False
    fresh = {new.id for new in tasks if new.id not in state.tasks}
    return len(fresh) > max(0, room)


def _is_good(task_id: str) -> bool:
    """No white space and nothing that cannot be shown."""
    return task_id.isprintable() and " " not in task_id


def _create(
    changes: Changes, namespace: str, tasks: tuple[NewTask, ...], *, ids_are_good: bool
) -> tuple[list[int], list[tuple[int, Rejected]]]:
    """Create the tasks that pass; positions of those that were there, and of those refused."""
    existing: list[int] = []
    refused: list[tuple[int, Rejected]] = []
    find, staged, events = changes.find, changes.tasks, changes.events
    known_terms = changes.state.terms
    now, index, order = changes.state.now, changes.index, changes.next_order
    for position, new in enumerate(tasks):
        task_id = new.id
        number, _, known = find(task_id)
        fields = (
            namespace,
            new.queue,
            new.priority,
            new.cpu_milli,
            new.memory_bytes,
            new.strategy,
            new.attempts_max,
        )
        terms = known_terms.get(fields) or _checked(changes.state, fields)
        if known is not None:
            if known.spec == new.spec and known.terms == terms:
                existing.append(position)
            else:
                refused.append((position, answers.refusal(Reason.DUPLICATE_ID, task_id)))
        elif isinstance(terms, Reason):
            refused.append((position, answers.refusal(terms, task_id)))
        elif not (0 < len(task_id) <= TASK_ID_MAX and (ids_are_good or _is_good(task_id))):
            refused.append((position, answers.refusal(Reason.INVALID, task_id)))
        else:
            task = Task(task_id, new.spec, terms, now, index, order, _QUEUED, index)
            staged[task_id] = (number, None, task)
            events.append(Event("task_queued", task_id))
            order += 1
    changes.next_order = order
    return existing, refused


def _checked(state: State, fields: tuple[str, str, int, int, int, str, int]) -> Terms | Reason:
    """The terms with these fields, kept once for all tasks that ask the same; or why not."""
    terms = Terms(*fields)
    if terms.strategy not in STRATEGIES:
        return Reason.UNKNOWN_STRATEGY
    if not (
        0 <= terms.priority <= 100
        and terms.cpu_milli >= 0
        and terms.memory_bytes >= 0
        and 1 <= terms.attempts_max <= 100
    ):
        return Reason.INVALID
    return state.share_terms(terms)


def cancel(changes: Changes, command: CancelTask) -> Outcome:
    """No value; cancelling again is accepted."""
    task = changes.task(command.task_id)
    if task is None:
        return Rejected(Reason.UNKNOWN_TASK, command.task_id)
    if task.status in TERMINAL:
        return Rejected(Reason.TASK_TERMINAL, str(task.status))
    if task.status is TaskStatus.CANCELLING:
        return _DONE
    reason = command.reason[:REASON_MAX] or "cancelled"
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
