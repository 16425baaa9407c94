"""Durations and instants as users write them."""

from __future__ import annotations

import datetime as dt
import re
from functools import lru_cache

DURATION_MS_MAX = 366 * 24 * 3_600_000
#: The last instant taken: the end of the year 9999.
INSTANT_MS_MAX = 253_402_300_799_999

_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_UNITS_MS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)

Duration = str | int | float


def parse_duration(value: Duration) -> int:
    """``"30s"``, ``"5m"`` or seconds to milliseconds; ValueError says what is allowed."""
    if isinstance(value, str):
        match = _DURATION.fullmatch(value)
        milliseconds = float(match[1]) * _UNITS_MS[match[2]] if match else -1.0
    else:
        milliseconds = value * 1000
    if not 0 <= milliseconds <= DURATION_MS_MAX:
        raise ValueError(f'{value!r} is no duration; write "30s", "5m" or seconds')
    return round(milliseconds)


def parse_instant(value: str) -> int:
    """RFC 3339 to milliseconds since the Unix epoch; ValueError says what is allowed."""
    try:
        found = dt.datetime.fromisoformat(value)
    except ValueError:
        found = None
    if found is None or found.tzinfo is None or "T" not in value.upper():
        raise ValueError(f'{value[:100]!r} is no instant; write "2026-12-31T23:59:59Z"')
    milliseconds = (found - _EPOCH) // dt.timedelta(milliseconds=1)
    if not 0 < milliseconds <= INSTANT_MS_MAX:
        raise ValueError(f"{value[:100]!r} is out of range")
    return milliseconds


_MILLISECONDS = tuple(f".{number:03d}Z" for number in range(1000))


def instant(milliseconds: int) -> str | None:
    """RFC 3339, UTC; None for "not yet"."""
    if not milliseconds:
        return None
    second, rest = divmod(milliseconds, 1000)
    return _second(second) + _MILLISECONDS[rest]


@lru_cache(maxsize=1024)
def _second(second: int) -> str:
    # Rows that are shown together were mostly stamped within a few seconds.
    return dt.datetime.fromtimestamp(second, dt.UTC).strftime("%Y-%m-%dT%H:%M:%S")
