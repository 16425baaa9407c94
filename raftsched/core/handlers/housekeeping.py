"""Retention and the replicated settings."""

from __future__ import annotations

import msgspec

from raftsched.core.changes import Changes
from raftsched.core.commands import Accepted, ApplyRetention, Outcome, UpdateSettings
from raftsched.core.model import Settings
from raftsched.core.versions import POLICIES


def retention(changes: Changes, command: ApplyRetention) -> Outcome:
    """Value: how many tasks and keys were removed.  Writes as it goes: it refuses nothing."""
    state = changes.state
    tasks = keys = 0
    old = state.now - state.settings.finished_retention_ms
    while tasks < command.limit:
        task = state.oldest_finished()
        if task is None:
            break
        if task.finished_at > old and state.finished_count <= state.settings.finished_max:
            break
        state.delete_task(task)
        changes.event("task_deleted", task.id, detail="retention")
        tasks += 1
    while keys < command.limit:
        found = state.oldest_key()
        if found is None or found[1].expires_at > state.now:
            break
        state.delete_key(found[0])
        keys += 1
    return Accepted((tasks, keys))


def settings(changes: Changes, command: UpdateSettings) -> Outcome:
    """No value."""
    settings = command.settings
    if changes.state.version < POLICIES:
        usual = Settings()
        settings = msgspec.structs.replace(
            settings, open_bytes_max=usual.open_bytes_max, ageing_ms=usual.ageing_ms
        )
    changes.state.settings = settings
    return Accepted()
