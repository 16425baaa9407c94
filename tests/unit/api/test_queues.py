"""Routes of queues, limits, explanations, and what changes a node."""

from __future__ import annotations

from typing import Any

import pytest

from raftsched.core.commands import DrainNode
from raftsched.core.model import Eligibility, TaskStatus
from tests.unit.api.harness import Api


async def put(api: Api, path: str, body: Any, **headers: Any) -> Any:
    answer = await api.ask("PUT", path, body, **headers)
    assert answer.status == 200, answer.body
    return answer.json()


# Queues ----------------------------------------------------------------------------------------


async def test_a_queue_is_as_by_default_until_it_is_set(api: Api) -> None:
    await api.submit("t", queue="q1")
    view = (await api.get("/v1/queues/q1")).json()
    assert view == {
        "name": "q1", "paused": False, "concurrency": 0, "max_depth": 0, "open": 1, "running": 0,
        "retention": {"age": 0, "count": 0, "bytes": 0}, "defaults": {}, "modify_index": 0,
    }  # fmt: skip
    made = await put(api, "/v1/queues/q1", {"concurrency": 2, "max_depth": 9})
    assert (made["concurrency"], made["max_depth"], made["modify_index"] > 0) == (2, 9, True)


async def test_setting_a_queue_keeps_its_pause_unless_it_says_otherwise(api: Api) -> None:
    assert (await api.post("/v1/queues/q1/pause")).json()["paused"] is True
    assert (await put(api, "/v1/queues/q1", {"concurrency": 2}))["paused"] is True
    assert (await put(api, "/v1/queues/q1", {"paused": False}))["concurrency"] == 0
    assert (await api.post("/v1/queues/q1/pause")).json()["paused"] is True
    assert (await api.post("/v1/queues/q1/resume")).json()["paused"] is False


async def test_a_queue_that_was_changed_since_is_not_overwritten(api: Api) -> None:
    made = await put(api, "/v1/queues/q1", {"concurrency": 2})
    await put(api, "/v1/queues/q1", {"concurrency": 3})
    tag = f'"{made["modify_index"]}"'
    for query in ("", "?dry_run=1"):
        answer = await api.ask("PUT", f"/v1/queues/q1{query}", {}, If_Match=tag)
        told = answer.problem(412, "modified")["detail"]
        assert "queue 'q1' has modify index 2 now, and 1 was asked for; read it again" in told
    answer = await api.get("/v1/queues/q1")
    assert answer.json()["concurrency"] == 3
    assert (await put(api, "/v1/queues/q1", {}, If_Match=answer.headers["ETag"]))["paused"] is False


async def test_queues_are_listed_by_name_a_page_at_a_time(api: Api) -> None:
    for name in ("b", "c"):
        await put(api, f"/v1/queues/{name}", {})
    await api.submit("t", queue="a")
    page = (await api.get("/v1/queues?limit=2")).json()
    assert [item["name"] for item in page["items"]] == ["a", "b"]
    rest = (await api.get(f"/v1/queues?cursor={page['next_cursor']}")).json()
    assert ([item["name"] for item in rest["items"]], rest["next_cursor"]) == (["c"], None)


async def test_a_deleted_queue_is_as_by_default(api: Api) -> None:
    await put(api, "/v1/queues/q1", {"concurrency": 2})
    for query, status in (("?dry_run=1", 200), ("", 204)):
        assert (await api.ask("DELETE", f"/v1/queues/q1{query}", {})).status == status
    assert (await api.get("/v1/queues/q1")).json()["concurrency"] == 0
    for query in ("?dry_run=1", ""):
        answer = await api.ask("DELETE", f"/v1/queues/q1{query}", {})
        answer.problem(404, "unknown-queue")


async def test_a_purge_cancels_what_no_node_has_and_nothing_of_other_queues(api: Api) -> None:
    api.service.add_node("n1")
    for name in ("a", "b", "runs"):
        await api.submit(name, queue="q1")
    await api.submit("other")
    api.service.start("runs")
    tried = (await api.post("/v1/queues/q1/purge?dry_run=1")).json()
    assert (tried["matched"], tried["changed"]) == (2, 0)
    done = (await api.post("/v1/queues/q1/purge", {"reason": "spring"})).json()
    assert (sorted(done["ids"]), done["changed"], done["more"]) == (["a", "b"], 2, False)
    states = {name: api.service.task(name).status for name in ("a", "runs", "other")}
    assert states == {
        "a": TaskStatus.CANCELLED, "runs": TaskStatus.RUNNING, "other": TaskStatus.QUEUED,
    }  # fmt: skip
    assert api.service.task("a").reason == "spring"


@pytest.mark.parametrize("name", ["%20", "a%2Fb", "x" * 65, "-", "%0d%0a", "%F0%9F%A6%84"])
@pytest.mark.parametrize("verb", ["", "/pause", "/purge"])
async def test_a_name_that_no_queue_can_have_is_not_found(api: Api, name: str, verb: str) -> None:
    method = "POST" if verb else "PUT"
    answer = await api.ask(method, f"/v1/queues/{name}{verb}", {})
    answer.problem(404, "unknown-queue")
    assert not api.service.proposed


# Limits ----------------------------------------------------------------------------------------


async def test_a_limit_is_a_mutex_until_it_is_set(api: Api) -> None:
    view = (await api.get("/v1/limits/k1")).json()
    assert view == {
        "key": "k1", "count": 1, "rate": None, "held": 0, "full_at": None, "modify_index": 0,
    }  # fmt: skip
    rate = {"count": 10, "per": "1m", "burst": 3}
    made = await put(api, "/v1/limits/k1", {"count": 0, "rate": rate})
    assert (made["count"], made["rate"]) == (0, {"count": 10, "per": 60, "burst": 3})
    assert (await api.ask("DELETE", "/v1/limits/k1", {})).status == 204
    assert (await api.get("/v1/limits/k1")).json()["count"] == 1
    (await api.ask("DELETE", "/v1/limits/k1", {})).problem(404, "unknown-limit")
    (await api.ask("DELETE", "/v1/limits/k1?dry_run=1", {})).problem(404, "unknown-limit")


async def test_a_key_may_have_slashes(api: Api) -> None:
    await put(api, "/v1/limits/tenant%2Fa:b@c", {"count": 4})
    api.service.add_node("n1")
    await api.submit("t", limits=["tenant/a:b@c"])
    api.service.start("t")
    page = (await api.get("/v1/limits")).json()
    assert [(i["key"], i["count"], i["held"]) for i in page["items"]] == [("tenant/a:b@c", 4, 1)]


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"count": -1}, "/count"),
        ({"count": "2"}, "/count"),
        ({"rate": {"count": 0}}, "/rate/count"),
        ({"rate": {"count": 1, "per": 0}}, "/rate/per"),
        ({"rate": {"count": 1, "per": "soon"}}, "/rate/per"),
        ({"rate": {"count": 1, "burst": 0}}, "/rate/burst"),
        ({"rate": {}}, "/rate"),
        ({"rate": 5}, "/rate"),
    ],
)
async def test_wrong_limits_are_pointed_at(api: Api, body: dict[str, Any], pointer: str) -> None:
    answer = await api.ask("PUT", "/v1/limits/k1", body)
    assert answer.pointer(422, "invalid") == pointer
    assert not api.service.proposed


async def test_wrong_queues_are_pointed_at(api: Api) -> None:
    for body, pointer in (({"concurrency": -1}, "/concurrency"), ({"paused": 1}, "/paused")):
        answer = await api.ask("PUT", "/v1/queues/q1", body)
        assert answer.pointer(422, "invalid") == pointer


# Explaining ------------------------------------------------------------------------------------


async def test_an_explanation_says_what_is_in_the_way_and_node_by_node_why(api: Api) -> None:
    api.service.add_node("n1")
    api.service.add_node("n2", labels={"zone": "a"}, slots=0)
    await api.submit("t", constraints=["zone = a"], not_before="1h")
    answer = (await api.get("/v1/tasks/t/explain")).json()
    assert (answer["verdict"], answer["state"]) == ("blocked", "waiting")
    assert [b["kind"] for b in answer["blockers"]] == ["not_before", "no_capacity"]
    assert answer["blockers"][0]["until"].endswith("Z")
    assert [(n["node"], n["reason"]) for n in answer["nodes"]] == [
        ("n1", "constraint"), ("n2", "node-full"),
    ]  # fmt: skip
    assert answer["nodes"][0]["text"] == "it wants zone = a; the node has no such label"


async def test_an_explanation_of_a_task_that_will_run_has_its_position(api: Api) -> None:
    api.service.add_node("n1")
    await api.submit("t0")
    await api.submit("t1")
    answer = (await api.get("/v1/tasks/t1/explain")).json()
    assert (answer["verdict"], answer["position"]) == ("will_run", 1)
    assert answer["nodes"] == [{"node": "n1", "reason": None, "text": "it may go here"}]
    (await api.get("/v1/tasks/none/explain")).problem(404, "unknown-task")


# Nodes -----------------------------------------------------------------------------------------


async def test_labels_of_a_node_are_replaced_at_run_time(api: Api) -> None:
    api.service.add_node("n1", labels={"zone": "a", "disk": "ssd"})
    row = await put(api, "/v1/nodes/n1/labels", {"labels": {"zone": "b", "gpu": ""}})
    assert row["labels"] == {"zone": "b", "disk": "ssd", "gpu": ""}
    assert row["labels_set"] == {"zone": "b", "gpu": ""}
    assert (await put(api, "/v1/nodes/n1/labels", {"labels": {}}))["labels"]["zone"] == "a"


@pytest.mark.parametrize("labels", [{"a b": "x"}, {"a": "x y"}, {"": "x"}, {"a": 1}, [], "x"])
async def test_wrong_labels_are_pointed_at(api: Api, labels: Any) -> None:
    api.service.add_node("n1")
    answer = await api.ask("PUT", "/v1/nodes/n1/labels", {"labels": labels})
    assert answer.pointer(422, "invalid").startswith("/labels")


async def test_a_drain_has_patience_and_is_undone_by_uncordon(api: Api) -> None:
    api.service.add_node("n1")
    row = (await api.post("/v1/nodes/n1/drain", {"patience": "5m"})).json()
    assert row["eligibility"] == "draining" and row["drain_at"]
    assert DrainNode("n1", 300_000) in api.service.proposed
    row = (await api.post("/v1/nodes/n1/uncordon")).json()
    assert (row["eligibility"], row["drain_at"]) == (Eligibility.ELIGIBLE, None)
    assert (await api.post("/v1/nodes/n1/drain", {"patience": "x"})).pointer(
        422, "invalid"
    ) == "/patience"
    for path in ("/v1/nodes/n9/drain", "/v1/nodes/n9/drain?dry_run=1"):
        (await api.post(path)).problem(404, "unknown-node")


async def test_what_a_node_has_of_custom_resources_is_shown(api: Api) -> None:
    api.service.add_node("n1", resources=(("gpu", 2),))
    await api.submit("t", resources={"gpu": 1})
    api.service.start("t")
    row = (await api.get("/v1/nodes/n1")).json()
    assert (row["resources"], row["resources_used"]) == ({"gpu": 2}, {"gpu": 1})


# Defaults and retention of a queue -------------------------------------------------------------


async def test_a_task_asks_for_what_its_queue_says_unless_it_says_it_itself(api: Api) -> None:
    defaults = {"retry": {"max_attempts": 4, "base": "9s"}, "timeout": "5m", "priority": 70}
    view = await put(api, "/v1/queues/slow", {"defaults": defaults})
    assert view["defaults"] == defaults
    plain = await api.submit("plain", queue="slow")
    assert (plain["retry"]["max_attempts"], plain["timeout"], plain["priority"]) == (4, 300, 70)
    own = await api.submit("own", queue="slow", retry={"max_attempts": 2}, timeout=0)
    assert (own["retry"]["max_attempts"], own["retry"]["base"], own["timeout"]) == (2, 9, 0)
    answers = (await api.batch([{"command": ["x"], "queue": "slow"}])).lines()
    many = (await api.get(f"/v1/tasks/{answers[0]['id']}")).json()
    assert many["priority"] == 70
    elsewhere = await api.submit("elsewhere")
    assert (elsewhere["retry"]["max_attempts"], elsewhere["priority"]) == (1, 50)


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"defaults": {"command": ["x"]}}, "/defaults/command"),
        ({"defaults": {"priority": 101}}, "/defaults/priority"),
        ({"defaults": {"nonsense": 1}}, "/defaults/nonsense"),
        ({"defaults": {"retry": {"base": "x"}}}, "/defaults/retry/base"),
        ({"defaults": []}, "/defaults"),
        ({"retention": {"age": "x"}}, "/retention/age"),
        ({"retention": {"count": -1}}, "/retention/count"),
        ({"retention": {"bytes": "many"}}, "/retention/bytes"),
    ],
)
async def test_what_no_task_could_ask_for_is_no_default(api: Api, body: Any, pointer: str) -> None:
    before = api.service.rows()
    answer = await api.ask("PUT", "/v1/queues/slow", body)
    assert answer.pointer(422, "invalid") == pointer
    assert api.service.rows() == before


async def test_retention_of_a_queue_is_shown_as_it_was_said(api: Api) -> None:
    asked = {"age": "2d", "count": 7, "bytes": "1MiB"}
    view = await put(api, "/v1/queues/slow", {"retention": asked})
    assert view["retention"] == {"age": 172_800, "count": 7, "bytes": 1 << 20}
