"""Commands about nodes, cluster and leader against a stub."""

from __future__ import annotations

import json

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


def test_unknown_node_names_those_there_are() -> None:
    def respond(asked: Asked) -> Answer:
        if asked.path == "/v1/nodes":
            return Answer(200, {"items": [NODE, {**NODE, "id": "n2"}]})
        return problem(404, "unknown-node", "n9")

    with Stub(respond) as stub:
        result = call(stub, "node", "cordon", "n9")
    assert (result.exit_code, result.stderr) == (3, "raftsched: no node n9; known: n1, n2\n")
