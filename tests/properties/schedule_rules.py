"""Random commands about schedules, and fires as a leader reckons them."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import rule

from raftsched.core.commands import (
    BackfillSchedule,
    DeleteSchedule,
    Fire,
    FireSlots,
    PauseSchedule,
    PutSchedule,
    TriggerSchedule,
)
from raftsched.core.model import NewTask
from raftsched.core.outcomes import Accepted
from raftsched.core.policy import ALL_NODES, Extra
from raftsched.core.schedule import UNRECKONED, Misfire, Overlap, Schedule, slot_key
from tests.properties.copies import Copies

SCHEDULES = st.sampled_from(["s1", "s2"])


class ScheduleRules(Copies):
    """Schedules come, change, are due and go."""

    @rule(
        name=SCHEDULES,
        timing=st.sampled_from([b"a", b"b"]),
        misfire=st.sampled_from(list(Misfire)),
        overlap=st.sampled_from(list(Overlap)),
        jitter=st.sampled_from([0, 0, 50]),
        extra=st.sampled_from([None, Extra(broadcast=ALL_NODES), Extra(expires_ms=30)]),
        paused=st.sampled_from([False, False, True]),
    )
    def put_schedule(self, name: str, timing: bytes, extra: Extra | None, **a: Any) -> None:
        task = NewTask("", b"s", extra=extra)
        fields = {"misfire": a["misfire"], "overlap": a["overlap"], "jitter_ms": a["jitter"]}
        self.do(PutSchedule(Schedule(name, task, timing, paused=a["paused"], **fields)))

    @rule(name=SCHEDULES, paused=st.booleans())
    def pause_schedule(self, name: str, paused: bool) -> None:
        self.do(PauseSchedule(name, paused))

    @rule(name=SCHEDULES, ends=st.booleans())
    def delete_schedule(self, name: str, ends: bool) -> None:
        self.do(DeleteSchedule(name, ends))

    @rule(name=SCHEDULES)
    def trigger(self, name: str) -> None:
        self.do(TriggerSchedule(name))

    @rule(name=SCHEDULES, first=st.integers(0, 3_000), count=st.integers(0, 3))
    def backfill(self, name: str, first: int, count: int) -> None:
        self.do(BackfillSchedule(name, 1, tuple(range(first, first + 10 * count, 10))))

    @rule(name=SCHEDULES, at=st.integers(-1, 3_000), count=st.integers(0, 3))
    def fire_anything(self, name: str, at: int, count: int) -> None:
        instants = tuple(range(at, at + count))
        self.do(FireSlots((Fire(name, 1, at, instants, at + count),)))

    @rule(count=st.integers(1, 4), step=st.sampled_from([5, 20_000]), ahead=st.integers(0, 9))
    def fire_what_is_due(self, count: int, step: int, ahead: int) -> None:
        """As a leader would, for the schedule that is due first."""
        state = self.states[0]
        self.now += ahead * step
        for name in state.firings.due.due(self.now, 1):
            row = state.schedules.get(name)
            assert row is not None
            if row.next_at == UNRECKONED:
                following = max(row.after, row.resumed_at, state.now) + step
                fired = Fire(name, row.version, UNRECKONED, (), following)
            else:
                instants = tuple(range(row.next_at, self.now + 11, step))[:count]
                fired = Fire(name, row.version, row.next_at, instants, instants[-1] + step)
            before = {k: slot.task_id for k, slot in state.slots.items()}
            outcome = self.do(FireSlots((fired,)))
            if isinstance(outcome, Accepted) and isinstance(outcome.value[0], Accepted):
                for at in fired.instants:
                    assert not before.get(slot_key(name, at)), "an instant ran twice"
