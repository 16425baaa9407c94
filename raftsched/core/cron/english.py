"""The times of a schedule in plain English.  The words for an expression are cronsim's."""

from __future__ import annotations

import datetime as dt

from cronsim import CronSim

from raftsched.core.cron.expression import plain
from raftsched.core.cron.places import wall_at
from raftsched.core.cron.timing import Timing
from raftsched.core.cron.zones import zone

#: Instants of ``at`` that are written out.
_SHOWN_MAX = 3
_UNITS_MS = (
    ("day", 86_400_000),
    ("hour", 3_600_000),
    ("minute", 60_000),
    ("second", 1_000),
    ("millisecond", 1),
)
_ANY_TIME = dt.datetime(2024, 1, 1)


def english(timing: Timing, name: str) -> str:
    """``"at 02:30 on weekdays, Europe/Berlin"``; with the numbers that ``H`` has for the name."""
    said = [_cron(text, name) for text in timing.crons]
    if timing.every_ms:
        words = _duration(timing.every_ms)
        said.append("every " + (words.removeprefix("1 ") if words.count(" ") == 1 else words))
    if timing.at:
        said.append(_instants(timing))
    parts = ["; and ".join(said)]
    if timing.crons or timing.at or timing.exclude or timing.exclude_yearly:
        parts.append(timing.zone)
    if timing.start_at:
        parts.append(f"from {_instant(timing, timing.start_at)}")
    if timing.end_at:
        parts.append(f"before {_instant(timing, timing.end_at)}")
    if timing.exclude:
        parts.append(_exclusions(timing))
    if timing.exclude_yearly:
        parts.append(_yearly(timing))
    if timing.jitter_ms:
        parts.append(f"each start up to {_duration(timing.jitter_ms)} later")
    return ", ".join(parts)


def _cron(text: str, name: str) -> str:
    said = CronSim(plain(text, name), _ANY_TIME).explain()
    said = said[0].lower() + said[1:]
    return said.replace("on Monday through Friday", "on weekdays")


def _duration(milliseconds: int) -> str:
    said = []
    for unit, size in _UNITS_MS:
        count, milliseconds = divmod(milliseconds, size)
        if count:
            said.append(f"{count} {unit}{'s' if count > 1 else ''}")
    return " ".join(said)


def _instants(timing: Timing) -> str:
    if len(timing.at) <= _SHOWN_MAX:
        return "at " + " and ".join(_instant(timing, at) for at in timing.at)
    first, last = _instant(timing, timing.at[0]), _instant(timing, timing.at[-1])
    return f"at {len(timing.at)} instants from {first} to {last}"


def _instant(timing: Timing, at_ms: int) -> str:
    wall = wall_at(zone(timing.zone), at_ms // 1_000)
    return f"{wall:%Y-%m-%d %H:%M:%S}".removesuffix(":00")


def _yearly(timing: Timing) -> str:
    told = [
        _day_of_year(first) + (f" to {_day_of_year(last)}" if last != first else "")
        for first, last in timing.exclude_yearly
    ]
    if len(told) > _SHOWN_MAX:
        return f"not on {len(told)} ranges of days of every year"
    return f"in no year on {' and '.join(told)}"


def _day_of_year(shown: int) -> str:
    return f"{shown // 100:02}-{shown % 100:02}"


def _exclusions(timing: Timing) -> str:
    count = sum(last - first + 1 for first, last in timing.exclude)
    return f"not on {count} excluded day{'s' if count > 1 else ''}"
