"""What is to come: the instants of one schedule, and of all."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.api.harness import Api
from tests.unit.api.schedules import put


async def test_a_preview_shows_each_instant_and_what_the_clocks_do(api: Api) -> None:
    body = {"cron": "30 2 * * *", "zone": "Europe/Berlin"}
    path = "/v1/schedules:preview?n=3&after=2024-03-29T12:00:00Z"
    view = (await api.post(path, body)).json()
    assert (view["english"], view["zone"]) == ("at 02:30 every day, Europe/Berlin", "Europe/Berlin")
    assert [item["local"] for item in view["items"]] == [
        "2024-03-30 02:30:00", "2024-03-31 03:00:00", "2024-04-01 02:30:00",
    ]  # fmt: skip
    gap = view["items"][1]
    assert (gap["change"], gap["instead_of"]) == ("gap", "2024-03-31 02:30:00")
    assert (gap["at"], gap["offset"]) == ("2024-03-31T01:00:00.000Z", "+02:00")
    assert not api.service.proposed and not len(api.state.schedules)


async def test_a_preview_of_a_schedule_by_its_name_needs_nothing_else(api: Api) -> None:
    await put(api)
    path = "/v1/schedules:preview?n=2&after=2023-11-14T22:00:00Z"
    view = (await api.post(path, {"name": "nightly"})).json()
    assert [item["at"] for item in view["items"]] == [
        "2023-11-15T01:00:00.000Z", "2023-11-16T01:00:00.000Z",
    ]  # fmt: skip
    (await api.post(path, {"name": "none"})).problem(404, "unknown-schedule")


async def test_a_preview_warns_of_what_changes_of_the_clocks_leave_out(api: Api) -> None:
    body = {"cron": "30 2 * * *", "zone": "Europe/Berlin", "gap": "skip"}
    path = "/v1/schedules:preview?n=1&after=2024-03-29T12:00:00Z"
    view = (await api.post(path, body)).json()
    assert any("does not exist" in text for text in view["warnings"])


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({}, "/cron"), ({"cron": "x"}, "/cron"), ({"cron": "@daily", "overlap": "x"}, "/overlap"),
        ({"cron": "@daily", "task": {"command": [""]}}, "/task/command/0"),
    ],
)  # fmt: skip
async def test_a_wrong_preview_is_pointed_at(api: Api, body: Any, pointer: str) -> None:
    problem = (await api.post("/v1/schedules:preview", body)).problem(422, "invalid")
    assert problem["errors"][0]["pointer"] == pointer


async def test_a_forecast_merges_all_schedules_a_page_at_a_time(api: Api) -> None:
    await put(api, "a", cron="0 * * * *")
    await put(api, "b", cron="0,30 * * * *")
    await put(api, "p", cron="* * * * *", paused=True)
    path = "/v1/forecast?from=2024-01-01T00:00:00Z&to=2024-01-01T02:00:00Z&limit=2"
    found, cursor = [], ""
    while True:
        page = (await api.get(path + (f"&cursor={cursor}" if cursor else ""))).json()
        found += [(item["at"][11:16], item["schedule"]) for item in page["items"]]
        cursor = page["next_cursor"]
        if not cursor:
            break
    assert found == [
        ("00:00", "a"), ("00:00", "b"), ("00:30", "b"), ("01:00", "a"), ("01:00", "b"),
        ("01:30", "b"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    "query", ["from=x", "to=2001-01-01T00:00:00Z", "to=8000-01-01T00:00:00Z", "cursor=x", "limit=0"]
)
async def test_a_wrong_forecast_is_refused(api: Api, query: str) -> None:
    (await api.get(f"/v1/forecast?{query}")).problem(422, "invalid")
