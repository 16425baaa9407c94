"""A template that is put and run, as the tests of templates take it."""

from __future__ import annotations

from typing import Any

from tests.unit.api.harness import Answer, Api

PATH = "/v1/templates/report"
TASK: dict[str, Any] = {
    "command": ["/bin/report", "${day}", "--rows=${rows}"],
    "labels": {"day": "${day}", "kind": "report"},
    "priority": "${priority}",
    "timeout": "5m",
}
REPORT: dict[str, Any] = {
    "description": "The report of a day",
    "parameters": {
        "day": {"type": "string", "description": "as 2026-11-21"},
        "rows": {"type": "integer", "default": 10},
        "priority": {"type": "integer", "default": 50},
    },
    "task": TASK,
}


async def put(api: Api, document: Any = REPORT, name: str = "report", **headers: Any) -> Answer:
    return await api.ask("PUT", f"/v1/templates/{name}", document, **headers)


async def made(api: Api, document: Any = REPORT, name: str = "report") -> Any:
    answer = await put(api, document, name)
    assert answer.status in (200, 201), answer.body
    return answer.json()


async def run(api: Api, body: Any = None, query: str = "", **headers: str) -> Answer:
    body = {"parameters": {"day": "monday"}} if body is None else body
    return await api.post(f"{PATH}/run{query}", body, **headers)


def with_task(**fields: Any) -> dict[str, Any]:
    return {**REPORT, "task": {**TASK, **fields}}
