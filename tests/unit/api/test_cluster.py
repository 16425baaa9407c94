"""Nodes, the cluster as one peer sees it, and this peer itself."""

from __future__ import annotations

import time

import msgspec
import pytest

from raftsched import __version__
from raftsched.core.commands import NodeLost, ResetClock
from raftsched.peer.errors import NeedsVersion
from raftsched.peer.service import Told
from raftsched.raft.log import Role
from tests.unit.api.fake_service import START_MS, TOKEN
from tests.unit.api.harness import Api


async def test_nodes_are_listed_by_id_with_what_they_have_and_hold(api: Api) -> None:
    api.service.add_node("n2", labels={"zone": "b"}, version="1.2")
    api.service.add_node("n1")
    await api.submit("t", resources={"cpu": 0.5, "memory": "1MiB"})
    api.service.start("t", "n2")
    answer = (await api.get("/v1/nodes")).json()
    first, second = answer["items"]
    assert (first["id"], second["id"], answer["next_cursor"]) == ("n1", "n2", None)
    assert answer["index"] == api.state.index
    assert (first["attempts"], first["cpu_used"], first["memory_used"]) == (0, 0, 0)
    assert (second["attempts"], second["cpu_used"], second["memory_used"]) == (1, 0.5, 1 << 20)
    assert (second["slots"], second["cpu"], second["memory_bytes"]) == (4, 4, 1 << 30)
    assert (second["status"], second["eligibility"]) == ("up", "eligible")
    assert (second["labels"], second["version"]) == ({"zone": "b"}, "1.2")
    assert (await api.get("/v1/nodes/n2")).json() == second
    (await api.get("/v1/nodes/n9")).problem(404, "unknown-node")


async def test_lost_node_says_since_when_and_why(api: Api) -> None:
    api.service.add_node("n2")
    api.service.apply(NodeLost("n2", "n2-1", "no word for 15 s", api.service.current.term))
    node = (await api.get("/v1/nodes/n2")).json()
    assert (node["status"], node["reason"]) == ("lost", "no word for 15 s")
    assert node["status_since"] > node["registered_at"]


async def test_cordon_and_uncordon_may_be_repeated(api: Api) -> None:
    api.service.add_node("n2")
    seen = []
    for verb in ("cordon", "cordon", "uncordon", "uncordon"):
        answer = await api.post(f"/v1/nodes/n2/{verb}")
        assert answer.status == 200
        seen.append(answer.json()["eligibility"])
    assert seen == ["cordoned", "cordoned", "eligible", "eligible"]


async def test_dry_run_of_a_cordon_changes_nothing(api: Api) -> None:
    api.service.add_node("n2")
    before, index = api.service.rows(), api.state.index
    for verb in ("cordon", "uncordon"):
        assert (await api.post(f"/v1/nodes/n2/{verb}?dry_run=1")).json() == {"valid": True}
        (await api.post(f"/v1/nodes/n9/{verb}?dry_run=1")).problem(404, "unknown-node")
    assert (api.service.rows(), api.state.index) == (before, index)


async def test_cluster_names_all_peers_and_who_leads(api: Api) -> None:
    await api.populate()
    cluster = (await api.get("/v1/cluster")).json()
    assert [peer["id"] for peer in cluster["peers"]] == ["n1", "n2", "n3"]
    assert [peer["is_leader"] for peer in cluster["peers"]] == [True, False, False]
    assert [peer["node_status"] for peer in cluster["peers"]] == ["up", "up", None]
    assert all(peer["connected"] for peer in cluster["peers"])
    fields = ("cluster_id", "served_by", "role", "leader", "term", "has_quorum", "version")
    assert [cluster[name] for name in fields] == [
        "fake", "n1", "leader", "n1", 3, True, __version__
    ]  # fmt: skip
    assert cluster["tasks"] == {"queued": 2, "running": 1, "failed": 1, "succeeded": 1}
    assert cluster["applied_index"] == cluster["commit_index"] == api.state.index


@pytest.mark.parametrize(("connected", "quorum"), [(("n2",), True), ((), False)])
async def test_cluster_without_a_leader_still_says_what_this_peer_sees(
    api: Api, connected: tuple[str, ...], quorum: bool
) -> None:
    api.service.lose_the_leader()
    api.service.current = msgspec.structs.replace(api.service.current, connected=connected)
    answer = await api.get("/v1/cluster")
    cluster = answer.json()
    assert (answer.status, cluster["leader"], cluster["has_quorum"]) == (200, None, quorum)
    assert {p["id"] for p in cluster["peers"] if p["connected"]} == {"n1", *connected}


@pytest.mark.parametrize(
    ("body", "leader"),
    [(None, "n2"), ({}, "n2"), ({"target": None}, "n2"), ({"target": "n3"}, "n3")],
)
async def test_leadership_goes_where_it_is_asked_to(api: Api, body: object, leader: str) -> None:
    data = b"" if body is None else None
    answer = await api.ask("POST", "/v1/cluster/leader:transfer", body, data=data)
    assert (answer.status, answer.json()) == (200, {"leader": leader})
    assert api.service.current.leader == leader


@pytest.mark.parametrize("target", ["n9", "", "N2"])
async def test_leadership_does_not_go_to_a_stranger(api: Api, target: str) -> None:
    answer = await api.post("/v1/cluster/leader:transfer", {"target": target})
    assert answer.pointer(422, "invalid") == "/target"
    assert "n1, n2, n3" in answer.json()["detail"]
    assert api.service.current.leader == "n1"


async def test_dry_run_of_a_transfer_leaves_the_leader(api: Api) -> None:
    answer = await api.post("/v1/cluster/leader:transfer?dry_run=1", {"target": "n2"})
    assert answer.json() == {"valid": True}
    answer = await api.post("/v1/cluster/leader:transfer?dry_run=1", {"target": "n9"})
    assert answer.pointer(422, "invalid") == "/target"
    assert api.service.current.leader == "n1"


async def test_agent_is_this_peer(api: Api) -> None:
    api.service.is_draining = True
    agent = (await api.get("/v1/agent")).json()
    assert (agent["id"], agent["version"], agent["draining"]) == ("n1", __version__, True)
    assert agent["started_at"] == "2023-11-14T22:13:20.000Z" and START_MS == 1_700_000_000_000
    assert agent["uptime"] > 0


async def test_configuration_is_shown_without_the_token(api: Api) -> None:
    answer = await api.get("/v1/agent/config")
    config = answer.json()
    assert (config["peer_id"], config["cluster_id"]) == ("n1", "fake")
    assert config["peers"]["n1"]["api"] == api.address
    assert config["token"] == "(redacted)" and TOKEN.encode() not in answer.body


async def test_no_answer_shows_the_token(api: Api) -> None:
    await api.populate()
    for path in ("/v1/cluster", "/v1/agent", "/v1/nodes", "/metrics", "/v1/openapi.json"):
        answer = await api.get(path)
        assert TOKEN.encode() not in answer.body + str(answer.headers).encode(), path


async def test_follower_says_who_leads_in_every_answer(api: Api) -> None:
    api.service.current = msgspec.structs.replace(
        api.service.current, leader="n2", role=Role.FOLLOWER, last_contact_ms=None
    )
    headers = (await api.get("/v1/nodes")).headers
    assert headers["Raftsched-Known-Leader"] == "n2"
    assert headers["Raftsched-Last-Contact-Ms"] == ""


async def test_clock_is_set_to_a_time_or_to_that_of_the_peer_that_answers(api: Api) -> None:
    await api.populate()
    body = {"now": "2020-01-01T00:00:00Z", "by": "operator"}
    answer = (await api.post("/v1/cluster/clock:reset", body)).json()
    assert answer == {"before": answer["before"], "now": "2020-01-01T00:00:00.000Z"}
    assert api.state.now == 1_577_836_800_000
    command = api.service.proposed[-1]
    assert isinstance(command, ResetClock)
    assert command.by.startswith("operator (127.0.0.1")
    before = time.time_ns() // 1_000_000
    assert (await api.post("/v1/cluster/clock:reset", {})).status == 200
    assert api.state.now >= before
    assert (await api.get("/v1/cluster")).json()["now"] > "2020"


@pytest.mark.parametrize(
    "now", ["1969-12-31T00:00:00Z", "2020-01-01T00:00:00", "soon", 5, "9999-12-31T23:59:59-05:00"]
)
async def test_clock_is_not_set_to_rubbish(api: Api, now: object) -> None:
    answer = await api.post("/v1/cluster/clock:reset", {"now": now})
    assert answer.status == 422
    assert api.state.clock_resets == 0


async def test_dry_run_of_a_clock_reset_changes_nothing(api: Api) -> None:
    answer = await api.post("/v1/cluster/clock:reset?dry_run=1", {})
    assert answer.json() == {"valid": True}
    assert api.state.clock_resets == 0


async def test_clock_of_a_cluster_that_is_not_upgraded_is_not_set(api: Api) -> None:
    api.state.version = 1
    (await api.post("/v1/cluster/clock:reset", {})).problem(409, "needs-version")
    api.service.propose_trouble = NeedsVersion("upgrade all peers first")
    (await api.post("/v1/cluster/clock:reset", {})).problem(409, "needs-version")


async def test_cluster_shows_what_the_peers_told_the_leader(api: Api) -> None:
    api.service.facts = {"n1": Told("0.2.0", 3, 0), "n2": Told("", 2, None)}
    cluster = (await api.get("/v1/cluster")).json()
    told = [(p["program"], p["version_max"], p["clock_offset_ms"]) for p in cluster["peers"]]
    assert told == [("0.2.0", 3, 0), ("", 2, None), (None, None, None)]
    assert cluster["cluster_version"] == api.state.version
