"""Time zones, from the ``tzdata`` package alone: every peer reads them from a release it can name.

The machine's own zone files are never asked (they differ between machines and change under a
running peer).  What is read here are files of an installed package, once each, like code; that is
why it may stand in ``core``.
"""

from __future__ import annotations

from functools import cache
from importlib import resources
from zoneinfo import ZoneInfo

import tzdata


def tzdata_version() -> str:
    """The release of the time zone database in use, as IANA names it: ``"2026f"``."""
    return str(tzdata.IANA_VERSION)


@cache
def names() -> frozenset[str]:
    """Of all zones there are; about 600."""
    listed = resources.files(tzdata).joinpath("zones").read_text(encoding="utf-8")
    return frozenset(listed.split())


# Bounded by the number of names.
@cache
def zone(name: str) -> ZoneInfo:
    """KeyError if there is none of that name (which is therefore never used as a path)."""
    if name not in names():
        raise KeyError(name)
    with resources.files(tzdata).joinpath("zoneinfo", *name.split("/")).open("rb") as file:
        return ZoneInfo.from_file(file, key=name)
