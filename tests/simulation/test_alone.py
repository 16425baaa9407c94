"""A leader that is the only voter: its own word is a majority, so it counts what its disk has."""

from __future__ import annotations

from typing import Any

import pytest

from raftsched.raft.log import Role
from raftsched.raft.membership import Configuration
from raftsched.raft.transport import Transport
from raftsched.testing import SimulatedCluster


def test_learner_hears_of_nothing_committed_that_would_be_lost_with_the_power(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with SimulatedCluster(peers=2, seed=5) as cluster:
        leader = cluster.leader()
        learner = next(name for name in cluster.up() if name != leader)
        log = cluster.peer(leader).log
        members = log.members().members
        monkeypatch.setattr(log._changes, "_behind", lambda peer_id: "it is to stay a learner")
        alone = Configuration({leader: members[leader]}, {learner: members[learner]})
        log._engine.append_configuration(alone)
        cluster._checker.electorates = lambda index: [[leader]]
        cluster.run(1.0)
        told: list[tuple[int, int]] = []
        send_to = Transport.send_to

        def sent(self: Transport, peer_id: str, message: dict[str, Any]) -> bool:
            if self is log._transport and message["type"] == "append_entries":
                told.append((message["commit_index"], log.journal.durable_index))
            return send_to(self, peer_id, message)

        monkeypatch.setattr(Transport, "send_to", sent)
        term, before = log.status().term, log.status().commit_index
        log._engine.resign()
        cluster.run(3.0)
        status = log.status()
        assert status.role is Role.LEADER and status.term > term and status.is_current
        assert told[-1][0] > before
        assert [pair for pair in told if pair[0] > pair[1]] == []
        assert cluster.peer(learner).log.status().commit_index == status.commit_index


def test_alone_with_a_full_disk_it_commits_nothing_until_there_is_room() -> None:
    with SimulatedCluster(peers=1, seed=1) as cluster:
        machine = cluster._machines["n1"]
        cluster.kill("n1")
        machine.simulated_disk.capacity = machine.simulated_disk.bytes_used()
        cluster.start("n1")
        cluster.run(3.0)
        log = cluster.peer("n1").log
        status = log.status()
        assert status.paused and status.role is Role.LEADER
        assert status.last_index > status.durable_index
        assert status.commit_index <= status.durable_index and not status.is_current
        machine.simulated_disk.capacity = None
        cluster.run(3.0)
        status = log.status()
        assert not status.paused and status.is_current
        assert status.commit_index == status.last_index == status.durable_index
