"""Instants as short texts in UTC."""

from __future__ import annotations

import datetime as dt

_EPOCH = dt.datetime(1970, 1, 1)


def stamp(at_ms: int) -> str:
    """``20261121T020000Z``; with milliseconds behind the seconds where there are some."""
    when = _EPOCH + dt.timedelta(milliseconds=at_ms)
    part = f"{at_ms % 1_000:03}" if at_ms % 1_000 else ""
    return f"{when:%Y%m%dT%H%M%S}{part}Z"
