"""A task that ended, as a new one that asks for the same; with all that it consisted of."""

from __future__ import annotations

import msgspec

from raftsched.api.problems import Problem, task_not_terminal
from raftsched.core.handlers.forks import PARTS_BYTES_MAX, PARTS_MAX, encode
from raftsched.core.model import TASK_ID_MAX, TERMINAL, NewTask, Task, TaskStatus
from raftsched.core.policy import Extra
from raftsched.core.state import State
from raftsched.core.workflow import Dependency, Fork


def check_can_retry(task: Task) -> None:
    """Raises Problem."""
    if task.status not in TERMINAL:
        raise task_not_terminal(task.id, task.status.value, "tried again")
    if task.status is TaskStatus.SUCCEEDED:
        raise Problem("task-succeeded", f"task {task.id} succeeded; submit it again instead")


def another(state: State, task: Task, new_id: str) -> NewTask:
    """A new task that asks for the same, at once.  Raises Problem for one that is too large."""
    extra = task.extra or Extra()
    again = msgspec.structs.replace(
        _alone(extra),
        retry_of=task.id,
        delay_ms=0,
        depends_on=(),
        needs=0,
        fork=None if extra.fork is None else _fork(state, task, extra.fork, {}),
    )
    return _new(task, new_id, again)


def _new(task: Task, new_id: str, extra: Extra | None) -> NewTask:
    terms = task.terms
    return NewTask(
        new_id, task.spec, terms.queue, terms.priority, terms.cpu_milli, terms.memory_bytes,
        terms.strategy, terms.attempts_max, terms.policy, extra,
    )  # fmt: skip


def _alone(extra: Extra) -> Extra:
    """Without what became of it, and without instants."""
    return msgspec.structs.replace(
        extra, after="", not_before=0, deadline=0, parent="", number=0, subtasks=0, stopping="",
        schedule="", slot=0, awaits=(), met=0,
    )  # fmt: skip


def _fork(state: State, task: Task, fork: Fork, names: dict[str, str]) -> Fork:
    """As it was before its parts were made.  ``names``: of the tasks beside it, by their ids."""
    again = msgspec.structs.replace(
        fork, is_open=False, items_from="", parts_hash=b"", has_begun=False, has_failed=False,
        open_until=0,
    )  # fmt: skip
    if fork.parts:
        return again
    ids = state.trees.ids_of(task.id)
    if fork.is_open and not ids and fork.items_from in names:
        return msgspec.structs.replace(again, is_open=True, items_from=names[fork.items_from])
    if fork.is_open and not ids:
        raise Problem("invalid", f"task {task.id} never had its items; submit it again")
    if len(ids) > PARTS_MAX:
        text = f"task {task.id} has {len(ids)} subtasks, at most {PARTS_MAX} are tried again"
        raise Problem("too-large", text + "; submit it again")
    names = {part_id: _name(task.id, part_id, at) for at, part_id in enumerate(ids)}
    parts = []
    for part_id in ids:
        part = state.tasks.get(part_id)
        assert part is not None
        parts.append(_new(part, names[part_id], _part_extra(state, part, names)))
    data = encode(parts) if parts else b""
    if len(data) > PARTS_BYTES_MAX:
        text = f"the subtasks of {task.id} have {len(data)} bytes, at most {PARTS_BYTES_MAX}"
        raise Problem("too-large", text + " are tried again; submit it again")
    return msgspec.structs.replace(again, parts=data)


def _name(parent_id: str, part_id: str, number: int) -> str:
    """What a part is called within its task; its number, if its id does not say it."""
    name = part_id.removeprefix(parent_id + ".").rstrip(".")
    return name if 0 < len(name) <= TASK_ID_MAX and name != part_id else f"part{number}"


def _part_extra(state: State, part: Task, names: dict[str, str]) -> Extra | None:
    """``names``: of the parts beside it, by their ids."""
    extra = part.extra or Extra()
    again = msgspec.structs.replace(
        _alone(extra),
        depends_on=tuple([Dependency(names[o.task_id], o.on) for o in extra.depends_on]),
        fork=None if extra.fork is None else _fork(state, part, extra.fork, names),
    )
    return None if again == Extra() else again
