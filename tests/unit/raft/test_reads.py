"""Read indexes, with the wires in the test's hands."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

from raftsched.raft.membership import Address, Configuration, Membership
from raftsched.raft.quorum import Prober
from raftsched.raft.reads import Reads
from raftsched.testing import SimulatedCluster

NOWHERE = Address("127.0.0.1:1", "127.0.0.1:1")
THREE = Configuration(voters=dict.fromkeys(("n1", "n2", "n3"), NOWHERE))


class Clock:
    def wall_ms(self) -> int:
        return 0

    def monotonic(self) -> float:
        return 0.0


def engine(leads: bool) -> Any:
    """What reads ask of one."""
    return SimpleNamespace(
        is_leader=leads, is_current=True, commit_index=100, applied_index=0, leader="n1"
    )


class Peer:
    """One with its reads; what it sends is kept."""

    def __init__(self, name: str, first_number: int = 0, *, leads: bool = False) -> None:
        self.sent: list[dict[str, Any]] = []
        self.engine = engine(leads)
        self.prober = Prober(Membership(name, THREE), self._send)
        self.prober.reset(7)
        self.reads = Reads(self.engine, self.prober, self._send, Clock(), first_number)

    def _send(self, _: str, message: dict[str, Any]) -> bool:
        self.sent.append(message)
        return True

    def answers_probe(self, probe: dict[str, Any]) -> None:
        """A majority confirms the round."""
        self.prober.answered("n3", {**probe, "type": "probe_ok"}, 0.0)


def test_answer_to_a_question_of_an_earlier_life_settles_none_of_this_one() -> None:
    """The round it belongs to began before this process asked: its index may be too low (G4)."""

    async def scenario() -> None:
        leader = Peer("n1", leads=True)
        first_life = Peer("n2", 5_000)
        asking = asyncio.ensure_future(first_life.reads.index(1.0))
        await asyncio.sleep(0)
        leader.reads.asked("n2", first_life.sent[-1])
        old_probe = leader.sent[-1]
        asking.cancel()

        # It is killed and comes back; entry 150 is committed, and somebody knows it.
        leader.engine.commit_index = 150
        second_life = Peer("n2", 9_000)
        asking = asyncio.ensure_future(second_life.reads.index(1.0))
        await asyncio.sleep(0)
        leader.reads.asked("n2", second_life.sent[-1])
        new_probe = leader.sent[-1]
        leader.answers_probe(old_probe)
        second_life.reads.answered(leader.sent[-1])
        await asyncio.sleep(0)
        assert not asking.done()
        leader.answers_probe(new_probe)
        second_life.reads.answered(leader.sent[-1])
        assert await asking == 150

    asyncio.run(scenario())


def test_each_process_begins_at_a_number_of_its_own() -> None:
    """What the scenario above rests on."""
    with SimulatedCluster(peers=1, seed=1) as cluster:
        before = cluster.peer("n1").log._reads._number
        cluster.kill("n1")
        cluster.start("n1")
        cluster.run_until(lambda: "n1" in cluster.up())
        assert abs(cluster.peer("n1").log._reads._number - before) > 1_000_000
