"""What is kept of a task's document, by clients who were shown it and by the log applied again."""

from __future__ import annotations

from typing import Any

#: Fields that say how far a task is.
_KEPT = (
    "id", "state", "attempt", "attempts_max", "paused", "modify_index", "reason", "node", "token",
    "exit_code", "result",
)  # fmt: skip


def task_of(document: dict[str, Any]) -> dict[str, Any]:
    """These; a task that is paused before it runs has the state ``paused``."""
    told = {name: document.get(name) for name in _KEPT}
    if told["paused"] and told["state"] in ("waiting", "queued"):
        told["state"] = "paused"
    return told
