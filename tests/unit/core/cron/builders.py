"""Instants and rows as short texts."""

from __future__ import annotations

import datetime as dt
from typing import Any

from raftsched.core.cron.slots import between
from raftsched.core.cron.timing import Timing
from raftsched.core.cron.zones import zone

NAME = "backup"


def at(text: str) -> int:
    """``"2026-10-25 02:30+02:00"`` in milliseconds; UTC if no offset is given."""
    found = dt.datetime.fromisoformat(text)
    if found.tzinfo is None:
        found = found.replace(tzinfo=dt.UTC)
    return (found - dt.datetime(1970, 1, 1, tzinfo=dt.UTC)) // dt.timedelta(milliseconds=1)


def local(slot_ms: int, name: str) -> str:
    """``"25 02:30 +0200"``: day, time and offset in a zone."""
    shown = dt.datetime.fromtimestamp(slot_ms / 1_000, zone(name))
    return shown.strftime("%d %H:%M %z")


def cron(*texts: str, zone: str = "UTC", **more: Any) -> Timing:
    return Timing(crons=texts, zone=zone, **more)


def days_slots(timing: Timing, since: str, upto: str) -> list[str]:
    """The slots after ``since`` and not after ``upto``, as `local` shows them."""
    found = between(timing, NAME, 0, at(since), at(upto), 1_000)
    return [local(slot, timing.zone) for slot in found]
