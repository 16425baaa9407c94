"""Commands about nodes, cluster and leader against a stub."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner, Result

from raftsched.cli.main import cli
from tests.unit.client.stub import Answer, Asked, Stub, problem, sequence

NODE = {
    "id": "n1",
    "status": "up",
    "eligibility": "eligible",
    "slots": 8,
    "cpu_milli": 2000,
    "memory_bytes": 2**32,
    "address": "http://127.0.0.1:7400",
}
CLUSTER = {
    "cluster_id": "dev",
    "leader": "n2",
    "term": 3,
    "peers": [{"id": "n1", "role": "follower", "api": "127.0.0.1:7400"}],
}


def call(stub: Stub, *arguments: str) -> Result:
    return CliRunner().invoke(cli, [*arguments, "--addr", stub.address])


def test_node_ls() -> None:
    with Stub(sequence(Answer(200, {"items": [NODE]}))) as stub:
        line = call(stub, "node", "ls").stdout.splitlines()[1]
    assert line.split()[:6] == ["n1", "up", "eligible", "8", "2", "4.0GiB"]


def test_cordon_and_uncordon() -> None:
    with Stub(sequence(Answer(200, NODE))) as stub:
        assert call(stub, "node", "cordon", "n1").stdout == "n1\n"
        assert call(stub, "node", "uncordon", "n1").stdout == "n1\n"
    paths = [asked.path for asked in stub.asked]
    assert paths == ["/v1/nodes/n1/cordon", "/v1/nodes/n1/uncordon"]


def test_cluster_status() -> None:
    with Stub(sequence(Answer(200, CLUSTER))) as stub:
        result = call(stub, "cluster", "status")
        assert json.loads(call(stub, "cluster", "status", "-o", "json").stdout) == CLUSTER
    assert result.exit_code == 0
    assert "leader      n2" in result.stdout
    assert "follower" in result.stdout


def test_cluster_without_leader_is_exit_6_and_still_shown() -> None:
    with Stub(sequence(Answer(200, {**CLUSTER, "leader": None}))) as stub:
        result = call(stub, "cluster", "status")
        assert (result.exit_code, "dev" in result.stdout) == (6, True)
        assert call(stub, "leader", "show").exit_code == 6


def test_leader_show_and_transfer() -> None:
    with Stub(sequence(Answer(200, CLUSTER), Answer(200, {"leader": "n1"}))) as stub:
        assert call(stub, "leader", "show").stdout == "n2\n"
        assert call(stub, "leader", "transfer", "n1").stdout == "n1\n"
    assert stub.asked[1].path == "/v1/cluster/leader:transfer"
    assert stub.asked[1].json() == {"target": "n1"}


def test_clock_is_reset_only_when_that_is_confirmed() -> None:
    done = {"before": "2030-01-01T00:00:00.000Z", "now": "2025-01-01T00:00:00.000Z"}
    with Stub(sequence(Answer(200, done))) as stub:
        assert call(stub, "cluster", "reset-clock").exit_code == 130
        assert stub.asked == []
        result = call(stub, "cluster", "reset-clock", "--yes", "--to", "2025-01-01T00:00:00Z")
    assert (result.exit_code, "2025-01-01" in result.stdout) == (0, True)
    assert stub.asked[0].path == "/v1/cluster/clock:reset"
    assert stub.asked[0].json()["now"] == "2025-01-01T00:00:00Z"
    assert stub.asked[0].json()["by"]


def test_unknown_node_names_those_there_are() -> None:
    def respond(asked: Asked) -> Answer:
        if asked.path == "/v1/nodes":
            return Answer(200, {"items": [NODE, {**NODE, "id": "n2"}]})
        return problem(404, "unknown-node", "n9")

    with Stub(respond) as stub:
        result = call(stub, "node", "cordon", "n9")
    assert (result.exit_code, result.stderr) == (3, "raftsched: no node n9; known: n1, n2\n")


def _checked(verdict: str, *peers: str, suspect: bool = False) -> Answer:
    """What the API says of a check: a verdict, and one of each peer."""
    rows = [
        {"id": f"n{n}", "verdict": said, "digest": None if said == "missing" else "a" * 32}
        for n, said in enumerate(peers, 1)
    ]
    return Answer(200, {"index": 7, "verdict": verdict, "suspect": suspect, "peers": rows})


@pytest.mark.parametrize(
    ("answer", "code", "said"),
    [
        (_checked("same", "same", "same", "same"), 0, ""),
        (_checked("same", "same", "same", "missing"), 9, "at index 7: n3 silent"),
        (_checked("open", "unclear", "missing", "missing"), 9, "n2, n3 silent"),
        (_checked("diverged", "same", "diverged", "same"), 10, "n2 differs from the majority"),
        (_checked("split", "unclear", "unclear", suspect=True), 10, "writes are refused"),
        (_checked("open", "unclear", "missing", suspect=True), 10, "writes are refused"),
    ],
)
def test_cluster_check(answer: Answer, code: int, said: str) -> None:
    with Stub(sequence(answer)) as stub:
        result = call(stub, "cluster", "verify", "--wait", "2")
    assert (result.exit_code, said in result.stderr) == (code, True), result.stderr
    assert result.stdout.splitlines()[1].split()[:2] == ["n1", answer.body["peers"][0]["verdict"]]
    assert (stub.asked[0].path, stub.asked[0].query) == ("/v1/cluster:verify", {"wait": "2s"})


def test_a_write_refused_for_divergence_is_not_tried_again() -> None:
    refusal = problem(503, "replica-divergence", "the replicas differ")
    with Stub(sequence(refusal)) as stub:
        result = call(stub, "node", "cordon", "n1")
    assert (result.exit_code, len(stub.asked)) == (10, 1)
    assert "the replicas differ" in result.stderr
