"""Trying again what depended on others: its inputs are there again, or it is refused."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.api.forks import a_map, named
from tests.unit.api.harness import Api
from tests.unit.api.retrying import end


async def test_a_task_that_depended_on_others_has_its_inputs_again_and_waits_for_none(
    one: Api,
) -> None:
    for name in ("good", "bad", "open"):
        await one.submit(name)
    end(one, "good", result=b"1")
    end(one, "bad", "failed")
    waits_for = ["good", {"task": "bad", "on": "failure"}, "open"]
    await one.submit("t", depends_on=waits_for, needs=2)
    end(one, "t", "failed")
    new = (await one.post("/v1/tasks/t/retry", {})).json()
    assert new["state"] == "queued"
    assert [(o["task"], o["on"]) for o in new["depends_on"]] == [
        ("good", "success"), ("bad", "failure"), ("open", "success"),
    ]  # fmt: skip


async def test_one_that_never_ran_is_tried_at_once_with_what_its_inputs_came_to(one: Api) -> None:
    for name in ("bad", "open"):
        await one.submit(name)
    end(one, "bad", "failed")
    await one.submit("t", depends_on=["bad"])
    await one.submit("u", depends_on=["open"])
    await one.post("/v1/tasks/u/cancel", {})
    new = (await one.post("/v1/tasks/t/retry", {})).json()
    assert (new["state"], new["depends_on"]) == ("queued", [{"task": "bad", "on": "always"}])
    new = (await one.post("/v1/tasks/u/retry", {})).json()
    assert (new["state"], new["depends_on"]) == ("queued", [])


async def without_inputs(one: Api, *waits_for: str, **fields: Any) -> None:
    """``t`` failed, and ``gone``, on which it depended, was deleted."""
    for name in waits_for:
        await one.submit(name)
        end(one, name, result=b"1")
    await one.submit("t", depends_on=[*waits_for], **fields)


@pytest.mark.parametrize("waits_for", [("gone",), ("there", "gone")])
async def test_one_whose_inputs_are_gone_is_not_tried_again_without_them(
    one: Api, waits_for: tuple[str, ...]
) -> None:
    await without_inputs(one, *waits_for)
    end(one, "t", "failed")
    assert (await one.ask("DELETE", "/v1/tasks/gone")).status == 204
    before = one.service.rows()
    for query in ("", "?dry_run=1"):
        told = (await one.post(f"/v1/tasks/t/retry{query}", {})).problem(409, "inputs-gone")
        assert told["detail"] == (
            "task t depended on gone, which is gone, and with it what that came to; submit it "
            "again, after what is to come before it now"
        )
    report = (await one.post("/v1/tasks:retry?state=failed", {})).json()
    assert [(refused["id"], refused["code"]) for refused in report["refused"]] == [
        ("t", "inputs-gone")
    ]
    assert one.service.rows() == before


async def test_another_task_with_the_id_of_an_input_is_none(one: Api) -> None:
    await without_inputs(one, "gone")
    end(one, "t", "failed")
    assert (await one.ask("DELETE", "/v1/tasks/gone")).status == 204
    await one.submit("gone")
    (await one.post("/v1/tasks/t/retry", {})).problem(409, "inputs-gone")


@pytest.mark.parametrize("whole", [a_map(range=[2]), {"workflow": {"tasks": [named("a")]}}])
async def test_a_whole_whose_parts_read_nothing_from_outside_is_tried_again_without_it(
    one: Api, whole: dict[str, Any]
) -> None:
    await without_inputs(one, "gone", command=None, **whole)
    assert (await one.post("/v1/tasks/t/cancel", {})).status == 200
    assert (await one.ask("DELETE", "/v1/tasks/gone")).status == 204
    new = (await one.post("/v1/tasks/t/retry", {})).json()
    assert (new["depends_on"], new["subtasks"]) == ([], len(one.service.state.trees.ids_of("t")))
