"""Retention and the replicated settings."""

from __future__ import annotations

import msgspec

from raftsched.core.changes import Changes
from raftsched.core.commands import ApplyRetention, UpdateSettings
from raftsched.core.model import Queue, Settings, Task
from raftsched.core.outcomes import Accepted, Outcome
from raftsched.core.removal import delete_task, trim
from raftsched.core.state import State
from raftsched.core.versions import POLICIES, TREES, WORKFLOWS


def retention(changes: Changes, command: ApplyRetention) -> Outcome:
    """Value: how many tasks and keys were removed.  Writes as it goes: it refuses nothing."""
    state = changes.state
    tasks = keys = 0
    queues = state.finished.queues() if state.version >= POLICIES else []
    for name in queues:
        while tasks < command.limit and (task := _over(state, name)) is not None:
            tasks += _remove(changes, task, command.limit - tasks)
    while tasks < command.limit:
        oldest = state.oldest_finished()
        if oldest is None or not (_is_old(state, oldest) or _are_too_many(state)):
            break
        tasks += _remove(changes, oldest, command.limit - tasks)
    while keys < command.limit:
        found = state.oldest_key()
        if found is None or found[1].expires_at > state.now:
            break
        state.delete_key(found[0])
        keys += 1
    return Accepted((tasks, keys))


def _is_old(state: State, task: Task) -> bool:
    """By the settings alone, as before queues had a say."""
    kept_ms = state.settings.finished_retention_ms
    return state.version < POLICIES and task.finished_at <= state.now - kept_ms


def _are_too_many(state: State) -> bool:
    settings = state.settings
    if state.finished_count > settings.finished_max:
        return True
    return state.version >= TREES and state.finished.bytes > settings.finished_bytes_max


def _over(state: State, name: str) -> Task | None:
    """The task of a queue that ended first, if the queue keeps it no longer."""
    finished = state.finished.of(name)
    first = finished.oldest()
    if first is None:
        return None
    task = state.tasks.get(first[1])
    assert task is not None
    queue = state.queues.get(name) or Queue(name)
    kept_ms = queue.retention_ms or state.settings.finished_retention_ms
    is_over = (
        task.finished_at <= state.now - kept_ms
        or 0 < queue.retention_count < len(finished)
        or 0 < queue.retention_bytes < finished.bytes
    )
    return task if is_over else None


def _remove(changes: Changes, task: Task, most: int) -> int:
    """A task with its subtasks, or that many of the newest of them; how many rows those were."""
    state = changes.state
    below = state.trees.ids_below(task.id)
    if state.version >= WORKFLOWS and len(below) >= most:
        for gone in trim(state, task, most):
            changes.event("task_deleted", gone, detail="retention")
        return most
    for gone in state.with_twins([task.id, *below]):
        changes.event("task_deleted", gone, detail="retention")
    delete_task(state, task)
    # A tree was one, in clusters of versions before.
    return 1 + len(below) if state.version >= WORKFLOWS else 1


def settings(changes: Changes, command: UpdateSettings) -> Outcome:
    """No value."""
    settings = command.settings
    if changes.state.version < POLICIES:
        usual = Settings()
        settings = msgspec.structs.replace(
            settings, open_bytes_max=usual.open_bytes_max, ageing_ms=usual.ageing_ms
        )
    if changes.state.version < TREES:
        settings = msgspec.structs.replace(
            settings, finished_bytes_max=Settings().finished_bytes_max
        )
    changes.state.settings = settings
    return Accepted()
