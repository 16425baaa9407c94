"""Single texts into whole numbers: durations, instants, days.  ValueError says what is allowed."""

from __future__ import annotations

import datetime as dt
import re
from zoneinfo import ZoneInfo

from raftsched.core.cron.places import change_of, place, wall_by
from raftsched.core.cron.timing import DAY_MAX, INSTANT_MS_MAX, Fold

#: Characters of any of them.
TEXT_MAX = 100

_UNITS_MS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_PART = r"([0-9]{1,12})(?:\.([0-9]{1,3}))?(ms|s|m|h|d)"
_DURATION = re.compile(f"(?:{_PART})+")
_INSTANT = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]{1,3})?)?"
    r"([Zz]|[+-][0-9]{2}:[0-9]{2})?"
)
_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_YEARLY = re.compile(r"([0-9]{2}-[0-9]{2})(?:\.\.([0-9]{2}-[0-9]{2}))?")
_EPOCH = dt.datetime(1970, 1, 1)
_MILLISECOND = dt.timedelta(milliseconds=1)


def duration_ms(text: str) -> int:
    """``"10m"``, ``"1h30m"``, ``"0.5s"``: whole milliseconds, without floats."""
    wrong = ValueError(f'{text[:40]!r} is no duration; write "30s", "10m", "1h30m" or "250ms"')
    if len(text) > TEXT_MAX or not _DURATION.fullmatch(text):
        raise wrong
    total = 0
    for whole, part, unit in re.findall(_PART, text):
        size = _UNITS_MS[unit]
        thousandths = int(part.ljust(3, "0") or 0) * size
        if thousandths % 1_000:
            raise wrong
        total += int(whole) * size + thousandths // 1_000
    return total


def instants_ms(text: str, zone: ZoneInfo, fold: Fold) -> tuple[int, ...]:
    """RFC 3339, or a wall-clock time of the zone: that is two in a fold if ``both`` are wanted."""
    wrong = ValueError(
        f'{text[:40]!r} is no instant; write "2026-12-31T23:59:00Z", or without the Z for the '
        f"time in {zone.key}"
    )
    if not _INSTANT.fullmatch(text):
        raise wrong
    try:
        found = dt.datetime.fromisoformat(text.upper())
    except ValueError:
        raise wrong from None
    naive = found.replace(tzinfo=None)
    if not 0 < (naive - _EPOCH) // _MILLISECOND < INSTANT_MS_MAX or naive.year == 1970:
        raise ValueError(f"{text!r} is out of range: 1971 to 8999")
    if found.tzinfo is not None:
        return ((found - _EPOCH.replace(tzinfo=dt.UTC)) // _MILLISECOND,)
    return _of_wall(naive, zone, fold)


def _of_wall(naive: dt.datetime, zone: ZoneInfo, fold: Fold) -> tuple[int, ...]:
    found = place(zone, naive.replace(microsecond=0))
    if found.is_gap:
        change = change_of(zone, found)
        old, new = wall_by(change, found.before), wall_by(change, found.after)
        raise ValueError(
            f"{naive:%Y-%m-%d %H:%M} does not exist in {zone.key}: the clocks go from "
            f"{old:%H:%M} to {new:%H:%M}; write another time, or one with an offset"
        )
    rest = naive.microsecond // 1_000
    first, second = found.first * 1_000 + rest, found.second * 1_000 + rest
    if first == second or fold in (Fold.USUAL, Fold.FIRST):
        return (first,)
    return (second,) if fold is Fold.SECOND else (first, second)


def days(text: str) -> tuple[int, int]:
    """``"2026-12-24"`` or ``"2026-12-24..2026-12-31"``: first and last, from 1970-01-01."""
    wrong = ValueError(
        f'{text[:40]!r} is no day; write "2026-12-24" or "2026-12-24..2026-12-31" (both included), '
        'or "12-24" for every year'
    )
    first, dots, last = text.partition("..")
    try:
        found = _day(first), _day(last if dots else first)
    except ValueError:
        raise wrong from None
    if not 0 <= found[0] <= found[1] <= DAY_MAX:
        raise wrong
    return found


def days_of_year(text: str) -> tuple[int, int] | None:
    """``"12-24"`` or ``"12-24..01-06"``: first and last, month * 100 + day.  None: no such text."""
    match = _YEARLY.fullmatch(text)
    if match is None:
        return None
    first = _day_of_year(match[1])
    return first, _day_of_year(match[2]) if match[2] else first


def _day_of_year(text: str) -> int:
    try:
        # A leap year: the 29th of February is a day of every year that has it.
        found = dt.date.fromisoformat(f"2024-{text}")
    except ValueError:
        raise ValueError(f"{text!r} is no day of any year") from None
    return found.month * 100 + found.day


def _day(text: str) -> int:
    if not _DAY.fullmatch(text):
        raise ValueError(text)
    return (dt.date.fromisoformat(text) - _EPOCH.date()).days
