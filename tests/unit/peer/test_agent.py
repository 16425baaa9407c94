"""What a node has its runner do with attempts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest

from raftsched.core.model import Task, TaskStatus, Terms
from raftsched.core.policy import Extra
from raftsched.core.reconciler import Start
from raftsched.core.spec import TaskSpec
from raftsched.core.versions import WORKFLOWS
from raftsched.executor.messages import StartAttempt
from raftsched.peer.agent import NodeAgent
from raftsched.peer.config import PeerAddress, PeerConfig
from raftsched.peer.host import PeerHost
from raftsched.peer.replica import Replica


class _Started:
    """A runner that notes what it is told to start."""

    def __init__(self) -> None:
        self.attempts: list[StartAttempt] = []

    def start(self, attempts: Sequence[StartAttempt], slots: int) -> None:
        self.attempts += attempts


@pytest.mark.parametrize(
    ("version", "files"), [(WORKFLOWS - 1, False), (WORKFLOWS, True), (WORKFLOWS + 1, True)]
)
async def test_large_results_are_kept_once_all_peers_know_of_them(
    tmp_path: Path, version: int, files: bool
) -> None:
    agent, runner = _agent(tmp_path)
    agent._replica.state.version = version
    agent._roster.wait(Start(1, "t", 1, SPEC))
    agent._start_waiting(runner)  # type: ignore[arg-type]
    assert [attempt.files_result for attempt in runner.attempts] == [files]


@pytest.mark.parametrize(
    ("subtasks", "bound"), [(0, 64 << 10), (10, 64 << 10), (4_096, 16 << 10), (1_000_000, 1 << 10)]
)
async def test_results_of_a_tree_share_what_is_replicated(
    tmp_path: Path, subtasks: int, bound: int
) -> None:
    agent, runner = _agent(tmp_path)
    state = agent._replica.state
    state.version = WORKFLOWS
    terms = Terms("default", "default", 50, 0, 0, "spread", 1)
    rows = [
        Task("m", b"", terms, 1, 1, 1, TaskStatus.WAITING, 1, extra=Extra(subtasks=subtasks)),
        Task("m.0", SPEC, terms, 1, 1, 2, TaskStatus.ASSIGNED, 1, extra=Extra(parent="m")),
        Task("m.0~2", SPEC, terms, 1, 1, 3, TaskStatus.ASSIGNED, 1, extra=Extra(twin_of="m.0")),
    ]
    for row in rows:
        state.tasks.put(row.id, row)
    agent._roster.wait(Start(1, "m.0", 1, SPEC))
    agent._roster.wait(Start(2, "m.0~2", 1, SPEC))
    agent._start_waiting(runner)  # type: ignore[arg-type]
    assert [attempt.result_max for attempt in runner.attempts] == [bound, bound]


SPEC = msgspec.msgpack.encode(TaskSpec(("true",)))


def _agent(directory: Path) -> tuple[NodeAgent, _Started]:
    """One that may start attempts at once."""

    async def nobody(*_: object) -> None:
        raise AssertionError("nothing is proposed")

    peers = {"n1": PeerAddress("127.0.0.1:7400", "127.0.0.1:7500")}
    config = PeerConfig(cluster_id="c", peer_id="n1", peers=peers, data_dir=directory)
    host = PeerHost()
    agent = NodeAgent(config, Replica("c"), host, nobody, lambda renew: None)  # type: ignore[arg-type]
    agent._granted_at = host.clock.monotonic()
    return agent, _Started()
