"""Comparing the replicas over HTTP, and what a divergence does to everything else."""

from __future__ import annotations

from typing import Any

import pytest

from raftsched.core.commands import ENTRY_VERSION
from tests.unit.api.harness import Api

A, B, C = b"a" * 16, b"b" * 16, b"c" * 16


@pytest.fixture
def checked(api: Api) -> Api:
    """A cluster of the version that compares replicas."""
    api.state.version = ENTRY_VERSION
    return api


async def compare(api: Api, *digests: bytes) -> Any:
    """What a check says after these reports of ``n1``, ``n2`` and so on."""
    api.service.digests = {f"n{n}": found for n, found in enumerate(digests, 1)}
    answer = await api.post("/v1/cluster:verify?wait=1s")
    assert answer.status == 200, answer.body
    return answer.json()


@pytest.mark.parametrize(
    ("digests", "verdict", "peers"),
    [
        ((A, A, A), "same", ["same", "same", "same"]),
        ((A, A), "same", ["same", "same", "missing"]),
        ((A, B, A), "diverged", ["same", "diverged", "same"]),
        ((A, B), "open", ["unclear", "unclear", "missing"]),
        ((A,), "open", ["unclear", "missing", "missing"]),
        ((A, B, C), "split", ["unclear", "unclear", "unclear"]),
    ],
)
async def test_a_check_says_what_each_peer_has(
    checked: Api, digests: tuple[bytes, ...], verdict: str, peers: list[str]
) -> None:
    found = await compare(checked, *digests)
    assert (found["verdict"], [peer["verdict"] for peer in found["peers"]]) == (verdict, peers)
    assert found["peers"][0]["digest"] == A.hex()
    assert found["majority"] == (A.hex() if verdict in ("same", "diverged") else None)
    assert found["suspect"] is (verdict == "split")
    assert (await checked.get("/v1/cluster")).json()["check"] == found


async def test_a_cluster_that_never_compared_has_no_check(api: Api) -> None:
    cluster = (await api.get("/v1/cluster")).json()
    assert (cluster["check"], cluster["suspect"]) == (None, False)


@pytest.mark.parametrize("query", ["?wait=soon", "?wat=1s"])
async def test_a_check_with_a_wrong_query_begins_nothing(checked: Api, query: str) -> None:
    (await checked.post(f"/v1/cluster:verify{query}")).problem(422, "invalid")
    assert checked.state.check is None


async def test_writes_are_refused_and_reads_marked_while_replicas_differ(checked: Api) -> None:
    await checked.populate()
    before = await checked.get("/v1/tasks/t")
    assert "Raftsched-Suspect" not in before.headers
    await compare(checked, A, B, C)
    for path, body in (
        ("/v1/tasks", {"command": ["true"]}),
        ("/v1/tasks/t/cancel", {}),
        ("/v1/nodes/n1/cordon", {}),
    ):
        problem = (await checked.post(path, body)).problem(503, "replica-divergence")
        assert (problem["applied"], problem["retryable"]) == (False, False)
    [line] = (await checked.batch([{"command": ["true"]}])).lines()
    assert (line["code"], line["status"]) == ("replica-divergence", 503), line
    for path in ("/v1/tasks/t", "/v1/tasks", "/v1/nodes", "/v1/cluster"):
        answer = await checked.get(path)
        assert (answer.status, answer.headers["Raftsched-Suspect"]) == (200, "true")
    assert (await checked.get("/v1/cluster")).json()["suspect"] is True
    (await checked.get("/health/ready")).problem(503, "replica-divergence")


async def test_a_later_majority_takes_writes_again(checked: Api) -> None:
    await checked.populate()
    await compare(checked, A, B, C)
    assert (await compare(checked, A, A, B))["suspect"] is False
    answer = await checked.post("/v1/tasks", {"command": ["true"]})
    assert (answer.status, "Raftsched-Suspect" in answer.headers) == (201, False)
    assert (await checked.get("/health/ready")).status == 200
