"""The instants of a schedule: the slots.  Milliseconds since the Unix epoch; 0 means never.

Rules:
1. What comes does not depend on who asks, nor when: slots are a set, every question picks from it.
2. Every answer is later than what was asked, so nothing that follows it can come twice.
3. Every search is bounded: by `HORIZON_YEARS`, by ``limit``, by `PASSES_MAX`.
"""

from __future__ import annotations

import datetime as dt
from bisect import bisect_right
from zoneinfo import ZoneInfo

from raftsched.core.cron.excluded import excluded_until
from raftsched.core.cron.expression import Expression, expression, next_wall
from raftsched.core.cron.places import (
    Place,
    change_of,
    place,
    wall_at,
    wall_by,
)
from raftsched.core.cron.stamps import jitter
from raftsched.core.cron.timing import (
    EXCLUDE_MAX,
    INSTANT_MS_MAX,
    YEARLY_MAX,
    Fold,
    Gap,
    Timing,
)
from raftsched.core.cron.zones import zone

#: A slot further away than this is none.
HORIZON_YEARS = 50
HORIZON_MS = HORIZON_YEARS * 366 * 86_400_000
#: Looks for one that is not on an excluded day.
PASSES_MAX = 1 + EXCLUDE_MAX + (HORIZON_YEARS + 1) * YEARLY_MAX
_SECOND = dt.timedelta(seconds=1)


def following(timing: Timing, name: str, anchor_ms: int, after_ms: int) -> int:
    """The first slot after ``after_ms`` of the schedule ``name``; 0: never again.

    ``anchor_ms`` is where intervals are counted from (the schedule's creation) unless ``start_at``
    is given; it stays the same for ever.  KeyError for a zone that ``tzdata`` does not have.
    """
    return _first(timing, name, anchor_ms, after_ms, INSTANT_MS_MAX)


def between(
    timing: Timing, name: str, anchor_ms: int, after_ms: int, upto_ms: int, limit: int
) -> tuple[int, ...]:
    """The first ``limit`` slots after ``after_ms`` and not after ``upto_ms``, rising."""
    found: list[int] = []
    at = after_ms
    while len(found) < limit:
        at = _first(timing, name, anchor_ms, at, upto_ms)
        if not at:
            break
        found.append(at)
    return tuple(found)


def last_between(timing: Timing, name: str, anchor_ms: int, after_ms: int, upto_ms: int) -> int:
    """The last slot after ``after_ms`` and not after ``upto_ms``; 0: there is none.

    However many there are: "is there one after this instant?" turns from yes to no at the last one,
    and halving finds it in about 40 questions.
    """
    last = _first(timing, name, anchor_ms, after_ms, upto_ms)
    none_after = upto_ms
    while last and last < none_after:
        middle = (last + none_after) // 2
        found = _first(timing, name, anchor_ms, middle, upto_ms)
        if found:
            last = found
        else:
            none_after = middle
    return last


def starts_at(timing: Timing, name: str, slot_ms: int) -> int:
    """When the run of a slot is to start: jitter after it, by a hash of name and slot."""
    return slot_ms + jitter(name, slot_ms, timing.jitter_ms)


def policies(timing: Timing, times: Expression) -> tuple[Gap, Fold]:
    """What ``usual`` means for this expression: a rhythm goes by elapsed time, as in Debian's cron;
    a fixed time comes once on every day."""
    gap, fold = timing.gap, timing.fold
    if gap is Gap.USUAL:
        gap = Gap.SKIP if times.is_rhythm else Gap.SHIFT
    if fold is Fold.USUAL:
        fold = Fold.BOTH if times.is_rhythm else Fold.FIRST
    return gap, fold


def _first(timing: Timing, name: str, anchor_ms: int, after_ms: int, upto_ms: int) -> int:
    """As `following`, and 0 if it is after ``upto_ms``."""
    upto = min(upto_ms, timing.end_at - 1 if timing.end_at else INSTANT_MS_MAX, INSTANT_MS_MAX)
    after = max(after_ms, timing.start_at - 1, 0)
    # With days that are excluded every year: 0 is better than a search that goes on for ever.
    upto = min(upto, after + HORIZON_MS) if timing.exclude_yearly else upto
    # Every further pass leaves one excluded range behind.
    for _ in range(PASSES_MAX):
        found = _earliest(timing, name, anchor_ms, after) if after < upto else 0
        if not found or found > upto:
            return 0
        until = excluded_until(timing, found)
        if not until:
            return found
        after = until - 1
    return 0


def _earliest(timing: Timing, name: str, anchor_ms: int, after_ms: int) -> int:
    """The first instant after ``after_ms`` that any of crons, interval and ``at`` names."""
    found = [_next_of_cron(timing, expression(text, name), after_ms) for text in timing.crons]
    if timing.every_ms:
        anchor = timing.start_at or anchor_ms
        passed = (after_ms - anchor) // timing.every_ms
        found.append(anchor + (passed + 1) * timing.every_ms)
    if timing.at:
        index = bisect_right(timing.at, after_ms)
        found += timing.at[index : index + 1]
    return min((at for at in found if at), default=0)


def _next_of_cron(timing: Timing, times: Expression, after_ms: int) -> int:
    """Cron names whole seconds: what is after ``after_ms`` is after the second it is in."""
    if after_ms > INSTANT_MS_MAX:
        return 0
    where, after = zone(timing.zone), after_ms // 1_000
    gap, fold = policies(timing, times)
    wall = wall_at(where, after)
    found = _scan(where, times, gap, fold, wall, after)
    if fold is not Fold.FIRST and not wall.fold:
        here = place(where, wall)
        if here.is_fold:
            again = _second_pass(where, times, here)
            found = min(found, again) if found and again else found or again
    return found * 1_000


def _scan(
    where: ZoneInfo, times: Expression, gap: Gap, fold: Fold, wall: dt.datetime, after: int
) -> int:
    """The first instant after ``after`` of those times that are later than ``wall``.

    In the order of wall-clock times instants rise, but for those of a second pass, which the caller
    looks for beside when ``wall`` is in the first.
    """
    year_max = wall.year + HORIZON_YEARS
    named = next_wall(times, wall)
    while named is not None and named.year <= year_max:
        found = place(where, named)
        if found.before == found.after:
            return found.first
        change = change_of(where, found)
        if found.is_gap:
            if gap is Gap.SHIFT:
                return change
            named = next_wall(times, wall_by(change, found.after) - _SECOND)
            continue
        if fold is not Fold.SECOND and found.first > after:
            return found.first
        if fold is not Fold.FIRST and found.second > after:
            return found.second
        # Neither is to come, so it is the second pass of a fold whose first alone counts.
        named = next_wall(times, wall_by(change, found.before) - _SECOND)
    return 0


def _second_pass(where: ZoneInfo, times: Expression, here: Place) -> int:
    """The first instant in the second pass of the fold that ``here`` is in; 0: none."""
    change = change_of(where, here)
    named = next_wall(times, wall_by(change, here.after) - _SECOND)
    if named is None or named >= wall_by(change, here.before):
        return 0
    return place(where, named).second
