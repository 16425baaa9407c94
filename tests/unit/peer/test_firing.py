"""The leader's part in schedules: it proposes what is due, and counts what became of it."""

from __future__ import annotations

import msgspec

from raftsched.core.commands import AnyCommand, PutSchedule
from raftsched.core.cron.timing import Timing
from raftsched.core.outcomes import Outcome
from raftsched.core.schedule import LATE_MS, Misfire, Schedule
from raftsched.peer.firing import Firing
from tests.unit.core.builders import Replica, new_task, register

SECONDLY = msgspec.msgpack.encode(Timing(every_ms=1_000))


class Leader:
    """A firing that proposes to one replica; its clock is the replica's."""

    def __init__(self) -> None:
        self.replica = Replica()
        self.replica.accepted(register())
        self.firing = Firing(self.propose, lambda: self.replica.now)

    async def propose(self, command: AnyCommand, timeout_seconds: float) -> Outcome:
        return self.replica.do(command)

    async def run_at(self, now: int) -> None:
        self.replica.now = now
        await self.firing.run(self.replica.state, lambda: True)

    def put(self, timing: bytes = SECONDLY) -> None:
        row = Schedule("s", new_task(""), timing, misfire=Misfire.SKIP)
        self.replica.accepted(PutSchedule(row))


async def test_each_instant_is_counted_once_and_the_late_ones_of_them() -> None:
    leader = Leader()
    leader.put()
    began = leader.replica.now
    await leader.run_at(began)
    assert (leader.firing.fired, leader.firing.late) == (0, 0), "nothing was due yet"
    await leader.run_at(began + 2_000)
    assert (leader.firing.fired, leader.firing.late) == (2, 0)
    # Nobody could fire for long: of the instants from 3 s on, those before 9.5 s are late.
    await leader.run_at(began + LATE_MS + 9_500)
    assert (leader.firing.fired, leader.firing.late) == (19, 7)


async def test_a_schedule_that_cannot_be_reckoned_stands_in_nobodys_way() -> None:
    leader = Leader()
    known = msgspec.msgpack.decode(SECONDLY)
    for timing in (b"of a newer program", msgspec.msgpack.encode({**known, "moons": ["full"]})):
        leader.put(timing)
        await leader.run_at(leader.replica.now + 5_000)
        assert leader.firing.fired == 0
