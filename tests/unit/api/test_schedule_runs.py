"""Runs of a schedule: what is said of them, and those that are asked for by hand."""

from __future__ import annotations

import json
from typing import Any

import pytest

from raftsched.api.schedule_documents import wanted_row
from raftsched.core.commands import PutSchedule
from tests.unit.api.harness import Api
from tests.unit.api.schedules import NIGHTLY, PATH, fire, put, view_of


async def test_tasks_say_which_schedule_made_them_and_lists_filter_by_it(api: Api) -> None:
    await put(api)
    await api.submit("other")
    [task_id] = fire(api, "nightly")
    view = (await api.get(f"/v1/tasks/{task_id}")).json()
    assert (view["schedule"], view["slot"]) == ("nightly", "2023-11-14T22:13:22.001Z")
    assert view["name"] == "nightly"
    page = (await api.get("/v1/tasks?schedule=nightly")).json()
    assert [item["id"] for item in page["items"]] == [task_id]
    shown = await view_of(api)
    assert (shown["running"], shown["next_at"]) == ([task_id], "2023-11-14T22:13:22.002Z")


async def test_slots_say_what_became_of_each_instant_the_latest_first(api: Api) -> None:
    await put(api, overlap="skip")
    fire(api, "nightly", 2)
    page = (await api.get(f"{PATH}/slots?limit=1")).json()
    [slot] = page["items"]
    assert (slot["status"], slot["reason"], slot["task"]) == ("skipped", "overlap", None)
    page = (await api.get(f"{PATH}/slots?limit=1&cursor={page['next_cursor']}")).json()
    [slot] = page["items"]
    assert (slot["status"], slot["count"], page["next_cursor"]) == ("fired", 1, None)
    assert slot["task"] == "nightly.20231114T221321001Z"


async def test_a_trigger_runs_it_now_whatever_else_runs(api: Api) -> None:
    await put(api)
    first = await api.post(f"{PATH}/trigger")
    second = await api.post(f"{PATH}/trigger")
    assert (first.status, second.status) == (201, 201)
    assert first.json()["schedule"] == "nightly" and first.headers["Location"].startswith("/v1/ta")
    assert len((await view_of(api))["running"]) == 2
    once = await api.post(f"{PATH}/trigger", Idempotency_Key="k")
    again = await api.post(f"{PATH}/trigger", Idempotency_Key="k")
    assert (once.status, again.status) == (201, 200)
    assert (again.json()["id"], again.headers["Idempotency-Replayed"]) == (
        once.json()["id"],
        "true",
    )
    assert (await api.post(f"{PATH}/trigger?dry_run=1")).json() == {"valid": True}
    (await api.post("/v1/schedules/none/trigger")).problem(404, "unknown-schedule")


async def test_a_backfill_makes_the_runs_that_are_not_there(api: Api) -> None:
    await put(api, cron="0 */6 * * *", zone="UTC", overlap="allow")
    day = {"from": "2023-11-10T00:00:00Z", "to": "2023-11-11T00:00:00Z"}
    tried = (await api.post(f"{PATH}/backfill", {**day, "dry_run": True})).json()
    assert (len(tried["instants"]), tried["tasks"], tried["next_from"]) == (4, [], None)
    done = (await api.post(f"{PATH}/backfill", day)).json()
    assert done["tasks"][0] == "nightly.20231110T000000Z" and len(done["tasks"]) == 4
    again = (await api.post(f"{PATH}/backfill", day)).json()
    assert (again["tasks"], again["next_from"]) == ([], None)


async def test_a_backfill_reads_local_times_and_says_where_to_go_on(api: Api) -> None:
    await put(api, cron="* * * * *", overlap="skip")
    day = {"from": "2023-11-10T01:00", "to": "2023-11-11T00:00:00Z"}
    done = (await api.post(f"{PATH}/backfill", day)).json()
    assert done["instants"][0] == "2023-11-10T00:00:00.000Z"
    assert (len(done["instants"]), len(done["tasks"])) == (1_000, 100)
    assert done["next_from"] == "2023-11-10T01:40:00.000Z"


async def test_a_backfill_of_what_is_changed_meanwhile_is_to_be_asked_for_again(api: Api) -> None:
    await put(api)
    propose = api.service.propose
    other = wanted_row(
        api.state, "nightly", json.dumps({**NIGHTLY, "every": "1h"}).encode(), 0, None
    )

    async def changed_first(command: Any, timeout_seconds: float = 10.0) -> Any:
        await propose(PutSchedule(other))
        return await propose(command, timeout_seconds)

    api.service.propose = changed_first  # type: ignore[method-assign]
    day = {"from": "2023-11-10T00:00:00Z", "to": "2023-11-11T00:00:00Z"}
    told = (await api.post(f"{PATH}/backfill", day)).problem(412, "modified")
    assert told["detail"] == (
        "schedule 'nightly' was changed while its instants were reckoned; ask again"
    )


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({}, "/"),
        ({"from": "yesterday"}, "/from"),
        ({"from": "2023-11-10T00:00:00Z", "to": "x"}, "/to"),
        ({"from": "2023-11-10T00:00:00Z", "to": "2023-11-09T00:00:00Z"}, "/to"),
        ({"from": "2023-11-10T00:00:00Z", "to": "8000-11-09T00:00:00Z"}, "/to"),
        ({"from": "2023-11-10T00:00:00Z", "what": 1}, "/what"),
    ],
)
async def test_a_wrong_range_is_pointed_at(api: Api, body: dict[str, Any], pointer: str) -> None:
    await put(api)
    problem = (await api.post(f"{PATH}/backfill", body)).problem(422, "invalid")
    assert problem["errors"][0]["pointer"] == pointer
