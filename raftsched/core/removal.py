"""Tasks out of the state: one with all that is below it, or a large tree bit by bit.

Only ``changes`` and ``handlers`` call these.
"""

from __future__ import annotations

import msgspec

from raftsched.core.model import TERMINAL, Task
from raftsched.core.state import State
from raftsched.core.trees import is_split, owner_of, parent_of
from raftsched.core.versions import TRIMMED_IS_OPEN


def delete_task(state: State, task: Task) -> None:
    """Remove a terminal task with its attempts and its subtasks."""
    assert task.status in TERMINAL
    twin = state.twin_of(task)
    if twin is not None:
        delete_task(state, twin)
    if parent_id := parent_of(task):
        state.trees.remove(parent_id, task)
    elif owner_of(task):
        state.trees.remove_twin(task)
    else:
        state.finished.remove(task)
    state.tasks.pop(task.id)
    state.counts[task.status] -= 1
    state.listing.remove(task)
    for subtask in state.subtasks(task):
        delete_task(state, subtask)


def trim(state: State, task: Task, count: int) -> list[str]:
    """Remove up to so many of the rows below a terminal task, the newest first; their ids.

    Twins go with their parts, and are not counted.
    """
    is_kept = state.finished_has(task)
    if is_kept:
        state.finished.remove(task)
    gone: list[str] = []
    twins: list[str] = []
    _trim(state, task, count, gone, twins)
    trimmed = state.tasks.get(task.id)
    assert trimmed is not None
    if is_kept:
        state.finished.add(trimmed)
    return gone + twins


def _trim(state: State, task: Task, count: int, gone: list[str], twins: list[str]) -> None:
    """``gone`` gets the ids, up to ``count`` of them; ``twins`` those of their twins."""
    assert task.extra is not None
    left = task.extra.subtasks
    for part_id in reversed(state.trees.ids_of(task.id)):
        part = state.tasks.get(part_id)
        assert part is not None
        if is_split(part):
            _trim(state, part, count, gone, twins)
            part = state.tasks.get(part_id)
            assert part is not None
        if len(gone) >= count or is_split(part):
            break
        left -= 1
        gone.append(part_id)
        twins += state.with_twins([part_id])[1:]
        delete_task(state, part)
    fork = task.extra.fork
    if fork is not None:
        has_begun = fork.has_begun and left > 0
        is_open = fork.is_open or state.version >= TRIMMED_IS_OPEN
        fork = msgspec.structs.replace(fork, has_begun=has_begun, is_open=is_open)
    extra = msgspec.structs.replace(task.extra, subtasks=left, fork=fork)
    state.tasks.put(task.id, msgspec.structs.replace(task, extra=extra))
