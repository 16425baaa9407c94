"""Workflows and maps that ended and are tried again, as the tests of retries take them."""

from __future__ import annotations

from typing import Any

from tests.unit.api.forks import a_map, tree
from tests.unit.api.harness import Api

ONLY = {"only": "failed"}


async def workflow(api: Api, *tasks: dict[str, Any], task_id: str = "w", **fields: Any) -> None:
    await api.submit(task_id, command=None, workflow={"tasks": [*tasks], **fields})


def end(api: Api, task_id: str, status: str = "succeeded", **fields: Any) -> None:
    api.service.start(task_id)
    api.service.finish(task_id, status, **fields)


async def again(api: Api, task_id: str = "w") -> str:
    """The id of the try of only what failed."""
    answer = await api.post(f"/v1/tasks/{task_id}/retry", ONLY)
    assert answer.status == 201, answer.body
    made = answer.json()
    assert made["retry_of"] == task_id
    return str(made["id"])


async def states(api: Api, task_id: str) -> dict[str, str]:
    """Of its parts, by their names."""
    parts = (await tree(api, task_id))["items"]
    return {part["id"].removeprefix(task_id + "."): part["state"] for part in parts}


async def many(api: Api, count: int, failed: int) -> None:
    """A map of which one fails."""
    await api.submit("m", command=None, **a_map(range=[count], on_failure="finish"))
    for number in range(count):
        end(api, f"m.{number}", "failed" if number == failed else "succeeded")
