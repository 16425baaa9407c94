"""Routes of schedules: what is asked comes back, what is wrong is pointed at and leaves nothing."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import msgspec
import pytest

from raftsched.api import scheduling
from raftsched.api.context import Context
from raftsched.api.schedule_documents import wanted_row
from raftsched.core.commands import Fire, FireSlots, PauseSchedule, PutQueue, PutSchedule
from raftsched.core.model import Queue
from raftsched.core.outcomes import Accepted
from raftsched.core.schedule import UNRECKONED
from raftsched.peer.errors import UnknownOutcome
from tests.unit.api.harness import Api

TASK = {"command": ["/bin/date"]}
NIGHTLY = {"cron": "0 2 * * *", "zone": "Europe/Berlin", "task": TASK}
PATH = "/v1/schedules/nightly"
#: What is said to who asks with the first index, and there is the second.
SEEN_BEFORE = (
    "schedule 'nightly' has modify index 2 now, and 1 was asked for; read it again, or ask without "
    "If-Match"
)


async def put(api: Api, name: str = "nightly", **fields: Any) -> Any:
    answer = await api.ask("PUT", f"/v1/schedules/{name}", {**NIGHTLY, **fields})
    assert answer.status in (200, 201), answer.body
    return answer.json()


async def view_of(api: Api, name: str = "nightly") -> Any:
    return (await api.get(f"/v1/schedules/{name}")).json()


def fire(api: Api, name: str, count: int = 1) -> tuple[str, ...]:
    """So many instants a millisecond apart, as the leader has them; the tasks that were made."""
    row = api.state.schedules.get(name)
    assert row is not None
    if row.next_at == UNRECKONED:
        first = api.state.now + 1
        propose_fire(api, Fire(name, row.version, UNRECKONED, (), first))
        row = msgspec.structs.replace(row, next_at=first)
    instants = tuple(row.next_at + number for number in range(count))
    return propose_fire(api, Fire(name, row.version, row.next_at, instants, instants[-1] + 1))


def propose_fire(api: Api, fired: Fire) -> tuple[str, ...]:
    outcome = api.service.apply(FireSlots((fired,)))
    assert isinstance(outcome, Accepted) and isinstance(outcome.value[0], Accepted), outcome
    made: tuple[str, ...] = outcome.value[0].value
    return made


# Making and changing ---------------------------------------------------------------------------


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


# Runs ------------------------------------------------------------------------------------------


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


# What is wrong ---------------------------------------------------------------------------------

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


# Foretelling -----------------------------------------------------------------------------------


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
