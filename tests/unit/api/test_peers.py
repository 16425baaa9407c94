"""Routes of the group's members."""

from __future__ import annotations

from typing import Any

import pytest

from raftsched.peer.config import PeerAddress
from raftsched.peer.errors import ChangeRefused
from tests.unit.api.harness import PEER, Api

ADDRESS = PeerAddress(PEER["raft"], PEER["api"])


async def test_members_are_listed_with_their_roles(api: Api) -> None:
    document = (await api.get("/v1/cluster/peers")).json()
    assert [(row["id"], row["role"]) for row in document["items"]] == [
        ("n1", "voter"),
        ("n2", "voter"),
        ("n3", "voter"),
    ]
    assert document["done"] is True


async def test_addition_and_replacement_say_what_is_wanted(api: Api) -> None:
    assert (await api.post("/v1/cluster/peers", PEER)).status == 200
    assert (await api.post("/v1/cluster/peers", {**PEER, "replaces": "n2"})).status == 200
    assert api.service.changes == [({"n4": ADDRESS}, ""), ({"n4": ADDRESS}, "n2")]


async def test_what_is_not_done_in_time_is_202_and_says_what_it_waits_for(api: Api) -> None:
    api.service.change_trouble = "waits"
    answer = await api.post("/v1/cluster/peers?wait=10ms", PEER)
    assert (answer.status, answer.json()["done"]) == (202, False)
    assert answer.json()["waits_for"] == "n4 lacks 7 entries"


async def test_removal_needs_no_body(api: Api) -> None:
    assert (await api.ask("DELETE", "/v1/cluster/peers/n2")).status == 200
    assert api.service.changes == [({}, "n2")]


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"id": "no spaces"}, "/id"),
        ({"id": "x" * 33}, "/id"),
        ({"raft": "nowhere"}, "/raft"),
        ({"api": "h:0"}, "/api"),
        ({"replaces": 1}, "/replaces"),
    ],
)
async def test_wrong_field_is_pointed_at(api: Api, change: dict[str, Any], pointer: str) -> None:
    answer = await api.post("/v1/cluster/peers", {**PEER, **change})
    assert answer.pointer(422, "invalid") == pointer
    assert api.service.changes == []


async def test_dry_run_changes_nothing(api: Api) -> None:
    assert (await api.post("/v1/cluster/peers?dry_run=1", PEER)).json() == {"valid": True}
    assert (await api.ask("DELETE", "/v1/cluster/peers/n2?dry_run=1")).json() == {"valid": True}
    assert api.service.changes == []


async def test_refusal_is_a_409_that_says_why(api: Api) -> None:
    api.service.propose_trouble = ChangeRefused("n3 did not answer")
    answer = await api.ask("DELETE", "/v1/cluster/peers/n2")
    assert "n3 did not answer" in answer.problem(409, "change-refused")["detail"]
