"""Routes for all tasks that pass a filter."""

from __future__ import annotations

import pytest

from tests.unit.api.harness import Api


async def fill(api: Api) -> None:
    """Three tasks that wait in ``slow``, one in ``default``, one that failed, one that ran."""
    api.service.add_node()
    for number in range(3):
        await api.submit(f"s{number}", queue="slow")
    await api.submit("d")
    for task_id, status in (("bad", "failed"), ("good", "succeeded")):
        await api.submit(task_id, queue="slow")
        api.service.start(task_id)
        api.service.finish(task_id, status)


async def test_all_that_match_are_cancelled_and_nothing_else(api: Api) -> None:
    await fill(api)
    answer = (await api.post("/v1/tasks:cancel?queue=slow", {"reason": "too many"})).json()
    assert answer == {"matched": 3, "changed": 3, "ids": ["s2", "s1", "s0"], "more": False}
    assert api.service.task("s1").reason == "too many"
    states = {task_id: api.service.task(task_id).status.value for task_id in ("s0", "d", "bad")}
    assert states == {"s0": "cancelled", "d": "queued", "bad": "failed"}


async def test_no_more_than_the_limit_are_changed_and_that_is_said(api: Api) -> None:
    await fill(api)
    answer = (await api.post("/v1/tasks:cancel?queue=slow&limit=2", {})).json()
    assert (answer["matched"], answer["changed"], answer["more"]) == (2, 2, True)
    assert api.service.task("s0").status.value == "queued"


@pytest.mark.parametrize("verb", ["cancel", "retry"])
async def test_a_dry_run_counts_and_changes_nothing(api: Api, verb: str) -> None:
    await fill(api)
    before = api.service.rows()
    answer = (await api.post(f"/v1/tasks:{verb}?queue=slow&dry_run=1", {})).json()
    assert answer["matched"] == {"cancel": 3, "retry": 1}[verb]
    assert (answer["changed"], answer["ids"]) == (0, [])
    assert api.service.rows() == before


async def test_what_did_not_succeed_is_tried_again(api: Api) -> None:
    await fill(api)
    answer = (await api.post("/v1/tasks:retry?state=failed", {})).json()
    assert (answer["matched"], answer["changed"]) == (1, 1)
    [new_id] = answer["ids"]
    made = (await api.get(f"/v1/tasks/{new_id}")).json()
    assert (made["retry_of"], made["queue"], made["state"]) == ("bad", "slow", "queued")


@pytest.mark.parametrize("verb", ["cancel", "retry"])
async def test_without_a_filter_nothing_is_done(api: Api, verb: str) -> None:
    await fill(api)
    before = api.service.rows()
    (await api.post(f"/v1/tasks:{verb}", {})).problem(422, "invalid")
    (await api.post(f"/v1/tasks:{verb}?state=nonsense", {})).problem(422, "invalid")
    (await api.post(f"/v1/tasks:{verb}?queue=slow", {"x": 1})).problem(422, "invalid")
    assert api.service.rows() == before
