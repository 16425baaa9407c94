"""Routes of schedules: how they are made, changed, paused and deleted."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from raftsched.api import scheduling
from raftsched.api.context import Context
from raftsched.core.commands import PauseSchedule, PutQueue
from raftsched.core.model import Queue
from raftsched.peer.errors import UnknownOutcome
from tests.unit.api.harness import Api
from tests.unit.api.schedules import NIGHTLY, PATH, TASK, fire, put, view_of

#: What is said to who asks with the first index, and there is the second.
SEEN_BEFORE = (
    "schedule 'nightly' has modify index 2 now, and 1 was asked for; read it again, or ask without "
    "If-Match"
)


async def test_a_schedule_is_shown_as_it_was_asked_for_and_how_far_it_is(api: Api) -> None:
    body = {
        **NIGHTLY,
        "name": "nightly",
        "jitter": "30s",
        "overlap": "queue",
        "exclude": ["2030-12-24"],
    }
    answer = await api.post("/v1/schedules", body)
    assert (answer.status, answer.headers["Location"]) == (201, PATH)
    view = answer.json()
    assert view == {
        "name": "nightly", "cron": "0 2 * * *", "every": 0, "at": [], "zone": "Europe/Berlin",
        "gap": "usual", "fold": "usual", "start": "", "end": "", "exclude": ["2030-12-24"],
        "jitter": "30s", "misfire": "latest", "misfire_limit": 10, "misfire_window": 3_600,
        "overlap": "queue", "paused": False, "task": TASK,
        "english": "at 02:00 every day, Europe/Berlin, not on 1 excluded day, each start up to "
                   "30 seconds later",
        "next_at": "2023-11-15T01:00:00.000Z", "version": 1, "successes": 0, "failures": 0,
        "running": [], "created_at": "2023-11-14T22:13:21.000Z", "modify_index": 1,
    }  # fmt: skip
    assert answer.headers["ETag"] == '"1"'
    assert await view_of(api) == view
    row = api.state.schedules.get("nightly")
    assert row is not None and row.jitter_ms == 30_000


async def test_there_is_one_schedule_of_a_name(api: Api) -> None:
    await put(api)
    for query in ("", "?dry_run=1"):
        answer = await api.post(f"/v1/schedules{query}", {**NIGHTLY, "name": "nightly"})
        assert answer.problem(409, "schedule-exists")["schedule"] == "nightly"
    answer = await api.ask("PUT", PATH, NIGHTLY, If_None_Match="*")
    answer.problem(412, "modified")
    assert (await view_of(api))["version"] == 1


async def test_a_creation_repeated_with_its_key_is_answered_with_the_first(api: Api) -> None:
    body = {**NIGHTLY, "name": "nightly"}
    api.service.answer_trouble = UnknownOutcome("no outcome within 10.0 s")
    (await api.post("/v1/schedules", body, Idempotency_Key="k")).problem(504, "outcome-unknown")
    api.service.answer_trouble = None
    again = await api.post("/v1/schedules", body, Idempotency_Key="k")
    assert (again.status, again.headers["Idempotency-Replayed"]) == (200, "true")
    other = await api.post("/v1/schedules", {**body, "overlap": "allow"}, Idempotency_Key="k")
    other.problem(422, "idempotency-key-reused")
    (await api.post("/v1/schedules", body, Idempotency_Key="l")).problem(409, "schedule-exists")


async def test_the_same_again_is_no_change_and_another_is_a_new_version(api: Api) -> None:
    await put(api)
    proposed = len(api.service.proposed)
    assert (await put(api))["version"] == 1
    assert len(api.service.proposed) == proposed
    assert (await put(api, overlap="allow"))["version"] == 2
    tried = await api.ask("PUT", f"{PATH}?dry_run=1", {**NIGHTLY, "every": "1h", "zone": "UTC"})
    fields = ["every", "overlap", "zone"]
    assert tried.json() == {"valid": True, "action": "update", "fields": fields}
    tried = await api.ask("PUT", "/v1/schedules/other?dry_run=1", NIGHTLY)
    assert tried.json()["action"] == "create"
    assert (await view_of(api))["version"] == 2


async def test_what_was_changed_since_is_neither_replaced_nor_deleted(api: Api) -> None:
    tag = f'"{(await put(api))["modify_index"]}"'
    await put(api, overlap="allow")
    for method, body in (("PUT", {**NIGHTLY, "overlap": "queue"}), ("PATCH", {"zone": "UTC"})):
        told = (await api.ask(method, PATH, body, If_Match=tag)).problem(412, "modified")
        assert told["detail"] == SEEN_BEFORE
    for query in ("", "?dry_run=1"):
        told = (await api.ask("DELETE", PATH + query, If_Match=tag)).problem(412, "modified")
        assert told["detail"] == SEEN_BEFORE
    assert (await view_of(api))["overlap"] == "allow"


async def test_what_is_not_there_is_not_replaced_as_if_it_were(api: Api) -> None:
    told = (await api.ask("PUT", PATH, NIGHTLY, If_Match='"7"')).problem(412, "modified")
    assert told["detail"] == (
        "there is no schedule 'nightly' now, and modify index 7 was asked for; read it again, or "
        "ask without If-Match"
    )


async def test_a_change_between_look_and_entry_is_told_in_the_same_words(api: Api) -> None:
    tag = f'"{(await put(api))["modify_index"]}"'
    propose = api.service.propose

    async def paused_first(command: Any, timeout_seconds: float = 10.0) -> Any:
        await propose(PauseSchedule("nightly"))
        return await propose(command, timeout_seconds)

    api.service.propose = paused_first  # type: ignore[method-assign]
    other = {**NIGHTLY, "overlap": "queue"}
    told = (await api.ask("PUT", PATH, other, If_Match=tag)).problem(412, "modified")
    assert told["detail"] == SEEN_BEFORE


async def test_a_patch_changes_what_it_says_and_null_is_the_default_again(api: Api) -> None:
    await put(api, overlap="queue", task={**TASK, "timeout": "5m"})
    patch = {"overlap": None, "cron": None, "every": "10m", "task": {"env": {"A": "b"}}}
    view = (await api.ask("PATCH", PATH, patch)).json()
    assert (view["overlap"], view["cron"], view["every"]) == ("skip", [], "10m")
    assert view["task"] == {**TASK, "timeout": "5m", "env": {"A": "b"}}
    assert view["version"] == 2
    (await api.ask("PATCH", "/v1/schedules/none", patch)).problem(404, "unknown-schedule")


async def test_a_patch_goes_on_top_of_what_is_changed_meanwhile(api: Api) -> None:
    await put(api)
    propose, left = api.service.propose, 3

    async def paused_first(command: Any, timeout_seconds: float = 10.0) -> Any:
        nonlocal left
        if left:
            left -= 1
            await propose(PauseSchedule("nightly", paused=left % 2 == 0))
        return await propose(command, timeout_seconds)

    api.service.propose = paused_first  # type: ignore[method-assign]
    view = (await api.ask("PATCH", PATH, {"overlap": "allow"})).json()
    assert (view["overlap"], view["paused"], view["version"]) == ("allow", True, 2)


async def test_what_a_document_does_not_say_is_of_what_stands_there_when_it_is_put(
    api: Api,
) -> None:
    await put(api)
    propose = api.service.propose

    async def paused_first(command: Any, timeout_seconds: float = 10.0) -> Any:
        if len(api.service.proposed) == 1:
            await propose(PauseSchedule("nightly"))
        return await propose(command, timeout_seconds)

    api.service.propose = paused_first  # type: ignore[method-assign]
    view = await put(api, overlap="allow")
    assert (view["overlap"], view["paused"], view["version"]) == ("allow", True, 2)


async def test_the_same_said_by_all_at_once_is_one_version(api: Api) -> None:
    context = Context(api.service)
    body = json.dumps(NIGHTLY).encode()
    changes = await asyncio.gather(*[scheduling.put(context, "nightly", body) for _ in range(3)])
    assert sorted(change.action for change in changes) == ["create", "none", "none"]
    assert (await view_of(api))["version"] == 1


@pytest.mark.parametrize("method", ["PUT", "PATCH"])
async def test_a_change_that_is_always_overtaken_is_told_so_and_not_of_an_index(
    api: Api, method: str
) -> None:
    await put(api)
    propose, paused = api.service.propose, False

    async def paused_first(command: Any, timeout_seconds: float = 10.0) -> Any:
        nonlocal paused
        paused = not paused
        await propose(PauseSchedule("nightly", paused=paused))
        return await propose(command, timeout_seconds)

    api.service.propose = paused_first  # type: ignore[method-assign]
    told = (await api.ask(method, PATH, {**NIGHTLY, "overlap": "allow"})).problem(412, "modified")
    assert told["detail"] == (
        "schedule 'nightly' was modified by others in each of 5 tries; ask again"
    )


async def test_that_it_fired_since_is_no_conflict(api: Api) -> None:
    tag = (await api.ask("PUT", PATH, NIGHTLY)).headers["ETag"]
    fire(api, "nightly", 3)
    assert (await api.ask("GET", PATH)).headers["ETag"] == tag
    answer = await api.ask("PATCH", PATH, {"overlap": "allow"}, If_Match=tag)
    assert answer.status == 200
    assert answer.headers["ETag"] != tag
    fire(api, "nightly", 3)
    (await api.ask("DELETE", PATH, If_Match=tag)).problem(412, "modified")
    assert (await api.ask("DELETE", PATH, If_Match=answer.headers["ETag"])).status == 204


async def test_a_pause_stands_until_it_is_undone(api: Api) -> None:
    await put(api)
    view = (await api.post(f"{PATH}/pause")).json()
    assert (view["paused"], view["next_at"]) == (True, None)
    assert (await put(api, overlap="allow"))["paused"] is True
    assert (await put(api, overlap="allow", paused=False))["paused"] is False
    assert (await api.ask("PATCH", PATH, {"paused": True})).json()["paused"] is True
    view = (await api.post(f"{PATH}/resume")).json()
    assert view["paused"] is False and view["next_at"]


async def test_a_deleted_schedule_is_gone_and_its_tasks_end_if_asked(api: Api) -> None:
    for query, state, count in (("", "queued", 0), ("?tasks=1", "cancelled", 2)):
        await put(api, overlap="allow")
        [task_id] = fire(api, "nightly")
        tried = await api.ask("DELETE", f"{PATH}{query}{'&' if query else '?'}dry_run=1")
        assert tried.json() == {"valid": True, "tasks": count}
        assert (await api.ask("DELETE", PATH + query)).status == 204
        assert api.service.task(task_id).status == state
        (await api.get(PATH)).problem(404, "unknown-schedule")
        (await api.ask("DELETE", PATH)).problem(404, "unknown-schedule")


async def test_schedules_are_listed_by_name_a_page_at_a_time(api: Api) -> None:
    for name in ("b", "a", "c"):
        await put(api, name)
    page = (await api.get("/v1/schedules?limit=2")).json()
    assert [item["name"] for item in page["items"]] == ["a", "b"]
    rest = (await api.get(f"/v1/schedules?cursor={page['next_cursor']}")).json()
    assert ([item["name"] for item in rest["items"]], rest["next_cursor"]) == (["c"], None)


async def test_what_a_queue_says_for_its_tasks_holds_for_those_of_schedules(api: Api) -> None:
    api.service.apply(PutQueue(Queue("q", defaults=b'{"priority": 7}')))
    await put(api, task={**TASK, "queue": "q"})
    row = api.state.schedules.get("nightly")
    assert row is not None and row.task.priority == 7


async def test_secrets_of_requests_are_not_shown_and_survive_being_sent_back(api: Api) -> None:
    http = {"url": "http://x/", "headers": {"Authorization": "Bearer s", "Accept": "text/html"}}
    await put(api, task={"http": http})
    task = (await view_of(api))["task"]
    assert task["http"]["headers"] == {"Authorization": "(hidden)", "Accept": "text/html"}
    proposed = len(api.service.proposed)
    await put(api, task=task)
    assert len(api.service.proposed) == proposed, "it is the same"
    await api.ask("PATCH", PATH, {"task": {"timeout": "5m"}})
    row = api.state.schedules.get("nightly")
    assert row is not None and b"Bearer s" in row.task.spec
