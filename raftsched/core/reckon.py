"""What the leader proposes for a schedule that is due: the instants, by the schedule's timing.

Pure, and asked by the leader alone: another one, with other time zone data, may reckon other
instants for the time to come, and never again one that has fired.
"""

from __future__ import annotations

from functools import lru_cache

import msgspec

from raftsched.core.commands import Fire
from raftsched.core.cron.slots import between, following
from raftsched.core.cron.timing import Timing
from raftsched.core.schedule import LATE_MS, UNRECKONED, Misfire, Schedule

#: Instants reckoned at a stroke; with more that are due the schedule stays due.
REACH = 1_000
#: So many late instants that do not run have slots of their own; more are one range.
SINGLE_SLOTS_MAX = 20

_timings = msgspec.msgpack.Decoder(Timing)


@lru_cache(maxsize=20_000)
def timing_of(packed: bytes) -> Timing:
    """The timing of a schedule.  Raises msgspec.DecodeError for one that a newer program wrote."""
    return _timings.decode(packed)


def reckon(schedule: Schedule, now: int) -> Fire:
    """The fire for a schedule that is due at ``now``, the cluster's time in milliseconds."""
    if schedule.next_at == UNRECKONED:
        return _first(schedule)
    # Whatever the time zone data of this program says: what the row has is what fires next.
    due, after_them = [schedule.next_at], _following(schedule, schedule.next_at)
    if 0 < after_them <= now:
        more, after_them = _due(schedule, schedule.next_at, now, REACH - 1)
        due += more
    if 0 < after_them <= now:
        return _reached(schedule, due, after_them)
    late = [at for at in due if at < now - LATE_MS]
    keep = _runs_max(schedule)
    gone = late[: len(late) - keep] if keep else late
    if len(gone) <= SINGLE_SLOTS_MAX:
        gone = []
    return _fire(schedule, gone, due[len(gone) :], after_them)


def _first(schedule: Schedule) -> Fire:
    """Of a schedule that is new, changed or resumed: nothing runs, what was due is passed over."""
    if not schedule.resumed_at:
        return _fire(schedule, [], [], _following(schedule, schedule.after))
    passed, after_them = _due(schedule, schedule.after, schedule.resumed_at, REACH)
    if 0 < after_them <= schedule.resumed_at:
        after_them = UNRECKONED  # The rest in the next fire.
    return _fire(schedule, passed, [], after_them)


def _reached(schedule: Schedule, due: list[int], after_them: int) -> Fire:
    """More is due than was looked at: all but what may yet run is passed over."""
    keep = _runs_max(schedule) if schedule.misfire is Misfire.ALL else 0
    passed = due[: len(due) - keep]
    return _fire(schedule, passed, [], due[len(passed)] if keep else after_them)


def _runs_max(schedule: Schedule) -> int:
    """How many late instants run at most."""
    if schedule.misfire is Misfire.SKIP:
        return 0
    return 1 if schedule.misfire is Misfire.LATEST else max(1, schedule.misfire_limit)


def _due(schedule: Schedule, after: int, upto: int, limit: int) -> tuple[list[int], int]:
    """Instants behind one and up to another, at most ``limit``, and the one that follows them."""
    timing = timing_of(schedule.timing)
    found = between(timing, schedule.name, schedule.created_at, after, upto, limit)
    return list(found), _following(schedule, found[-1] if found else max(after, upto))


def _following(schedule: Schedule, after: int) -> int:
    return following(timing_of(schedule.timing), schedule.name, schedule.created_at, after)


def _fire(schedule: Schedule, passed: list[int], instants: list[int], after_them: int) -> Fire:
    return Fire(
        schedule.name,
        schedule.version,
        schedule.next_at,
        tuple(instants),
        after_them,
        (passed[0], passed[-1], len(passed)) if passed else None,
    )
