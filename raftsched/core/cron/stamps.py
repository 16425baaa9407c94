"""What ``apply``, too, says of instants: short texts in UTC, and jitter.  No time zones here."""

from __future__ import annotations

import datetime as dt
from functools import lru_cache
from hashlib import blake2b

_EPOCH = dt.datetime(1970, 1, 1)


def jitter(name: str, at_ms: int, most_ms: int) -> int:
    """By how much the run of an instant begins later: below ``most_ms``, always the same."""
    if not most_ms:
        return 0
    drawn = blake2b(f"{name}\0{at_ms}".encode(), digest_size=8).digest()
    return int.from_bytes(drawn, "little") % most_ms


# Many schedules share an instant, and making the text is a tenth of firing one.
@lru_cache(maxsize=1_024)
def stamp(at_ms: int) -> str:
    """``20261121T020000Z``; with milliseconds behind the seconds where there are some."""
    when = _EPOCH + dt.timedelta(milliseconds=at_ms)
    part = f"{at_ms % 1_000:03}" if at_ms % 1_000 else ""
    return f"{when:%Y%m%dT%H%M%S}{part}Z"
