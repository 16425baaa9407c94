"""Documents of schedules: what is wrong is pointed at and leaves nothing."""

from __future__ import annotations

import json
from typing import Any

import pytest

from raftsched.api.schedule_documents import wanted_row
from raftsched.core.commands import PutSchedule
from tests.unit.api.harness import Api
from tests.unit.api.schedules import NIGHTLY, PATH, TASK, put, view_of

WRONG = [
    ({"cron": "61 * * * *"}, "/cron"), ({"cron": ["0 2 * * *", "x"]}, "/cron/1"),
    ({"cron": "0 0 30 2 *"}, "/cron"), ({"cron": "@reboot"}, "/cron"), ({"cron": 5}, "/cron"),
    ({"cron": None}, "/cron"), ({"cron": []}, "/cron"), ({"cron": ["0 2 * * *"] * 21}, "/cron"),
    ({"every": "soon"}, "/every"), ({"every": -1}, "/every"), ({"every": "1ms"}, "/every"),
    ({"every": 10**400}, "/every"), ({"every": 1e300}, "/every"), ({"every": []}, "/every"),
    ({"at": ["tomorrow"]}, "/at/0"), ({"at": "2030-01-01T00:00:00Z"}, "/at"),
    ({"cron": [], "at": ["2001-01-01T00:00:00Z"]}, "/at"),
    ({"zone": "Europe/Berln"}, "/zone"), ({"zone": "../../etc/passwd"}, "/zone"),
    ({"gap": "jump"}, "/gap"), ({"fold": "x"}, "/fold"), ({"start": "x"}, "/start"),
    ({"end": "2020-01-01T00:00:00Z"}, "/end"),
    ({"start": "2030-01-02T00:00:00Z", "end": "2030-01-01T00:00:00Z"}, "/end"),
    ({"exclude": ["Christmas"]}, "/exclude/0"), ({"jitter": "2d"}, "/jitter"),
    ({"misfire": "never"}, "/misfire"), ({"misfire_limit": 0}, "/misfire_limit"),
    ({"misfire_limit": 101}, "/misfire_limit"), ({"misfire_window": "x"}, "/misfire_window"),
    ({"overlap": "fight"}, "/overlap"), ({"paused": "no"}, "/paused"), ({"colour": 1}, "/colour"),
    ({"name": "other"}, "/name"), ({"task": {}}, "/task/command"), ({"task": None}, "/task"),
    ({"task": {**TASK, "id": "x"}}, "/task/id"),
    ({"task": {**TASK, "priority": 101}}, "/task/priority"),
    ({"task": {**TASK, "unique": {"key": "x"}}}, "/task/unique"),
    ({"task": {**TASK, "not_before": "1h"}}, "/task/not_before"),
    ({"task": {**TASK, "deadline": "2030-01-01T00:00:00Z"}}, "/task/deadline"),
    ({"task": {**TASK, "timeout": "x"}}, "/task/timeout"), ({"task": {**TASK, "x": 1}}, "/task/x"),
]  # fmt: skip


@pytest.mark.parametrize(("fields", "pointer"), WRONG, ids=lambda value: str(value)[:60])
async def test_what_is_wrong_is_pointed_at_and_leaves_nothing(
    api: Api, fields: dict[str, Any], pointer: str
) -> None:
    for method, path in (("PUT", PATH), ("PUT", f"{PATH}?dry_run=1")):
        problem = (await api.ask(method, path, {**NIGHTLY, **fields})).problem(422, "invalid")
        assert problem["errors"][0]["pointer"] == pointer, problem
    assert not api.service.proposed
    await put(api)
    patch = {name: value for name, value in fields.items() if value is not None}
    if "task" not in patch and patch:
        problem = (await api.ask("PATCH", PATH, patch)).problem(422, "invalid")
        assert problem["errors"][0]["pointer"] == pointer, problem
    assert (await view_of(api))["version"] == 1


@pytest.mark.parametrize("name", ["", "a b", "x" * 41, "-", "é", "a/b", "a\n"])
async def test_a_name_is_short_and_plain(api: Api, name: str) -> None:
    problem = (await api.post("/v1/schedules", {**NIGHTLY, "name": name})).problem(422, "invalid")
    assert problem["errors"][0]["pointer"] == "/name"
    assert not api.service.proposed


async def test_a_document_has_a_limit(api: Api) -> None:
    days = [f"{year}-01-01..{year}-01-02" for year in range(2024, 2424)]
    body = {**NIGHTLY, "exclude": days, "task": {**TASK, "labels": {"x": "y" * 150_000}}}
    answer = await api.ask("PUT", PATH, body)
    assert answer.status == 413, answer.body


async def test_a_schedule_that_is_over_can_be_changed_but_not_made(api: Api) -> None:
    body = {"at": ["2024-01-01T00:00:00Z"], "task": TASK}
    (await api.ask("PUT", PATH, body)).problem(422, "invalid")
    row = wanted_row(api.state, "nightly", json.dumps(body).encode(), 1_700_000_000_000, None)
    api.service.apply(PutSchedule(row))
    answer = await api.ask("PUT", PATH, {**body, "overlap": "allow"})
    assert (answer.status, answer.json()["version"]) == (200, 2)
