"""Subtasks that come one piece after the other: many of them, or as another task names them."""

from __future__ import annotations

import msgspec

from raftsched.core.changes import Changes
from raftsched.core.commands import AddSubtasks
from raftsched.core.handlers.ends import fail_split, join
from raftsched.core.handlers.forks import (
    OPEN_MS,
    SUBTASKS_MAX,
    has_room,
    make,
    only_keeps,
    terms_of,
)
from raftsched.core.handlers.rows import overload
from raftsched.core.model import REASON_MAX, TERMINAL, NewTask, Task
from raftsched.core.outcomes import Accepted, Outcome, Reason, Rejected
from raftsched.core.workflow import Fork


def add_subtasks(changes: Changes, command: AddSubtasks) -> Outcome:
    """Value: how many subtasks there are now; what is there already is not made again."""
    task = changes.task(command.task_id)
    if task is None:
        return Rejected(Reason.UNKNOWN_TASK, command.task_id)
    if task.extra is None or task.extra.fork is None:
        return Rejected(Reason.INVALID, "it has no subtasks of its own")
    if task.status in TERMINAL or task.extra.stopping:
        return Rejected(Reason.TASK_TERMINAL, task.extra.stopping or str(task.status))
    count = task.extra.subtasks
    fresh = command.tasks[max(0, count - command.first) :]
    if command.first > count:
        return Rejected(Reason.INVALID, f"subtask {count} is missing before {command.first}")
    if not task.extra.fork.is_open:
        if fresh or command.failure:
            return Rejected(Reason.INVALID, f"there are {count} subtasks, and no more")
        return Accepted(count)
    if command.failure:
        fail_split(changes, task, command.failure[:REASON_MAX])
        return Accepted(count)
    refusal = _refusal(changes, task, fresh)
    return refusal or Accepted(_add(changes, task, task.extra.fork, fresh, command.is_last))


def _refusal(changes: Changes, task: Task, fresh: tuple[NewTask, ...]) -> Rejected | None:
    assert task.extra is not None
    if task.extra.subtasks + len(fresh) > SUBTASKS_MAX:
        return Rejected(Reason.INVALID, f"a task has at most {SUBTASKS_MAX} subtasks")
    if not has_room(changes, len(fresh)):
        limit = changes.state.settings.tasks_open_max
        return Rejected(Reason.OVERLOADED, f"{limit} open tasks are allowed")
    refusal = overload(changes.state, fresh) if fresh else None
    if refusal is not None:
        return refusal
    for new in fresh:
        terms = terms_of(changes.state, task.namespace, new)
        if isinstance(terms, Reason):
            return Rejected(terms)
        if new.id or not (new.extra is None or only_keeps(new.extra)):
            return Rejected(Reason.INVALID, "these subtasks are named and started by their task")
    return None


def _add(
    changes: Changes, task: Task, fork: Fork, fresh: tuple[NewTask, ...], is_last: bool
) -> int:
    """How many there are now."""
    assert task.extra is not None
    first = task.extra.subtasks
    open_until = changes.state.now + OPEN_MS if fork.has_begun and not is_last else 0
    fork = msgspec.structs.replace(fork, is_open=not is_last, open_until=open_until)
    extra = msgspec.structs.replace(task.extra, fork=fork, subtasks=first + len(fresh))
    task = msgspec.structs.replace(task, extra=extra, modify_index=changes.index)
    changes.put(task)
    make(changes, task, [*fresh], first)
    if is_last and fork.has_begun and changes.tally(task.id).ended == extra.subtasks:
        join(changes, task)
    return extra.subtasks
