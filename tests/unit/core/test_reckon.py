"""What a leader proposes for a schedule that is due."""

from __future__ import annotations

import msgspec
import pytest

from raftsched.core.commands import Fire
from raftsched.core.cron.timing import Timing
from raftsched.core.handlers.schedules import INSTANTS_MAX
from raftsched.core.reckon import REACH, SINGLE_SLOTS_MAX, reckon
from raftsched.core.schedule import UNRECKONED, Misfire, Schedule
from tests.unit.core.builders import new_task

#: 2026-11-21T02:00:00Z.
T0 = 1_795_226_400_000
MINUTE = 60_000


def schedule(*, next_at: int = T0, timing: Timing | None = None, **fields: object) -> Schedule:
    """Minutely unless said otherwise, next at ``T0``."""
    packed = msgspec.msgpack.encode(timing or Timing(crons=("* * * * *",)))
    row = Schedule("s", new_task(""), packed, next_at=next_at, created_at=T0 - 5 * MINUTE)
    return msgspec.structs.replace(row, **fields)


@pytest.mark.parametrize("late_ms", [0, 1, 900, MINUTE - 1])
def test_one_that_is_due_fires_and_the_one_behind_it_follows(late_ms: int) -> None:
    fire = Fire("s", 1, T0, (T0,), T0 + MINUTE)
    assert reckon(schedule(), T0 + late_ms) == fire


def test_the_last_one_is_followed_by_none() -> None:
    row = schedule(timing=Timing(at=(T0,)))
    assert reckon(row, T0 + 5) == Fire("s", 1, T0, (T0,), 0)


def test_all_that_became_due_fire_together() -> None:
    instants = tuple(T0 + n * MINUTE for n in range(4))
    assert reckon(schedule(), instants[-1]) == Fire("s", 1, T0, instants, T0 + 4 * MINUTE)


@pytest.mark.parametrize("late", [1, 5])
def test_what_the_row_says_fires_next_also_if_the_zones_say_something_else(late: int) -> None:
    odd = T0 + 17_000
    fire = reckon(schedule(next_at=odd), T0 + late * MINUTE)
    assert fire.instants == (odd, *[T0 + n * MINUTE for n in range(1, late + 1)])
    assert fire.following == T0 + (late + 1) * MINUTE


@pytest.mark.parametrize("next_at", [T0, T0 + 17_000])
@pytest.mark.parametrize("misfire", Misfire)
def test_a_long_gap_is_a_few_instants_and_a_range_at_a_time(misfire: Misfire, next_at: int) -> None:
    upto = T0 + (2 * REACH + 500) * MINUTE
    row, seen = schedule(next_at=next_at, misfire=misfire, misfire_limit=7), 0
    for _ in range(4):
        fire = reckon(row, upto)
        assert fire.next_at == row.next_at and len(fire.instants) <= INSTANTS_MAX
        first, last, count = fire.passed or (0, 0, 0)
        assert first in (0, row.next_at) and last < min((*fire.instants, fire.following))
        seen += count + len(fire.instants)
        row = msgspec.structs.replace(row, next_at=fire.following)
        if fire.following > upto:
            break
    assert seen == 2 * REACH + 501
    # What might run of the late ones, and the one that is due now.
    assert len(fire.instants) == {"skip": 0, "latest": 1, "all": 7}[misfire.value] + 1


def test_a_short_gap_has_a_slot_for_each() -> None:
    late = [T0 + n * MINUTE for n in range(SINGLE_SLOTS_MAX + 1)]
    fire = reckon(schedule(misfire=Misfire.LATEST), late[-1] + 30_000)
    assert (fire.instants, fire.passed) == (tuple(late), None)


def test_the_first_of_a_new_schedule_is_only_named() -> None:
    row = schedule(next_at=UNRECKONED, after=T0 - 1)
    assert reckon(row, T0 + 9 * MINUTE) == Fire("s", 1, UNRECKONED, (), T0)


def test_a_pause_is_passed_over_part_by_part() -> None:
    resumed_at = T0 + (REACH + 10) * MINUTE + 5
    row = schedule(next_at=UNRECKONED, after=T0 - 1, resumed_at=resumed_at)
    first = reckon(row, resumed_at)
    assert (first.passed, first.following) == (
        (T0, T0 + (REACH - 1) * MINUTE, REACH), UNRECKONED,
    )  # fmt: skip
    assert first.passed is not None
    rest = reckon(msgspec.structs.replace(row, after=first.passed[1]), resumed_at)
    assert rest.passed == (T0 + REACH * MINUTE, T0 + (REACH + 10) * MINUTE, 11)
    assert rest.following == T0 + (REACH + 11) * MINUTE
