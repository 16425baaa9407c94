"""When a schedule is due, worked out apart from the system: intervals and plain cron.

A cron expression has five fields, or six with seconds in front; numbers, lists, ranges and steps.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

#: Seconds that are looked at one by one for a cron expression.
WINDOW_SECONDS_MAX = 200_000

_BOUNDS = ((0, 59), (0, 59), (0, 23), (1, 31), (1, 12), (0, 7))


class CannotTell(Exception):
    """This module does not know when that is due; says why."""


def due(document: dict[str, Any], after_ms: int, upto_ms: int, anchor_ms: int | None) -> list[int]:
    """Nominal instants, unix ms, in ``(after_ms, upto_ms]``.

    ``anchor_ms`` is any instant known to be one, for an interval without a ``start``.
    Raises CannotTell.
    """
    start, end = _instant(document.get("start")), _instant(document.get("end"))
    after_ms = max(after_ms, start - 1) if start is not None else after_ms
    upto_ms = min(upto_ms, end - 1) if end is not None else upto_ms
    if document.get("every_ms"):
        anchor = start if start is not None else anchor_ms
        if anchor is None:
            raise CannotTell("an interval without a start of which no slot was seen")
        every = int(document["every_ms"])
        first = anchor + ((after_ms - anchor) // every + 1) * every
        return list(range(first, upto_ms + 1, every))
    if document.get("cron"):
        zone = str(document.get("time_zone") or document.get("zone") or "UTC")
        return _cron(str(document["cron"]), zone, after_ms, upto_ms)
    raise CannotTell("neither every_ms nor cron")


def _instant(value: Any) -> int | None:
    """Unix ms of a number (unix ms) or an RFC 3339 text."""
    if value is None or isinstance(value, int | float):
        return None if value is None else int(value)
    return round(datetime.fromisoformat(str(value)).timestamp() * 1_000)


def _cron(text: str, zone: str, after_ms: int, upto_ms: int) -> list[int]:
    texts = text.split()
    if len(texts) == 5:
        texts = ["0", *texts]
    if len(texts) != 6:
        raise CannotTell(f"{text!r} has not five or six fields")
    second, minute, hour, day, month, weekday = (
        _field(part, low, high) for part, (low, high) in zip(texts, _BOUNDS, strict=True)
    )
    weekday = {number % 7 for number in weekday}
    either = not texts[3].startswith("*") and not texts[5].startswith("*")
    first, last = after_ms // 1_000 + 1, upto_ms // 1_000
    if last - first > WINDOW_SECONDS_MAX:
        raise CannotTell(f"more than {WINDOW_SECONDS_MAX} seconds to look at")
    where = ZoneInfo(zone)
    if first <= last and _offset(first, where) != _offset(last, where):
        raise CannotTell("the clocks change meanwhile")
    found = []
    for at in range(first, last + 1):
        wall = datetime.fromtimestamp(at, where)
        days = (wall.day in day, wall.isoweekday() % 7 in weekday)
        if (
            wall.second in second
            and wall.minute in minute
            and wall.hour in hour
            and wall.month in month
            and (any(days) if either else all(days))
        ):
            found.append(at * 1_000)
    return found


def _offset(at: int, where: ZoneInfo) -> object:
    return datetime.fromtimestamp(at, where).utcoffset()


def _field(text: str, low: int, high: int) -> set[int]:
    found: set[int] = set()
    for part in text.split(","):
        span, _, step = part.partition("/")
        first, dash, last = span.partition("-")
        try:
            if span == "*":
                bounds = (low, high)
            elif dash:
                bounds = (int(first), int(last))
            else:
                bounds = (int(first), high if step else int(first))
            found.update(range(bounds[0], bounds[1] + 1, int(step or 1)))
        except ValueError as error:
            raise CannotTell(f"{text!r} is no field of numbers") from error
    return found
