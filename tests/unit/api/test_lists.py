"""Lists: pages that follow one another without gap or repeat, and filters."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from raftsched.core.commands import CancelTask, DeleteTask
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
        ("label=team:web", "ca"), ("label=team:web&label=tier:1", "a"), ("label=team", ""),
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
