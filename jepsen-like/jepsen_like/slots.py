"""When a schedule is due, worked out apart from the system: intervals and plain cron.

A cron expression has five fields, or six with seconds in front; numbers, lists, ranges and steps.
What a change of the clocks does to it is as documented for ``gap`` and ``fold``, second by second.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

#: Seconds that are looked at one by one for a cron expression.
WINDOW_SECONDS_MAX = 200_000

#: Clocks never go back by more.
_FOLD_SECONDS_MAX = 2 * 3_600

_EPOCH = datetime(1970, 1, 1)
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
        times = _times(document)
        return _cron(times, _clocks(document), after_ms, upto_ms)
    raise CannotTell("neither every_ms nor cron")


def _instant(value: Any) -> int | None:
    """Unix ms of a number (unix ms) or an RFC 3339 text."""
    if value is None or isinstance(value, int | float):
        return None if value is None else int(value)
    return round(datetime.fromisoformat(str(value)).timestamp() * 1_000)


class Times(NamedTuple):
    """The wall-clock times that an expression names, and what is done with those that are not
    there and those that are there twice."""

    seconds: set[int]
    minutes: set[int]
    hours: set[int]
    days: set[int]
    months: set[int]
    weekdays: set[int]
    #: Both kinds of days are named, and either will do.
    is_either: bool
    #: ``skip``, ``shift``; ``first``, ``both``, ``second``.
    gap: str
    fold: str

    def name(self, wall: datetime) -> bool:
        """Is it one of them?"""
        days = (wall.day in self.days, wall.isoweekday() % 7 in self.weekdays)
        return (
            wall.second in self.seconds
            and wall.minute in self.minutes
            and wall.hour in self.hours
            and wall.month in self.months
            and (any(days) if self.is_either else all(days))
        )


def _times(document: dict[str, Any]) -> Times:
    text = str(document["cron"])
    texts = text.split()
    if len(texts) == 5:
        texts = ["0", *texts]
    if len(texts) != 6:
        raise CannotTell(f"{text!r} has not five or six fields")
    second, minute, hour, day, month, weekday = (
        _field(part, low, high) for part, (low, high) in zip(texts, _BOUNDS, strict=True)
    )
    is_either = not texts[3].startswith("*") and not texts[5].startswith("*")
    terms = [term for part in texts[1:3] for term in part.split(",")]
    is_rhythm = any(term.startswith("*") for term in terms)
    gap, fold = document.get("gap", "usual"), document.get("fold", "usual")
    if gap == "usual":
        gap = "skip" if is_rhythm else "shift"
    if fold == "usual":
        fold = "both" if is_rhythm else "first"
    weekdays = {number % 7 for number in weekday}
    return Times(second, minute, hour, day, month, weekdays, is_either, gap, fold)


def _clocks(document: dict[str, Any]) -> Callable[[int], int]:
    """Unix seconds to what clocks show more than UTC then, seconds: by the document's own
    ``offsets`` (pairs of since when, and how many), else by its zone."""
    if "offsets" in document:
        changes = sorted(document["offsets"])
        since = [at for at, _ in changes]
        shown = [0, *(seconds for _, seconds in changes)]
        return lambda at: int(shown[bisect_right(since, at)])
    where = ZoneInfo(str(document.get("time_zone") or document.get("zone") or "UTC"))

    def known(at: int) -> int:
        offset = datetime.fromtimestamp(at, where).utcoffset()
        assert offset is not None
        return round(offset.total_seconds())

    return known


def _cron(times: Times, clocks: Callable[[int], int], after_ms: int, upto_ms: int) -> list[int]:
    first, last = after_ms // 1_000 + 1, upto_ms // 1_000
    if last - first > WINDOW_SECONDS_MAX:
        raise CannotTell(f"more than {WINDOW_SECONDS_MAX} seconds to look at")
    folds: list[tuple[int, int]] = []
    found = set()
    before = clocks(first - _FOLD_SECONDS_MAX - 1)
    for at in range(first - _FOLD_SECONDS_MAX, last + _FOLD_SECONDS_MAX + 1):
        offset = clocks(at)
        if offset < before:
            folds.append((at, before - offset))
        elif offset > before and times.gap == "shift" and first <= at <= last:
            left_out = range(at + before, at + offset)
            if any(times.name(_EPOCH + timedelta(seconds=wall)) for wall in left_out):
                found.add(at)
        before = offset
    for at in range(first, last + 1):
        is_second = any(change <= at < change + size for change, size in folds)
        is_first = any(change - size <= at < change for change, size in folds)
        if (is_second and times.fold == "first") or (is_first and times.fold == "second"):
            continue
        if times.name(_EPOCH + timedelta(seconds=at + clocks(at))):
            found.add(at)
    return [at * 1_000 for at in sorted(found)]


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
