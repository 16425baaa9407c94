"""The console of ``dev`` against a cluster that is only pretended, and the load of ``bench``."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from raftsched.cli import dev, witness
from raftsched.cli.bench.load import single_submits
from raftsched.cli.exits import Failure
from raftsched.cli.local import LocalCluster
from raftsched.client import discovery
from raftsched.client.sync import Client
from tests.unit.client.stub import Answer, Asked, Stub, sequence


class PretendedCluster:
    """What `dev.Console` uses of a `LocalCluster`, without processes."""

    lease_seconds = 1.0

    def __init__(self, stub: Stub | None = None) -> None:
        self.peers = {
            name: SimpleNamespace(
                id=name,
                api="127.0.0.1:1",
                is_running=True,
                is_expected_down=False,
                log_path=Path("n.log"),
                how_it_ended=lambda: "disk on fire",
            )
            for name in ("n1", "n2", "n3")
        }
        self._stub = stub
        self.waited_for: list[str] = []

    def leader(self) -> str | None:
        up = [p.id for p in self.peers.values() if p.is_running]
        return up[0] if len(up) > 1 else None

    def wait_leader(self, other_than: str | None, seconds: float) -> str | None:
        return self.leader()

    def kill(self, peer_id: str) -> None:
        self.peers[peer_id].is_running = False
        self.peers[peer_id].is_expected_down = True

    def start(self, peer_id: str) -> None:
        self.peers[peer_id].is_running = True

    def wait_ready(self, only: list[str]) -> None:
        self.waited_for = only

    def view(self, peer_id: str) -> dict[str, Any]:
        return {"term": 7}

    def client(self, seconds: float = 1.0) -> Client:
        assert self._stub is not None
        return Client(self._stub.address, token="")


def console(cluster: PretendedCluster) -> dev.Console:
    return dev.Console(cluster, demo=False)  # type: ignore[arg-type]


def nothing(_: Asked) -> Answer:
    return Answer(200, {"items": []})


def test_keys_kill_and_restart_the_leader(capsys: pytest.CaptureFixture[str]) -> None:
    with Stub(nothing) as stub:
        cluster = PretendedCluster(stub)
        keys = console(cluster)
        keys._act("k")
        keys._act("s")
        keys._act("r")
    text = capsys.readouterr().out
    assert "n1 (leader) killed; 0 attempts were on it" in text
    assert "n2 leads after" in text
    assert "n1  down" in text
    assert "n2  leader  term 7" in text
    assert "n1 is back after" in text
    assert cluster.peers["n1"].is_running


def test_killing_the_majority_says_that_nobody_leads(capsys: pytest.CaptureFixture[str]) -> None:
    with Stub(nothing) as stub:
        keys = console(PretendedCluster(stub))
        keys._act("k")
        keys._act("k")
        keys._act("k")
    text = capsys.readouterr().out
    assert "nobody leads: too few peers are left" in text
    assert text.endswith("nobody leads just now\n")


def test_moved_attempts_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    old = {"id": "0190-aaaaaaaa", "state": "running", "node": "n1", "attempt": 1}
    new = {**old, "node": "n3", "attempt": 2}
    attempts = [
        {"number": 1, "started_at": "1", "finished_at": "2", "status": "lost"},
        {"number": 2, "started_at": "3", "finished_at": None, "status": "running"},
    ]

    def respond(asked: Asked) -> Answer:
        if asked.path.endswith("/attempts"):
            return Answer(200, {"items": attempts})
        return Answer(200, new)

    with Stub(respond) as stub:
        console(PretendedCluster(stub))._follow("n1", [old])
    assert (
        "1 moved (aaaaaaaa to n3), 0 ended where they were; of 1 looked at 0 lost, 0 ran twice"
        in (capsys.readouterr().out)
    )


def test_what_has_not_moved_is_not_counted_as_safe() -> None:
    old = {"id": "0190-aaaaaaaa", "state": "running", "node": "n1", "attempt": 1}
    with Stub(sequence(Answer(200, old))) as stub, Client(stub.address, token="") as client:
        text = witness.follow(client, [old], 0.01, lambda: False)
    assert text.endswith(
        "of 0 looked at 0 lost, 0 ran twice; 1 have not moved yet: nothing is known of them"
    )


def test_end_of_a_peer_is_told_once(capsys: pytest.CaptureFixture[str]) -> None:
    cluster = PretendedCluster()
    keys = console(cluster)
    cluster.peers["n2"].is_running = False
    keys._look_at_peers()
    keys._look_at_peers()
    assert capsys.readouterr().err == "raftsched: peer n2 ended: disk on fire (n.log)\n"


def test_restart_brings_back_all_that_are_down_and_waits_for_no_other(
    capsys: pytest.CaptureFixture[str],
) -> None:
    cluster = PretendedCluster()
    for name in ("n1", "n2", "n3"):
        cluster.peers[name].is_running = False
    keys = console(cluster)
    keys._has_keys = True
    keys._look_at_peers()
    keys._look_at_peers()
    keys._act("r")
    keys._look_at_peers()
    assert cluster.waited_for == ["n1", "n2", "n3"]
    text = capsys.readouterr().out
    assert text.count("no peer is left; r starts them again") == 1
    assert "n1, n2, n3 are back after" in text


def test_no_peer_left_ends_it() -> None:
    cluster = PretendedCluster()
    for peer in cluster.peers.values():
        peer.is_running = False
    with pytest.raises(Failure, match="no peer is left"):
        console(cluster)._look_at_peers()


def test_user_wide_context_of_a_running_cluster_is_left_alone(
    alone: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shared = discovery.context_paths()[1]
    first, second = alone / "first", alone / "second"
    discovery.write_context(shared, ["127.0.0.1:1"], first / "token", os.getppid())
    before = shared.read_bytes()
    cluster = LocalCluster(second, peers=1, base_port=7400)
    own = second / "context.json"
    dev._leave_contexts(cluster, (own, shared))
    assert (shared.read_bytes(), own.exists()) == (before, True)
    assert f"go to the cluster in {first}" in capsys.readouterr().err
    discovery.remove_context(shared, os.getpid())
    assert shared.exists()
    # Its number is another process's by now.
    shared.write_bytes(before.replace(b'"began": ', b'"began": 1'))
    dev._leave_contexts(cluster, (own, shared))
    assert discovery.foreign_context(shared, os.getpid()) is None
    assert str(os.getpid()).encode() in shared.read_bytes()


async def test_load_counts_what_was_created() -> None:
    task = Answer(201, {"id": "x"})
    with Stub(sequence(task, Answer(503, {}), task)) as stub:
        load = await single_submits(
            [stub.address], "t", b'{"command":["/bin/true"]}', connections=2, seconds=0.3
        )
    assert load.errors == 1
    assert load.per_second > 10
    assert 0 < load.p50_ms <= load.p99_ms
    assert len({asked.headers["idempotency-key"] for asked in stub.asked}) == len(stub.asked)
