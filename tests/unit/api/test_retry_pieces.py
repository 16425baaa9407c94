"""Trying again what has many parts: they follow in pieces, of what is held meanwhile."""

from __future__ import annotations

from typing import Any

import pytest

from raftsched.api import retries
from raftsched.core import codec
from raftsched.core.commands import (
    ApplyRetention,
    CancelTask,
    DeleteTask,
    SubmitTasks,
    UpdateSettings,
)
from raftsched.core.model import Settings
from raftsched.core.outcomes import Accepted, Reason, Rejected
from raftsched.peer.errors import NoLeader
from tests.unit.api.forks import a_map, named
from tests.unit.api.harness import Api
from tests.unit.api.retrying import ONLY, again, end, many, states, workflow


@pytest.mark.parametrize("body", [ONLY, {}])
async def test_parts_that_are_too_many_follow_in_pieces(
    one: Api, monkeypatch: pytest.MonkeyPatch, body: dict[str, str]
) -> None:
    monkeypatch.setattr(retries, "PARTS_MAX", 10)
    await many(one, 12, 11)
    made = (await one.post("/v1/tasks/m/retry", body)).json()
    assert (made["subtasks"], made["fork"]["is_open"]) == (12, False)
    found = await states(one, made["id"])
    assert [*found] == [str(number) for number in range(12)]
    ran = [name for name, state in found.items() if state != "succeeded"]
    assert ran == (["11"] if body else [*found])


async def test_the_bytes_of_parts_are_bounded_in_a_submission_too(
    one: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retries, "PARTS_BYTES_MAX", 500)
    await many(one, 5, 4)
    assert [*(await states(one, await again(one, "m"))).values()] == ["succeeded"] * 4 + ["queued"]
    await workflow(one, named("a"), named("b", "a"), *[named(f"c{n}") for n in range(9)])
    end(one, "w.a", "failed")
    for number in range(9):
        end(one, f"w.c{number}")
    (await one.post("/v1/tasks/w/retry", ONLY)).problem(413, "too-large")


async def test_what_broke_off_goes_on_with_the_same_key(
    one: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retries, "PARTS_MAX", 10)
    await many(one, 12, 11)
    one.service.proposals_before_trouble = 2
    one.service.lose_the_leader()
    broken = (await one.post("/v1/tasks/m/retry", ONLY, Idempotency_Key="k")).json()
    assert broken["applied"] == "unknown"
    one.service.propose_trouble = None
    made = (await one.post("/v1/tasks/m/retry", ONLY, Idempotency_Key="k")).json()
    assert (made["subtasks"], made["fork"]["is_open"]) == (12, False)


def beside(one: Api, kind: type[Any], *commands: Any, before: bool = False) -> list[Any]:
    """With the first proposal of this kind these commands are applied, too; their outcomes."""
    propose, outcomes = one.service.propose, list[Any]()

    async def proposed(command: Any, timeout_seconds: float = 10.0) -> Any:
        is_first = isinstance(command, kind) and not outcomes
        if is_first and before:
            outcomes.extend([one.service.apply(other) for other in commands])
        outcome = await propose(command, timeout_seconds)
        if is_first and not before:
            outcomes.extend([one.service.apply(other) for other in commands])
        return outcome

    one.service.propose = proposed  # type: ignore[method-assign]
    return outcomes


FORGET = (UpdateSettings(Settings(finished_max=0)), ApplyRetention(5), DeleteTask("m"))


@pytest.mark.parametrize("body", [ONLY, {}])
async def test_what_pieces_are_taken_from_is_held_until_the_new_one_has_ended(
    one: Api, monkeypatch: pytest.MonkeyPatch, body: dict[str, str]
) -> None:
    monkeypatch.setattr(retries, "PARTS_MAX", 10)
    await many(one, 12, 11)
    outcomes = beside(one, SubmitTasks, *FORGET)
    made = (await one.post("/v1/tasks/m/retry", body)).json()
    assert (made["subtasks"], made["fork"]["is_open"]) == (12, False)
    assert outcomes[1:] == [Accepted((0, 0)), Rejected(Reason.HAS_DEPENDENTS, made["id"])]
    one.service.apply(CancelTask(made["id"]))
    assert one.service.apply(DeleteTask("m")) == Accepted(None)


async def test_parts_are_taken_from_the_state_that_a_snapshot_brought_meanwhile(
    one: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retries, "PARTS_MAX", 10)
    await many(one, 12, 11)
    propose = one.service.propose

    async def replaced(command: Any, timeout_seconds: float = 10.0) -> Any:
        outcome = await propose(command, timeout_seconds)
        if isinstance(command, SubmitTasks):
            old = one.service.state
            chunks = list(codec.snapshot_chunks(old))
            old.end_snapshot()
            one.service.state = codec.restore_state(chunks)
            assert [*old.take_apart()]
        return outcome

    one.service.propose = replaced  # type: ignore[method-assign]
    made = (await one.post("/v1/tasks/m/retry", ONLY)).json()
    assert (made["subtasks"], made["fork"]["is_open"]) == (12, False)


@pytest.mark.parametrize("limit", [5, 100])
@pytest.mark.parametrize("body", [ONLY, {}])
async def test_what_is_deleted_just_before_is_told_and_nobody_waits_for_the_rest(
    one: Api, monkeypatch: pytest.MonkeyPatch, body: dict[str, str], limit: int
) -> None:
    monkeypatch.setattr(retries, "PARTS_MAX", 10)
    await many(one, 12, 11)
    beside(one, SubmitTasks, FORGET[0], ApplyRetention(limit), before=True)
    told = (await one.post("/v1/tasks/m/retry", body)).problem(409, "inputs-gone")
    assert "the parts of m were deleted before all of them were taken over" in told["detail"]
    [new] = [task for task in one.state.tasks.values() if not task.id.startswith("m")]
    assert (new.status, new.reason[:14]) == ("failed", "items-missing:")


@pytest.mark.parametrize("body", [ONLY, {}])
async def test_what_is_being_deleted_is_not_tried_again_with_what_is_left(
    one: Api, body: dict[str, str]
) -> None:
    await many(one, 12, 3)
    for command in (FORGET[0], ApplyRetention(5)):
        one.service.apply(command)
    assert len(one.state.trees.ids_of("m")) == 7
    told = (await one.post("/v1/tasks/m/retry", body)).problem(422, "invalid")
    assert told["detail"] == "task m does not have all of its items; submit it again"


async def test_too_many_within_another_are_refused_with_their_number(
    one: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retries, "PARTS_MAX", 3)
    await workflow(one, {"name": "each", **a_map(range=[5])})
    end(one, "w.each.0", "failed")
    problem = (await one.post("/v1/tasks/w/retry", ONLY)).problem(413, "too-large")
    assert "w.each has 5 subtasks" in problem["detail"]


async def test_one_that_never_had_all_of_its_items_is_not_tried_again(one: Api) -> None:
    one.service.proposals_before_trouble = 2
    one.service.propose_trouble = NoLeader("no leader for 3.2 s; retry later")
    broken = await one.post("/v1/tasks", {"id": "m", **a_map(range=[1_500])})
    broken.problem(504, "outcome-unknown")
    one.service.propose_trouble = None
    assert one.service.task("m.999").id == "m.999"
    one.service.apply(CancelTask("m"))
    for body in ({}, ONLY):
        problem = (await one.post("/v1/tasks/m/retry", body)).problem(422, "invalid")
        assert problem["detail"] == "task m does not have all of its items; submit it again"
    await one.submit("list")
    await one.submit("o", command=None, map={"from": "list", "task": {"command": ["true"]}})
    end(one, "list", "failed")
    problem = (await one.post("/v1/tasks/o/retry", ONLY)).problem(422, "invalid")
    assert "does not have all of its items" in problem["detail"]
