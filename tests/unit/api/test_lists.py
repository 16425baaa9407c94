"""Lists: pages that follow one another without gap or repeat, and filters."""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from raftsched.api import listing, times, views
from raftsched.core import codec
from raftsched.core.commands import CancelTask, DeleteTask, SubmitTasks
from raftsched.core.model import NewTask, Task
from raftsched.core.spec import TaskSpec
from raftsched.core.state import State
from raftsched.raft.log import ENTRY_BYTES_MAX
from tests.unit.api.fake_service import START_MS
from tests.unit.api.harness import Api


async def fill(api: Api, count: int = 25) -> list[str]:
    """Tasks in several entries; their ids, newest first."""
    ids: list[str] = []
    for start in range(0, count, 7):
        part = [f"t{n:03d}" for n in range(start, min(start + 7, count))]
        answer = await api.batch([{"id": task_id, "command": ["true"]} for task_id in part])
        assert answer.status == 200
        ids += part
    return ids[::-1]


async def walk(api: Api, query: str) -> list[list[str]]:
    """The ids of all pages."""
    pages: list[list[str]] = []
    cursor = ""
    while True:
        answer = await api.get(f"/v1/tasks?{query}&cursor={cursor}")
        assert answer.status == 200
        page = answer.json()
        pages.append([task["id"] for task in page["items"]])
        assert page["index"] == api.state.index
        cursor = page["next_cursor"]
        if cursor is None:
            assert "Link" not in answer.headers
            return pages
        assert len(pages) < 1_000


@pytest.mark.parametrize("limit", [1, 3, 7, 24, 25, 26, 1_000])
async def test_pages_hold_every_task_once_newest_first(api: Api, limit: int) -> None:
    ids = await fill(api)
    pages = await walk(api, f"limit={limit}")
    assert [task_id for page in pages for task_id in page] == ids
    assert all(len(page) == limit for page in pages[:-1])


async def test_empty_list_is_one_empty_page(api: Api) -> None:
    assert (await api.get("/v1/tasks")).json() == {"items": [], "next_cursor": None, "index": 0}


async def test_a_page_has_fifty_tasks_unless_asked_otherwise(api: Api) -> None:
    await fill(api, 60)
    assert [len(page) for page in await walk(api, "")] == [50, 10]


async def test_link_leads_to_the_next_page_with_the_same_filters(api: Api) -> None:
    ids = await fill(api, 10)
    answer = await api.get("/v1/tasks?limit=4&state=queued")
    link, _, relation = answer.headers["Link"].partition("; ")
    assert relation == 'rel="next"'
    following = await api.get(link.strip("<>"))
    assert [task["id"] for task in following.json()["items"]] == ids[4:8]
    assert "state=queued" in link


async def test_walk_is_not_disturbed_by_what_comes_and_goes(api: Api) -> None:
    ids = await fill(api, 20)
    first = (await api.get("/v1/tasks?limit=5")).json()
    await api.submit("newer")
    for task_id in (ids[4], ids[6]):
        api.service.apply(CancelTask(task_id))
        api.service.apply(DeleteTask(task_id))
    rest = await walk_from(api, first["next_cursor"])
    assert rest == [*ids[5:6], *ids[7:]]


async def walk_from(api: Api, cursor: str) -> list[str]:
    page = (await api.get(f"/v1/tasks?limit=1000&cursor={cursor}")).json()
    assert page["next_cursor"] is None
    return [task["id"] for task in page["items"]]


@pytest.mark.parametrize(
    "text",
    [
        "x", "%ff", "====", "AAAA", "t1:1:a",
        base64.urlsafe_b64encode(b"n1:1:a").decode(),
        base64.urlsafe_b64encode(b"t1:one:a").decode(),
        base64.urlsafe_b64encode(b"t1:1").decode(),
        base64.urlsafe_b64encode(b"t1:1:a:b").decode(),
        base64.urlsafe_b64encode(b"\xff\xfe").decode(),
        base64.urlsafe_b64encode(b"t1:" + b"9" * 5_000 + b":a").decode(),
    ],
)  # fmt: skip
async def test_cursor_from_elsewhere_is_422(api: Api, text: str) -> None:
    await fill(api, 3)
    answer = await api.get(f"/v1/tasks?cursor={text}")
    assert answer.pointer(422, "invalid") == "?cursor"


async def test_cursor_of_a_task_that_never_was_just_has_a_place(api: Api) -> None:
    ids = await fill(api, 5)
    cursor = base64.urlsafe_b64encode(b"t1:1:t002x").decode()
    assert await walk_from(api, cursor) == ids[2:]


@pytest.mark.parametrize(
    ("query", "pointer"),
    [
        ("limit=0", "?limit"), ("limit=1001", "?limit"), ("limit=x", "?limit"),
        ("limit=" + "9" * 5_000, "?limit"), ("limit=", "?limit"), ("state=done", "?state"),
        ("state=queued,bogus", "?state"), ("consistency=maybe", "?consistency"),
        ("min_index=-1", "?min_index"), ("index=x", "?index"), ("index=1&wait=soon", "?wait"),
        ("label=team", "?label"), ("label=a:b&label=team", "?label"), ("since=yesterday", "?since"),
        ("until=2026-01-31", "?until"), ("since=2026-01-31T12:00:00", "?since"),
        ("since=", "?since"), ("until=2026-02-30T00:00:00Z", "?until"),
    ],
)  # fmt: skip
async def test_query_that_is_wrong_is_pointed_at(api: Api, query: str, pointer: str) -> None:
    assert (await api.get(f"/v1/tasks?{query}")).pointer(422, "invalid") == pointer


@pytest.fixture
async def mixed(api: Api) -> Api:
    """Tasks that differ in everything a filter looks at."""
    api.service.add_node("n1")
    api.service.add_node("n2")
    rows: list[dict[str, Any]] = [
        {"id": "a", "name": "nightly backup", "labels": {"team": "web", "tier": "1"}},
        {"id": "b", "name": "backup", "queue": "slow", "labels": {"team": "db"}},
        {"id": "c", "queue": "slow", "labels": {"team": "web"}},
        {"id": "d", "name": "report"},
    ]
    for row in rows:
        await api.submit(row.pop("id"), **row)
    api.service.start("b", "n1")
    api.service.run("c", "n2")
    api.service.apply(CancelTask("d"))
    return api


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", "dcba"), ("state=", "dcba"), ("state=queued", "a"), ("state=running,succeeded", "cb"),
        ("state=lost", ""), ("queue=slow", "cb"), ("queue=none", ""), ("node=n2", "c"),
        ("label=team:web", "ca"), ("label=team:web&label=tier:1", "a"),
        ("label=team:none", ""), ("q=backup", "ba"), ("q=nightly%20backup", "a"),
        ("queue=slow&state=running", "b"), ("queue=slow&q=report", ""),
        ("label=team:web&state=succeeded&queue=slow&node=n2", "c"),
    ],
)  # fmt: skip
async def test_filters_hold_all_at_once(mixed: Api, query: str, expected: str) -> None:
    whole = await mixed.get(f"/v1/tasks?{query}")
    assert "".join(task["id"] for task in whole.json()["items"]) == expected
    pages = await walk(mixed, f"limit=1&{query}")
    assert "".join(task_id for page in pages for task_id in page) == expected


async def test_list_reads_as_current_as_asked_and_long_polls(api: Api) -> None:
    await api.get("/v1/tasks?min_index=0")
    await api.get("/v1/tasks?consistency=local&min_index=3&index=0&wait=10ms")
    assert api.service.reads == [("linearizable", 0), ("local", 3)]


def instant(index: int) -> str:
    """When the fake applied its entry of this index."""
    return str(times.instant(START_MS + 1_000 * index))


async def test_tasks_of_a_time_are_listed(api: Api) -> None:
    for task_id in "abcd":
        await api.submit(task_id)
    for query, expected in (
        (f"since={instant(2)}", "dcb"),
        (f"until={instant(3)}", "ba"),
        (f"since={instant(2)}&until={instant(4)}", "cb"),
        (f"since={instant(5)}", ""),
        ("since=2020-01-01T00:00:00%2B01:00", "dcba"),
        ("until=1969-12-31T23:59:59Z", ""),
    ):
        assert [task for page in await walk(api, query) for task in page] == list(expected), query
        pages = await walk(api, f"limit=1&{query}")
        assert [task for page in pages for task in page] == list(expected), query


async def test_page_ends_at_the_first_task_that_is_too_old(api: Api) -> None:
    looked_at: list[str] = []
    for task_id in "abcd":
        await api.submit(task_id)

    def test(task: Task) -> bool:
        looked_at.append(task.id)
        return True

    scan = listing.Scan(test, 10, None, START_MS + 3_000, show=views.task_view)
    scan.step(api.state)
    assert (looked_at, scan.is_done, scan.more) == (["d", "c"], True, False)


# A page that looks at many rows ------------------------------------------------------------------


def store(api: Api, count: int, *, queue: str = "default", **fields: Any) -> list[str]:
    """Tasks by the shortest way, up to a thousand an entry; their ids, newest first."""
    spec = msgspec.msgpack.encode(TaskSpec(("true",), **fields))
    ids = [f"{queue}-{n:06d}" for n in range(count)]
    step = min(1_000, ENTRY_BYTES_MAX // (2 * len(spec)))
    for start in range(0, count, step):
        part = ids[start : start + step]
        api.service.apply(SubmitTasks(tuple(NewTask(task_id, spec, queue) for task_id in part)))
    return ids[::-1]


@pytest.fixture
def between(api: Api, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """Shortest slices; each function in the list is called between two, the last one first."""
    monkeypatch.setattr(listing, "SLICE_SECONDS", 0.0)
    todo: list[Any] = []
    read, status = api.service.read, api.service.status
    scanning = False

    def turn() -> None:
        if scanning:
            if todo:
                todo.pop()()
            asyncio.get_running_loop().call_soon(turn)

    async def began(*args: Any, **options: Any) -> State:
        nonlocal scanning
        state = await read(*args, **options)
        scanning = True
        asyncio.get_running_loop().call_soon(turn)
        return state

    def ended() -> Any:
        nonlocal scanning
        scanning = False
        return status()

    monkeypatch.setattr(api.service, "read", began)
    monkeypatch.setattr(api.service, "status", ended)
    yield todo
    scanning = False


async def test_others_have_their_turn_while_a_page_looks_at_many_rows(
    api: Api, between: list[Any]
) -> None:
    store(api, 3_000)
    turns: list[int] = []
    between += [lambda: turns.append(1)] * 3_000
    assert (await api.get("/v1/tasks?queue=none")).json()["items"] == []
    assert len(turns) >= 3_000 // (2 * listing.CLOCK_ROWS)


async def test_lists_side_by_side_take_turns_too(api: Api, between: list[Any]) -> None:
    store(api, 1_000)
    wanted = store(api, 500, queue="wanted")
    store(api, 1_000, queue="new")
    pages = await asyncio.gather(*(api.get("/v1/tasks?queue=wanted&limit=1000") for _ in range(4)))
    for page in pages:
        assert [task["id"] for task in page.json()["items"]] == wanted


async def test_what_comes_and_goes_during_a_page_neither_repeats_nor_hides_the_rest(
    api: Api, between: list[Any]
) -> None:
    ids = store(api, 2_000)
    gone = [ids[n] for n in range(0, 2_000, 10)]
    spec = msgspec.msgpack.encode(TaskSpec(("true",)))

    def change(task_id: str) -> None:
        api.service.apply(CancelTask(task_id))
        api.service.apply(DeleteTask(task_id))
        api.service.apply(SubmitTasks((NewTask("new-" + task_id, spec),)))

    between += [lambda task_id=task_id: change(task_id) for task_id in gone]
    index = api.state.index
    answer = await api.get("/v1/tasks?limit=1000&label=x:y")
    assert answer.json() == {"items": [], "next_cursor": None, "index": index}
    changed = len(gone) - len(between)
    assert changed > 5, "the page was made in one go"
    assert answer.headers["Raftsched-Index"] == str(index), "what came meanwhile may be missing"

    between[:] = between[: len(between) // 2]
    page = (await api.get("/v1/tasks?limit=1000&state=queued&queue=default&cursor=")).json()
    shown = [task["id"] for task in page["items"]]
    assert len(set(shown)) == len(shown) == 1_000
    stayed = [task_id for task_id in ids if task_id not in gone]
    old = [task_id for task_id in shown if task_id in set(stayed)]
    assert old == stayed[: len(old)]


async def test_page_goes_on_in_a_state_that_was_restored_meanwhile(
    api: Api, between: list[Any]
) -> None:
    store(api, 1_000)
    wanted = store(api, 3, queue="wanted")
    store(api, 1_000, queue="new")

    def restore() -> None:
        chunks = list(codec.snapshot_chunks(api.service.state))
        api.service.state.end_snapshot()
        api.service.state = codec.restore_state(chunks)

    between.append(restore)
    page = (await api.get("/v1/tasks?queue=wanted")).json()
    assert not between and api.service.state is not api.state
    assert [task["id"] for task in page["items"]] == wanted


async def test_page_ends_early_after_its_rows_and_the_next_goes_on(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listing, "SCAN_ROWS_MAX", 300)
    wanted = store(api, 10, queue="wanted")
    store(api, 1_000)
    pages = await walk(api, "queue=wanted")
    assert pages == [[], [], [], wanted]


async def test_page_ends_early_after_its_bytes_and_the_next_goes_on(api: Api) -> None:
    ids = store(api, 100, stdin="x" * 60_000)
    pages = await walk(api, "limit=1000")
    assert [task_id for page in pages for task_id in page] == ids
    assert max(map(len, pages)) <= listing.PAGE_BYTES_MAX // 60_000 + 1


async def test_specification_is_not_looked_into_where_another_filter_decides(api: Api) -> None:
    api.service.apply(SubmitTasks((NewTask("odd", b"\xc1", "slow"),)))
    await api.submit("plain", name="report")
    answer = await api.get("/v1/tasks?queue=default&q=report")
    assert [task["id"] for task in answer.json()["items"]] == ["plain"]


async def test_text_elsewhere_in_the_specification_is_no_match(api: Api) -> None:
    await api.submit("t", name="x", stdin="report", env={"team": "web"}, labels={"web": "team"})
    for query in ("q=report", "label=team:web", "q=%ff", "label=%ff:%00"):
        assert (await api.get(f"/v1/tasks?{query}")).json()["items"] == [], query
    assert len((await api.get("/v1/tasks?q=x&label=web:team")).json()["items"]) == 1


async def test_no_slice_of_the_dearest_filter_takes_long(api: Api) -> None:
    # The text is in the bytes but in no name, so that every row is decoded.
    store(api, listing.SCAN_ROWS_MAX, stdin="report" + "x" * 1_000, env={"A": "b"})
    scan = listing.Scan(listing.filter_of({"q": ["report"]}), 1_000, None, show=views.task_view)
    slices = []
    while not scan.is_done:
        began = time.thread_time()
        scan.step(api.state)
        slices.append(time.thread_time() - began)
    assert scan.found == [] and len(slices) > 1
    assert max(slices) < 0.02
