"""When a cron schedule is due, by looking at the clocks of a zone minute by minute.

An independent reckoning to hold the product against: ``zoneinfo`` alone, asked in one direction
only (what do the clocks show at this instant?), and a few lines that read cron.  Nothing of
``raftsched`` is imported here.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from functools import cache
from importlib import resources
from typing import NamedTuple
from zoneinfo import ZoneInfo

import tzdata

MINUTE_MS = 60_000
DAY_MINUTES = 1_440
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_DAY_ZERO = dt.date(1970, 1, 1).toordinal()


class Cron(NamedTuple):
    """Wall-clock times, and what is to happen when the clocks change."""

    seconds: tuple[int, ...]
    #: Of the day.
    minutes: tuple[int, ...]
    days: str
    #: ``skip`` or ``shift``; ``first``, ``both`` or ``second``.
    gap: str
    fold: str

    def fits(self, date: dt.date) -> bool:
        """Is it one of the days?"""
        of_month, month, of_week = self.days.split()
        if date.month not in numbers(month, 1, 12):
            return False
        last = (date + dt.timedelta(days=1)).day == 1
        is_month_day = last if of_month == "L" else date.day in numbers(of_month, 1, 31)
        is_week_day = date.isoweekday() % 7 in {day % 7 for day in numbers(of_week, 0, 7)}
        if of_month.startswith("*") or of_week.startswith("*"):
            return is_month_day and is_week_day
        return is_month_day or is_week_day


def cron(text: str, gap: str = "usual", fold: str = "usual") -> Cron:
    """Of an expression with 5 or 6 fields; what is usual depends on whether it is a rhythm."""
    fields = text.split()
    seconds, minute, hour = ("0", *fields)[-6:-3]
    is_rhythm = minute.startswith("*") or hour.startswith("*")
    return Cron(
        tuple(sorted(numbers(seconds, 0, 59))),
        tuple(sorted(60 * h + m for h in numbers(hour, 0, 23) for m in numbers(minute, 0, 59))),
        " ".join(fields[-3:]),
        ("skip" if is_rhythm else "shift") if gap == "usual" else gap,
        ("both" if is_rhythm else "first") if fold == "usual" else fold,
    )


@cache
def numbers(text: str, low: int, high: int) -> frozenset[int]:
    """Of one field: ``*``, ``5``, ``1-5``, each with a step, and lists of these."""
    found: set[int] = set()
    for term in text.split(","):
        span, _, step = term.partition("/")
        first, _, last = (f"{low}-{high}" if span == "*" else span).partition("-")
        found.update(range(int(first), int(last or first) + 1, int(step or 1)))
    return frozenset(found)


class Span(NamedTuple):
    """As long as the clocks of a zone keep their distance from UTC; minutes since the epoch."""

    first: int
    upto: int
    #: Minutes that the clocks are ahead of UTC.
    ahead: int


class Clocks:
    """What the clocks of a zone show between two instants, in milliseconds since the epoch."""

    def __init__(self, zone: str, since_ms: int, upto_ms: int) -> None:
        self.spans = list(_walk(zone, since_ms // MINUTE_MS, upto_ms // MINUTE_MS))
        self._since, self._upto = since_ms, upto_ms

    def slots(self, wanted: Cron) -> list[int]:
        """Instants in milliseconds, rising, from the first of the two on and before the other."""
        found: set[int] = set()
        for number in range(len(self.spans)):
            found.update(self._shown(wanted, number))
            if wanted.gap == "shift" and number:
                found.update(self._moved(wanted, number))
        return sorted(at for at in found if self._since <= at < self._upto)

    def ahead(self, at_ms: int) -> int:
        """Minutes that the clocks are ahead of UTC at an instant."""
        return next(span.ahead for span in self.spans if at_ms < span.upto * MINUTE_MS)

    def _shown(self, wanted: Cron, number: int) -> Iterator[int]:
        """Of the times that are shown in a span, those that count in it."""
        span = self.spans[number]
        before = self.spans[number - 1] if number else None
        after = self.spans[number + 1] if number + 1 < len(self.spans) else None
        for shown in times(wanted, span.first + span.ahead, span.upto + span.ahead):
            was_before = before is not None and shown < before.upto + before.ahead
            comes_again = after is not None and shown >= after.first + after.ahead
            if (was_before and wanted.fold == "first") or (comes_again and wanted.fold == "second"):
                continue
            for second in wanted.seconds:
                yield (shown - span.ahead) * MINUTE_MS + second * 1_000

    def _moved(self, wanted: Cron, number: int) -> Iterator[int]:
        """The instant behind a gap, if a time that is left out was wanted."""
        before, span = self.spans[number - 1 : number + 1]
        if any(times(wanted, before.upto + before.ahead, span.first + span.ahead)):
            yield span.first * MINUTE_MS


def times(wanted: Cron, first: int, upto: int) -> Iterator[int]:
    """Wall-clock times in minutes since the epoch, from one on and before another."""
    for day in range(first // DAY_MINUTES, -(-upto // DAY_MINUTES)):
        if wanted.fits(dt.date.fromordinal(_DAY_ZERO + day)):
            for minute in wanted.minutes:
                if first <= day * DAY_MINUTES + minute < upto:
                    yield day * DAY_MINUTES + minute


def _walk(name: str, first: int, upto: int) -> Iterator[Span]:
    where = zone(name)
    began, ahead = first, _ahead(where, first)
    for at in range(first + 1, upto):
        now = _ahead(where, at)
        if now != ahead:
            yield Span(began, at, ahead)
            began, ahead = at, now
    yield Span(began, upto, ahead)


def _ahead(where: ZoneInfo, minute: int) -> int:
    shown = dt.datetime.fromtimestamp(minute * 60, where)
    return (shown.replace(tzinfo=dt.UTC) - _EPOCH) // dt.timedelta(minutes=1) - minute


@cache
def zone(name: str) -> ZoneInfo:
    """From the package, whatever the machine has."""
    with resources.files(tzdata).joinpath("zoneinfo", *name.split("/")).open("rb") as file:
        return ZoneInfo.from_file(file, key=name)


def instant_ms(text: str) -> int:
    """Of an RFC 3339 instant."""
    return round(dt.datetime.fromisoformat(text).timestamp()) * 1_000
