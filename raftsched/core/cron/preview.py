"""The next slots with all that a reader wants to see of each, before saving or after."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from zoneinfo import ZoneInfo

import msgspec

from raftsched.core.cron.expression import expression, names_wall, next_wall
from raftsched.core.cron.places import offset, place, wall_at, wall_by
from raftsched.core.cron.slots import between, policies, starts_at
from raftsched.core.cron.timing import INSTANT_MS_MAX, Fold, Gap, Timing
from raftsched.core.cron.zones import zone
from raftsched.core.words import Word

#: Days looked over for changes of the clocks, for warnings.
WARN_DAYS_MAX = 800
_DAY_SECONDS = 86_400
_SECOND = dt.timedelta(seconds=1)


class Change(Word):
    """What a change of the clocks has to do with a slot."""

    NONE = "none"
    #: Its time does not exist on this day; the first instant after the gap stands for it.
    GAP = "gap"
    #: Its time is twice on this day, and this is the first or the second.
    FOLD_FIRST = "fold_first"
    FOLD_SECOND = "fold_second"


class Preview(msgspec.Struct, frozen=True):
    """One slot as a reader sees it.  Instants in milliseconds since the Unix epoch."""

    #: The nominal instant.
    at: int
    #: With the jitter.
    starts_at: int
    #: ``"2026-10-25 02:30:00"`` in the schedule's zone, and its seconds east of UTC.
    local: str
    offset_seconds: int
    change: Change
    #: For `Change.GAP`: the wall-clock time that does not exist; else empty.
    instead_of: str


def preview(
    timing: Timing, name: str, anchor_ms: int, after_ms: int, n: int
) -> tuple[Preview, ...]:
    """The next ``n`` slots at most, as `following` finds them."""
    slots = between(timing, name, anchor_ms, after_ms, INSTANT_MS_MAX, n)
    return tuple(_row(timing, name, anchor_ms, slot) for slot in slots)


def warnings(timing: Timing, name: str, after_ms: int, upto_ms: int) -> tuple[str, ...]:
    """What changes of the clocks leave out between two instants; looks `WARN_DAYS_MAX` ahead."""
    where, found = zone(timing.zone), []
    changes = tuple(_changes(where, after_ms // 1_000, upto_ms // 1_000))
    for text in timing.crons:
        times = expression(text, name)
        gap, fold = policies(timing, times)
        for change in changes:
            before, after = offset(where, wall_at(where, change - 1)), _offset_at(where, change)
            low, high = sorted((before, after))
            named = next_wall(times, wall_by(change, low) - _SECOND)
            if named is None or named >= wall_by(change, high):
                continue
            if after > before and gap is Gap.SKIP and timing.gap is Gap.SKIP:
                found.append(f"{named:%Y-%m-%d %H:%M} does not exist ({text}): no slot")
            if after < before and fold is not Fold.BOTH and times.is_rhythm:
                found.append(
                    f"{named:%Y-%m-%d %H:%M} is twice ({text}): no slots while the clocks show it "
                    f"for the {'second' if fold is Fold.FIRST else 'first'} time"
                )
    return tuple(found)


def _row(timing: Timing, name: str, anchor_ms: int, slot: int) -> Preview:
    where = zone(timing.zone)
    wall = wall_at(where, slot // 1_000)
    change, instead_of = Change.NONE, _missing(timing, name, anchor_ms, slot)
    if instead_of is not None:
        change = Change.GAP
    elif place(where, wall).is_fold:
        change = Change.FOLD_SECOND if wall.fold else Change.FOLD_FIRST
    return Preview(
        at=slot,
        starts_at=starts_at(timing, name, slot),
        local=f"{wall:%Y-%m-%d %H:%M:%S}" + (f".{slot % 1_000:03d}" if slot % 1_000 else ""),
        offset_seconds=_offset_at(where, slot // 1_000),
        change=change,
        instead_of=f"{instead_of:%Y-%m-%d %H:%M:%S}" if instead_of else "",
    )


def _missing(timing: Timing, name: str, anchor_ms: int, slot: int) -> dt.datetime | None:
    """The first wall-clock time of a gap that this slot stands for; None: it has its own name."""
    where, at = zone(timing.zone), slot // 1_000
    before, after = _offset_at(where, at - 1), _offset_at(where, at)
    if after <= before or slot in timing.at:
        return None
    anchor = timing.start_at or anchor_ms
    if timing.every_ms and (slot - anchor) % timing.every_ms == 0:
        return None
    named = []
    for text in timing.crons:
        times = expression(text, name)
        if names_wall(times, wall_by(at, after)):
            return None
        missing = next_wall(times, wall_by(at, before) - _SECOND)
        if missing is not None and missing < wall_by(at, after):
            named.append(missing)
    return min(named, default=None)


def _offset_at(where: ZoneInfo, at: int) -> int:
    return offset(where, wall_at(where, at))


def _changes(where: ZoneInfo, since: int, upto: int) -> Iterator[int]:
    """Instants in (since, upto] from which another offset is in force; no two are on one day."""
    upto = min(upto, since + WARN_DAYS_MAX * _DAY_SECONDS, INSTANT_MS_MAX // 1_000)
    while since < upto:
        end = min(since + _DAY_SECONDS, upto)
        if _offset_at(where, since) != _offset_at(where, end):
            low, high, old = since, end, _offset_at(where, since)
            while high - low > 1:
                middle = (low + high) // 2
                low, high = (middle, high) if _offset_at(where, middle) == old else (low, middle)
            yield high
        since = end
