"""The leader's part in twins: it looks now and then, and proposes what takes too long."""

from __future__ import annotations

from raftsched.core.commands import AnyCommand, Speculate
from raftsched.core.outcomes import Outcome, Reason, Rejected
from raftsched.peer.speculating import LOOK_SECONDS, Speculating
from tests.unit.core.builders import Replica
from tests.unit.core.test_speculation import running, succeed


class Leader:
    """A look that proposes to one replica."""

    def __init__(self, replica: Replica) -> None:
        self.replica = replica
        self.proposed: list[AnyCommand] = []
        self.refuses = False
        self.speculating = Speculating(self.propose, lambda: self.replica.now + 10**6)

    async def propose(self, command: AnyCommand, timeout_seconds: float) -> Outcome:
        self.proposed.append(command)
        if self.refuses:
            return Rejected(Reason.REPLICA_DIVERGENCE)
        return self.replica.do(command)

    async def look(self, now: float) -> None:
        await self.speculating.look(self.replica.state, now, frozenset())


async def test_it_proposes_what_takes_too_long_once() -> None:
    replica = running()
    succeed(replica, 0, 1)
    leader = Leader(replica)
    assert leader.speculating.is_due(replica.state, 5.0)
    await leader.look(5.0)
    assert leader.speculating.twins == 2
    assert [replica.task(i).status for i in ("w.2~2", "w.3~2")] == ["queued", "queued"]
    assert not leader.speculating.is_due(replica.state, 5.0 + LOOK_SECONDS / 2)
    assert leader.speculating.is_due(replica.state, 5.0 + LOOK_SECONDS)
    await leader.look(6.0)
    assert len(leader.proposed) == 1


async def test_without_a_fork_that_asks_for_it_there_is_nothing_to_look_at() -> None:
    assert not Leader(Replica()).speculating.is_due(Replica().state, 100.0)


async def test_what_is_refused_is_looked_at_again() -> None:
    replica = running()
    succeed(replica, 0, 1)
    leader = Leader(replica)
    leader.refuses = True
    await leader.look(5.0)
    assert leader.speculating.twins == 0
    leader.refuses = False
    await leader.look(6.0)
    assert leader.speculating.twins == 2 and leader.proposed[0] == leader.proposed[1]


async def test_one_that_was_overtaken_meanwhile_gets_none() -> None:
    replica = running()
    succeed(replica, 0, 1)
    leader = Leader(replica)

    async def propose(command: AnyCommand, timeout_seconds: float) -> Outcome:
        assert isinstance(command, Speculate)
        replica.finish("w.2")
        return replica.do(command)

    leader.speculating = Speculating(propose, lambda: replica.now + 10**6)
    await leader.look(5.0)
    assert leader.speculating.twins == 1
    assert replica.state.tasks.get("w.2~2") is None and replica.task("w.3~2").status == "queued"
