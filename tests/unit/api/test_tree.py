"""A task for several nodes: how it is asked for, shown, listed and steered."""

from __future__ import annotations

from typing import Any

import pytest

from raftsched.core.commands import RegisterNode
from tests.unit.api.harness import Api

PARTS = ["t.1", "t.2"]


@pytest.fixture
async def two(api: Api) -> Api:
    """An API with two nodes."""
    for node_id in ("n1", "n2"):
        api.service.add_node(node_id)
    return api


async def broadcast(api: Api, wide: Any = "all", **fields: Any) -> dict[str, Any]:
    return await api.submit("t", broadcast=wide, **fields)


async def test_a_broadcast_is_shown_with_its_parts(two: Api) -> None:
    made = await broadcast(two)
    shown = ("broadcast", "parent", "subtasks", "state", "reason")
    assert [made[name] for name in shown] == ["all", None, 2, "waiting", "subtasks"]
    tree = (await two.get("/v1/tasks/t/tree")).json()
    assert tree["task"] == made
    assert tree["counts"] == {"queued": 2}
    assert [part["id"] for part in tree["items"]] == PARTS
    assert {part["parent"] for part in tree["items"]} == {"t"}
    assert tree["items"][0]["constraints"] == ["node.id = n1"]
    assert tree["next_cursor"] is None


async def test_a_part_has_addresses_like_any_task(two: Api) -> None:
    await broadcast(two)
    two.service.run("t.1", output=b"here")
    assert (await two.get("/v1/tasks/t.1")).json()["state"] == "succeeded"
    assert (await two.get("/v1/tasks/t.1/attempts")).json()["items"][0]["node"] == "n1"
    assert (await two.get("/v1/tasks/t.2/explain")).json()["verdict"] == "will_run"


async def test_a_tree_is_read_by_pages(two: Api) -> None:
    await broadcast(two)
    first = await two.get("/v1/tasks/t/tree?limit=1")
    assert [part["id"] for part in first.json()["items"]] == PARTS[:1]
    assert "cursor=1" in first.headers["Link"]
    second = (await two.get("/v1/tasks/t/tree?limit=1&cursor=1")).json()
    assert [part["id"] for part in second["items"]] == PARTS[1:]
    assert second["next_cursor"] is None


@pytest.mark.parametrize("cursor", ["x", "-1", "9" * 40, "%C2%B2"])
async def test_a_cursor_of_something_else_is_pointed_at(two: Api, cursor: str) -> None:
    await broadcast(two)
    answer = await two.get(f"/v1/tasks/t/tree?cursor={cursor}")
    assert answer.pointer(422, "invalid") == "?cursor"


async def test_a_task_that_was_not_split_has_an_empty_tree(two: Api) -> None:
    await two.submit("t")
    tree = (await two.get("/v1/tasks/t/tree")).json()
    assert (tree["counts"], tree["items"]) == ({}, [])
    (await two.get("/v1/tasks/nobody/tree")).problem(404, "unknown-task")


async def test_parts_are_listed_by_their_parent(two: Api) -> None:
    await two.submit("other")
    await broadcast(two)
    listed = (await two.get("/v1/tasks?parent=t")).json()["items"]
    assert sorted(part["id"] for part in listed) == PARTS


@pytest.mark.parametrize("wide", [0, -1, 1_001, "some", 1.5, True, ["n1"]])
async def test_rubbish_is_pointed_at(two: Api, wide: Any) -> None:
    answer = await two.post("/v1/tasks", {"command": ["true"], "broadcast": wide})
    assert answer.pointer(422, "invalid") == "/broadcast"


async def test_explain_says_that_it_ends_with_its_parts(two: Api) -> None:
    await broadcast(two)
    explained = (await two.get("/v1/tasks/t/explain")).json()
    assert explained["verdict"] == "blocked"
    assert explained["text"] == "it ends with its 2 subtasks: 2 queued"
    two.service.start("t.1")
    explained = (await two.get("/v1/tasks/t/explain")).json()
    assert explained["verdict"] == "running"
    assert explained["text"] == "it ends with its 2 subtasks: 1 assigned, 1 queued" or (
        explained["text"] == "it ends with its 2 subtasks: 1 queued, 1 running"
    )


async def test_a_part_is_neither_edited_nor_deleted_alone(two: Api) -> None:
    await broadcast(two)
    for query in ("", "?dry_run=1"):
        edited = await two.ask("PATCH", f"/v1/tasks/t.1{query}", {"priority": 1})
        assert edited.problem(409, "part-of-tree")["task_id"] == "t"
        (await two.ask("PATCH", f"/v1/tasks/t{query}", {"priority": 1})).problem(
            409, "part-of-tree"
        )
    await two.post("/v1/tasks/t.1/cancel")
    for query in ("", "?dry_run=1"):
        gone = await two.ask("DELETE", f"/v1/tasks/t.1{query}")
        assert gone.problem(409, "part-of-tree")["task_id"] == "t"


async def test_it_is_cancelled_and_deleted_as_a_whole(two: Api) -> None:
    await broadcast(two)
    assert (await two.post("/v1/tasks/t/cancel")).json()["state"] == "cancelled"
    assert (await two.ask("DELETE", "/v1/tasks/t")).status == 204
    (await two.get("/v1/tasks/t.1")).problem(404, "unknown-task")


async def test_a_retry_asks_the_nodes_of_now(two: Api) -> None:
    await broadcast(two)
    await two.post("/v1/tasks/t/cancel")
    two.service.apply(
        RegisterNode("n3", "a", "http://n3", 4_000, 8_000, 4, True)  # A third node came.
    )
    again = (await two.post("/v1/tasks/t/retry")).json()
    assert (again["broadcast"], again["subtasks"], again["retry_of"]) == ("all", 3, "t")


async def test_a_retry_of_a_part_is_a_task_of_its_own_there(two: Api) -> None:
    await broadcast(two)
    two.service.start("t.2", "n2")
    two.service.finish("t.2", "failed")
    again = (await two.post("/v1/tasks/t.2/retry")).json()
    assert (again["parent"], again["constraints"]) == (None, ["node.id = n2"])
