"""Days without slots: certain ones, and those that come again every year.  Days are of the zone."""

from __future__ import annotations

import datetime as dt
from bisect import bisect_right

from raftsched.core.cron.places import day_begins, day_of
from raftsched.core.cron.timing import DAY_MAX, Timing
from raftsched.core.cron.zones import zone

_DAY_ZERO = dt.date(1970, 1, 1).toordinal()


def excluded_until(timing: Timing, at_ms: int) -> int:
    """The first instant after the excluded days that ``at_ms`` is in; 0: it is in none."""
    if not timing.exclude and not timing.exclude_yearly:
        return 0
    where = zone(timing.zone)
    day = day_of(where, at_ms // 1_000)
    last = max(_last_of_certain(timing, day), _last_of_yearly(timing, day))
    return day_begins(where, last + 1) * 1_000 if last >= day else 0


def _last_of_certain(timing: Timing, day: int) -> int:
    """The last day of the range that begins last, up to a day; -1: there is none."""
    index = bisect_right(timing.exclude, (day, DAY_MAX + 1)) - 1
    return timing.exclude[index][1] if index >= 0 else -1


def _last_of_yearly(timing: Timing, day: int) -> int:
    """The last day of the ranges of every year that a day is in; -1: it is in none."""
    last_day = -1
    date = dt.date.fromordinal(_DAY_ZERO + day)
    shown = date.month * 100 + date.day
    for first, last in timing.exclude_yearly:
        if first <= last:
            is_in, year = first <= shown <= last, date.year
        else:  # Over New Year.
            is_in, year = shown >= first or shown <= last, date.year + (shown >= first)
        if is_in:
            last_day = max(last_day, _day_of_year(year, last))
    return last_day


def _day_of_year(year: int, shown: int) -> int:
    """Of a month and a day; the 29th of February is the 28th where there is none."""
    month, day = divmod(shown, 100)
    if shown == 229:
        return dt.date(year, 3, 1).toordinal() - 1 - _DAY_ZERO
    return dt.date(year, month, day).toordinal() - _DAY_ZERO
