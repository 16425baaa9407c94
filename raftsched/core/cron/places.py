"""Wall-clock times to instants in a zone: what a gap and a fold make of them.

Seconds since the Unix epoch throughout.  A *gap* are wall-clock times that never were: the clocks
went forward over them.  A *fold* are those that were twice.  Both also come with a change of a
zone's standard time; whatever its size, it is dealt with alike.
"""

from __future__ import annotations

import datetime as dt
from typing import NamedTuple
from zoneinfo import ZoneInfo

_EPOCH = dt.datetime(1970, 1, 1)
_SECOND = dt.timedelta(seconds=1)


class Place(NamedTuple):
    """Where a wall-clock time stands: on neither side of a change the two offsets are equal."""

    #: Seconds east of UTC by the rule before and after the change that it falls into.
    before: int
    after: int
    #: The instant by either.
    first: int
    second: int

    @property
    def is_gap(self) -> bool:
        return self.after > self.before

    @property
    def is_fold(self) -> bool:
        return self.after < self.before


def place(zone: ZoneInfo, wall: dt.datetime) -> Place:
    """Of a naive time, whole seconds."""
    before = offset(zone, wall.replace(fold=0))
    after = offset(zone, wall.replace(fold=1))
    naive = (wall - _EPOCH) // _SECOND
    return Place(before, after, naive - before, naive - after)


def offset(zone: ZoneInfo, wall: dt.datetime) -> int:
    """Seconds east of UTC at a naive time and its ``fold``."""
    found = zone.utcoffset(wall)
    assert found is not None, "a zone knows the offset of every time"
    return found // _SECOND


def wall_at(zone: ZoneInfo, at: int) -> dt.datetime:
    """What the clocks show, naive; its ``fold`` is 1 in the second pass of a fold."""
    return dt.datetime.fromtimestamp(at, zone).replace(tzinfo=None)


def wall_by(at: int, offset_seconds: int) -> dt.datetime:
    """The naive time at an instant by a certain offset."""
    return _EPOCH + dt.timedelta(seconds=at + offset_seconds)


def change_of(zone: ZoneInfo, found: Place) -> int:
    """The first instant by the new rule, of a place in a gap or a fold.

    The change lies between the two readings of the wall-clock time; halving finds it.
    """
    old, new = sorted((found.first, found.second))
    while new - old > 1:
        middle = (old + new) // 2
        at_middle = offset(zone, wall_at(zone, middle))
        old, new = (middle, new) if at_middle == found.before else (old, middle)
    return new


def day_begins(zone: ZoneInfo, day: int) -> int:
    """The first instant of a local day (counted from 1970-01-01)."""
    found = place(zone, _EPOCH + dt.timedelta(days=day))
    return change_of(zone, found) if found.is_gap else found.first


def day_of(zone: ZoneInfo, at: int) -> int:
    """The local day of an instant.  A day lasts until the next one's first instant."""
    day = (wall_at(zone, at) - _EPOCH).days
    # Where the clocks go back over midnight, the evening before is shown twice.
    return day + 1 if at >= day_begins(zone, day + 1) else day
