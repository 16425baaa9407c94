"""A schedule whose instants come, as the tests of schedules take it."""

from __future__ import annotations

from typing import Any

from raftsched.core.commands import Fire, FireSlots, PutSchedule
from raftsched.core.outcomes import Accepted, Outcome, Rejected
from raftsched.core.schedule import UNRECKONED, Schedule, Slot, slot_key
from tests.unit.core.builders import Replica, new_task, register

#: The first instant, and from one to the next.
T0 = 10_000_000
STEP = 60_000


def schedule(**fields: Any) -> Schedule:
    return Schedule(**{"name": "s", "task": new_task(""), "timing": b"minutely", **fields})


def with_schedule(**fields: Any) -> Replica:
    """A node and a schedule whose next instant is ``T0``, which comes now."""
    replica = Replica()
    replica.accepted(register())
    replica.accepted(PutSchedule(schedule(**fields)))
    assert fire(replica, next_at=UNRECKONED, following=T0) == Accepted(())
    replica.now = T0
    return replica


def row(replica: Replica) -> Schedule:
    found = replica.state.schedules.get("s")
    assert found is not None
    return found


def fire(replica: Replica, *instants: int, following: int = 0, **fields: Any) -> Outcome:
    """What became of one fire."""
    known = replica.state.schedules.get("s")
    fields = {"next_at": instants[0] if instants else 0, **fields}
    if known is not None:
        fields = {"version": known.version, **fields}
    fields.setdefault("version", 1)
    fired = Fire("s", fields["version"], fields["next_at"], instants, following,
                 fields.get("passed"))  # fmt: skip
    (outcome,) = replica.accepted(FireSlots((fired,)))
    assert isinstance(outcome, Accepted | Rejected)
    return outcome


def slots(replica: Replica) -> list[tuple[int, int, str, str]]:
    """First and last instant, status and reason of each slot, in the order of their decision."""
    found = [slot(replica, at) for at in replica.state.firings.slots_of("s")]
    return [(s.at, s.upto, s.status.value, s.reason) for s in found]


def slot(replica: Replica, at: int) -> Slot:
    found = replica.state.slots.get(slot_key("s", at))
    assert found is not None
    return found


def runs_of(outcome: Outcome) -> tuple[str, ...]:
    """The tasks that a fire made."""
    assert isinstance(outcome, Accepted), outcome
    made: tuple[str, ...] = outcome.value
    return made
