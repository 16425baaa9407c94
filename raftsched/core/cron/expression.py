"""One cron expression: which wall-clock times it names, without any time zone.

The grammar and the choice of days are cronsim's (Debian's cron).  The search within a day is our
own, over sorted tuples: cronsim walks second by second and hour by hour, and is parsed anew for
every question.  Tests hold the two together.
"""

from __future__ import annotations

import datetime as dt
import re
from bisect import bisect_right
from functools import lru_cache
from hashlib import blake2b
from typing import NamedTuple

from cronsim import CronSim, CronSimError

#: Characters of an expression.
TEXT_MAX = 200
#: Days searched for the next one that fits.  The calendar's rarest (a leap day that is a certain
#: day of the week, across 2100) comes after 40 years.
HORIZON_DAYS = 50 * 366
#: Expressions kept parsed: about a kilobyte each.
_KEPT_MAX = 8_192

ALIASES = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}


class _Field(NamedTuple):
    name: str
    low: int
    high: int
    #: The highest that ``H`` alone draws: every month has a 28th.
    high_drawn: int
    also: str


FIELDS = (
    _Field("second", 0, 59, 59, ""),
    _Field("minute", 0, 59, 59, ""),
    _Field("hour", 0, 23, 23, ""),
    _Field("day-of-month", 1, 31, 28, '; "L" is the last day, "LW" the last weekday'),
    _Field("month", 1, 12, 12, "; or JAN to DEC"),
    _Field("day-of-week", 0, 7, 6, '; or SUN to SAT, "1#2" the second Monday, "1L" the last'),
)

_HASHED = re.compile(r"H(?:\(([0-9]{1,3})-([0-9]{1,3})\))?(?:/([0-9]{1,3}))?")
_ALLOWED = re.compile(r"[0-9A-Z*/,#()\- ]*")


class Expression(NamedTuple):
    """Wall-clock times: every second of every minute of every hour named, on the days named."""

    seconds: tuple[int, ...]
    minutes: tuple[int, ...]
    hours: tuple[int, ...]
    #: The last three fields.
    days: str
    #: Minutes or hours begin with ``*`` or are stepped by ``H/``: it means a distance, not a time.
    is_rhythm: bool


def expression(text: str, name: str) -> Expression:
    """The times of a schedule of this name.  ValueError says what is wrong, where, what now."""
    # Without ``H`` (or a name of a month or day with one) all names have the same.
    return _expression(text, name if "H" in text or "h" in text else "")


@lru_cache(maxsize=_KEPT_MAX)
def _expression(text: str, name: str) -> Expression:
    fields = _fields(text)
    return _parsed(" ".join(resolved(fields, name)), _is_rhythm(fields))


def plain(text: str, name: str) -> str:
    """The expression as six fields, numbers in the place of ``H``.  ValueError as above."""
    return " ".join(resolved(_fields(text), name))


def next_wall(times: Expression, wall: dt.datetime) -> dt.datetime | None:
    """The first time named after ``wall`` (naive, whole seconds); None within the horizon."""
    today = wall.toordinal()
    day = _day_from(times.days, today)
    if day == today:
        later = _later(times, wall.hour, wall.minute, wall.second)
        if later is not None:
            return wall.replace(hour=later[0], minute=later[1], second=later[2], fold=0)
        day = _day_from(times.days, today + 1)
    if not day:
        return None
    first = dt.time(times.hours[0], times.minutes[0], times.seconds[0])
    return dt.datetime.combine(dt.date.fromordinal(day), first)


def names_wall(times: Expression, wall: dt.datetime) -> bool:
    """Is ``wall`` (naive) one of the times?"""
    return next_wall(times, wall - dt.timedelta(seconds=1)) == wall.replace(fold=0)


def resolved(fields: list[str], name: str) -> list[str]:
    """Six fields with numbers for every ``H``: drawn by field and name, the same for ever."""
    return [
        ",".join(_drawn(term, field, name) for term in text.split(","))
        for text, field in zip(fields, FIELDS, strict=True)
    ]


def _drawn(term: str, field: _Field, name: str) -> str:
    match = _HASHED.fullmatch(term)
    if match is None:
        return term
    low, high = field.low, field.high_drawn
    if match[1]:
        low, high = int(match[1]), int(match[2])
        if not field.low <= low <= high <= field.high:
            raise ValueError(f'{field.name} "{term}": a range within {field.low}-{field.high}')
    digest = blake2b(f"{field.name}\0{name}".encode(), digest_size=8).digest()
    number = int.from_bytes(digest, "little")
    if not match[3]:
        return str(low + number % (high - low + 1))
    step = int(match[3])
    if not 1 <= step <= high - low + 1:
        raise ValueError(f'{field.name} "{term}": a step from 1 to {high - low + 1}')
    start = low + number % step
    # "7-7/1" would be read as "7/1": from 7 on.
    return str(start) if start == high else f"{start}-{high}/{step}"


def _fields(text: str) -> list[str]:
    """Six of them, in capitals, aliases replaced."""
    if len(text) > TEXT_MAX:
        raise ValueError(f"a cron expression has at most {TEXT_MAX} characters")
    told = text.strip()
    told = ALIASES.get(told.lower(), told)
    if told.startswith("@"):
        raise ValueError(_no_alias(told))
    fields = told.upper().split()
    if len(fields) == 5:
        fields.insert(0, "0")
    if len(fields) != 6:
        raise ValueError(
            f"{text[:40]!r} has {len(fields)} fields; cron has 5 (minute hour day-of-month month "
            "day-of-week), or 6 with seconds first"
            + (" (the year of Quartz is not known here)" if len(fields) == 7 else "")
        )
    for field, part in zip(FIELDS, fields, strict=True):
        if "?" in part:
            raise ValueError(f'{field.name} "{part}": "?" is of Quartz; write "*"')
        if not _ALLOWED.fullmatch(part):
            raise ValueError(_bad(field, part))
    return fields


def _no_alias(told: str) -> str:
    if told.lower() == "@reboot":
        return "@reboot is no time; a broadcast task or the machine's own cron runs at its start"
    return f"{told[:40]!r} is unknown; there are {', '.join(ALIASES)}, @every and @at"


def _bad(field: _Field, part: str) -> str:
    return (
        f'{field.name} "{part[:40]}": {field.low} to {field.high}, lists "{field.low},5", ranges '
        f'"{field.low}-5", steps "*/2", "*" or "H"{field.also}'
    )


def _is_rhythm(fields: list[str]) -> bool:
    terms = [term for part in fields[1:3] for term in part.split(",")]
    return any(t.startswith("*") or (t.startswith("H") and "/" in t) for t in terms)


@lru_cache(maxsize=_KEPT_MAX)
def _parsed(text: str, is_rhythm: bool) -> Expression:
    try:
        sim = CronSim(text, _ANY_TIME)
    except CronSimError:
        raise ValueError(_wrong(text)) from None
    days = " ".join(text.split()[3:])
    if not _day_from(days, _ANY_TIME.toordinal()):
        raise ValueError(_never(text))
    hours, minutes, seconds = sorted(sim.hours), sorted(sim.minutes), sorted(sim.seconds)
    return Expression(tuple(seconds), tuple(minutes), tuple(hours), days, is_rhythm)


def _wrong(text: str) -> str:
    """Which field it is; none of them: their days exclude each other."""
    for index, (field, part) in enumerate(zip(FIELDS, text.split(), strict=True)):
        alone = ["0", "0", "0", "*", "*", "*"]
        alone[index] = part
        try:
            CronSim(" ".join(alone), _ANY_TIME)
        except CronSimError:
            return _bad(field, part)
    return _never(text)


def _never(text: str) -> str:
    return f"a slot that never comes: no day of the calendar is {' '.join(text.split()[3:])!r}"


#: Where the search for "does it ever come" begins: any time does, as the calendar repeats.
_ANY_TIME = dt.datetime(2024, 1, 1)


def _later(times: Expression, hour: int, minute: int, second: int) -> tuple[int, int, int] | None:
    """The first time of the day after this one."""
    seconds, minutes, hours = times.seconds, times.minutes, times.hours
    if hour in hours:
        if minute in minutes:
            index = bisect_right(seconds, second)
            if index < len(seconds):
                return hour, minute, seconds[index]
        index = bisect_right(minutes, minute)
        if index < len(minutes):
            return hour, minutes[index], seconds[0]
    index = bisect_right(hours, hour)
    if index < len(hours):
        return hours[index], minutes[0], seconds[0]
    return None


@lru_cache(maxsize=1_024)
def _matcher(days: str) -> CronSim:
    """Asked for its months and ``match_day`` only, which change nothing in it."""
    return CronSim(f"0 0 0 {days}", _ANY_TIME)


# Many schedules share their days, and all ask on the same day.
@lru_cache(maxsize=_KEPT_MAX)
def _day_from(days: str, first: int) -> int:
    """The first day (ordinal) from ``first`` on that fits; 0: none within the horizon."""
    matcher = _matcher(days)
    day = first
    while day < first + HORIZON_DAYS:
        date = dt.date.fromordinal(day)
        if date.month not in matcher.months:
            day += 32 - date.day
            day -= dt.date.fromordinal(day).day - 1
        elif matcher.match_day(date):
            return day
        else:
            day += 1
    return 0
