"""How far a tree of tasks is, as a state has it."""

from __future__ import annotations

from raftsched.api.tree import was_split
from raftsched.client.trees import LOOKED_INTO_MAX, Progress, nested, progress_of
from raftsched.core.state import State


def progress_in(state: State, task_id: str, *, looks_into: bool = True) -> Progress:
    """How many subtasks of a task have ended, as this state has them.  Raises KeyError."""
    task, ids = state.tasks.get(task_id), state.trees.ids_of(task_id)
    if task is None:
        raise KeyError(task_id)
    subtasks = state.trees.of(task_id)
    is_open = task.extra is not None and task.extra.fork is not None and task.extra.fork.is_open
    counts = {} if subtasks is None else {str(k): n for k, n in sorted(subtasks.counts.items())}
    said = {"state": str(task.status), "fork": {"is_open": is_open}}
    whole = progress_of({"task": said, "counts": counts})
    if not looks_into or len(ids) > LOOKED_INTO_MAX:
        return whole
    for part in map(state.tasks.get, ids):
        if part is not None and was_split(part):
            within = progress_in(state, part.id, looks_into=False)
            whole = nested(whole, str(part.status), within)
    return whole
