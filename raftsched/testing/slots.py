"""Schedules in a simulation: clients that make, pause, resume and trigger them, and the reckoning.

What should have fired is reckoned here by arithmetic alone, from the interval and the instant that
was next first; nothing of the product is asked for it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import pairwise

import msgspec

from raftsched.core.commands import AnyCommand, PauseSchedule, PutSchedule, TriggerSchedule
from raftsched.core.cron.timing import Timing
from raftsched.core.model import NewTask
from raftsched.core.outcomes import Accepted, Reason
from raftsched.core.schedule import Misfire, Overlap, Schedule, Slot, SlotStatus
from raftsched.core.spec import TaskSpec
from raftsched.core.state import State
from raftsched.core.versions import SCHEDULES
from raftsched.peer.errors import PeerError
from raftsched.raft.log import LogError
from raftsched.testing.machine import Machine
from raftsched.testing.world import World

TIMEOUT_SECONDS = 5.0
AGAIN_SECONDS = 0.5
#: Between two things that somebody does with a schedule by hand, on average.
HANDS_SECONDS = 4.0
#: Intervals of the schedules, in milliseconds; none has more slots in a minute than are kept.
INTERVALS_MS = (700, 1_000, 2_500, 7_000)
_encoder = msgspec.msgpack.Encoder()


class Clockworks:
    """All schedules of a run and what their clients did."""

    def __init__(self, world: World, machines: Mapping[str, Machine], count: int) -> None:
        self._world = world
        self._machines = machines
        self._chance = world.chance("schedules")
        self._is_open = True
        self.intervals: dict[str, int] = {}
        #: Of schedules that are there: somebody was told so.
        self.made: dict[str, None] = {}
        #: Triggers that were acknowledged: the ids of their tasks.
        self.triggered: list[str] = []
        for number in range(count):
            world.after(0.5 + 0.3 * number, self._make, f"s{number}", number)
        if count:
            world.after(HANDS_SECONDS, self._by_hand)

    def stop(self) -> None:
        """All are paused, so that the cluster comes to rest."""
        self._is_open = False
        for name in self.intervals:
            self._ask(PauseSchedule(name), until_accepted=True)

    @property
    def is_at_rest(self) -> bool:
        """Is every schedule paused, as far as every peer has applied?"""
        for machine in self._machines.values():
            if machine.loop is not None and machine.peer is not None:
                state = machine.peer.replica.state
                if any(not row.paused for row in state.schedules.values()):
                    return False
        return True

    def _make(self, name: str, number: int) -> None:
        chance = self._chance
        every_ms = self.intervals[name] = INTERVALS_MS[number % len(INTERVALS_MS)]
        spec = TaskSpec(command=("scheduled", name))
        schedule = Schedule(
            name,
            NewTask("", _encoder.encode(spec), cpu_milli=100, attempts_max=chance.choice((1, 3))),
            _encoder.encode(Timing(every_ms=every_ms)),
            misfire=chance.choice(list(Misfire)),
            misfire_limit=3,
            overlap=chance.choice(list(Overlap)),
            window_ms=chance.choice((5_000, 3_600_000)),
            jitter_ms=chance.choice((0, 0, 400)),
        )
        self._ask(PutSchedule(schedule), until_accepted=True)

    def _by_hand(self) -> None:
        if not self._is_open:
            return
        chance = self._chance
        self._world.after(chance.expovariate(1 / HANDS_SECONDS), self._by_hand)
        if self.made:
            name = chance.choice(list(self.made))
            kind = chance.random()
            if kind < 0.3:
                self._ask(TriggerSchedule(name))
            else:
                self._ask(PauseSchedule(name, paused=kind < 0.55))

    def _ask(self, command: AnyCommand, *, until_accepted: bool = False) -> None:
        up = [machine for machine in self._machines.values() if machine.is_serving]
        knowing = [m for m in up if m.peer and m.peer.replica.state.version >= SCHEDULES]
        if not knowing:
            if until_accepted:
                self._world.after(AGAIN_SECONDS, self._again, command)
            return
        machine = self._chance.choice(knowing)
        loop, peer = machine.loop, machine.peer
        assert loop is not None and peer is not None

        async def operation() -> None:
            try:
                outcome = await peer.propose(command, TIMEOUT_SECONDS)
            except (PeerError, LogError):
                if until_accepted:
                    self._world.after(AGAIN_SECONDS, self._again, command)
                return
            if isinstance(outcome, Accepted):
                self._accepted(command, outcome)
            elif isinstance(command, PutSchedule) and outcome.reason is Reason.SCHEDULE_EXISTS:
                self.made[command.schedule.name] = None  # By an earlier question, as is known now.
            elif until_accepted and not isinstance(command, PauseSchedule):
                self._world.after(AGAIN_SECONDS, self._again, command)

        loop.call_soon(lambda: machine.keep(loop.start(operation())))
        if until_accepted:
            # The process may die with the question: pausing and making again change nothing.
            self._world.after(TIMEOUT_SECONDS + AGAIN_SECONDS, self._look_after, command)

    def _again(self, command: AnyCommand) -> None:
        self._ask(command, until_accepted=True)

    def _look_after(self, command: AnyCommand) -> None:
        if isinstance(command, PutSchedule) and command.schedule.name not in self.made:
            self._again(msgspec.structs.replace(command, is_new=True))
        elif isinstance(command, PauseSchedule) and not self._is_open and not self.is_at_rest:
            self._again(command)

    def _accepted(self, command: AnyCommand, outcome: Accepted) -> None:
        if isinstance(command, PutSchedule):
            self.made[command.schedule.name] = None
        elif isinstance(command, TriggerSchedule):
            self.triggered.append(outcome.value.task_ids[0])

    # The end -------------------------------------------------------------------------------------

    def check(self, state: State) -> Iterator[str]:
        """Every broken promise as a sentence."""
        by_slot: dict[tuple[str, int], list[str]] = {}
        for task in state.tasks.values():
            if task.extra is not None and task.extra.schedule and not task.extra.parent:
                by_slot.setdefault((task.extra.schedule, task.extra.slot), []).append(task.id)
        for (name, at), ids in sorted(by_slot.items()):
            if len(ids) > 1:
                yield f"{name} ran {len(ids)} times for {at}: {ids}"
        for task_id in self.triggered:
            if task_id not in state.tasks:
                yield f"acknowledged trigger {task_id} is lost"
        for name in self.made:
            row = state.schedules.get(name)
            if row is None:
                yield f"acknowledged schedule {name} is lost"
                continue
            slots = [state.slots.get(f"{name}\0{at}") for at in state.firings.slots_of(name)]
            yield from self._of_one(row, [slot for slot in slots if slot is not None])

    def _of_one(self, row: Schedule, slots: list[Slot]) -> Iterator[str]:
        """No instant without a slot, none in two, and none that is no instant."""
        every_ms = self.intervals[row.name]
        own = sorted((s for s in slots if s.reason != "triggered"), key=lambda s: s.at)
        for slot in own:
            if (slot.at - row.created_at) % every_ms or (slot.upto - slot.at) % every_ms:
                yield f"{row.name} has a slot at {slot.at}, which is none of its instants"
            if slot.count != (slot.upto - slot.at) // every_ms + 1:
                yield f"{row.name}: {slot.at} to {slot.upto} are not {slot.count} instants"
        for before, after in pairwise(own):
            if after.at - before.upto != every_ms:
                yield f"{row.name} has slots at {before.upto} and {after.at}, {every_ms} apart"
        if own and row.next_at > 0 and row.next_at - own[-1].upto != every_ms:
            yield f"{row.name} is next at {row.next_at}, its last slot is {own[-1].upto}"
        if any(slot.status is SlotStatus.FIRED for slot in slots):
            yield f"{row.name} has runs that never ended, as its slots say"
