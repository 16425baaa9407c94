"""Documents of workflows and maps, and their trees, as tests ask for them."""

from __future__ import annotations

from typing import Any

from tests.unit.api.harness import Api

ECHO = ["echo", "{index}:{item}"]


def named(name: str, *others: Any, **fields: Any) -> dict[str, Any]:
    return {"name": name, "command": ["true"], "depends_on": list(others), **fields}


def a_map(task: dict[str, Any] | None = None, **fields: Any) -> dict[str, Any]:
    return {"map": {"task": task or {"command": ECHO}, **fields}}


async def tree(api: Api, task_id: str) -> dict[str, Any]:
    found: dict[str, Any] = (await api.get(f"/v1/tasks/{task_id}/tree")).json()
    return found
