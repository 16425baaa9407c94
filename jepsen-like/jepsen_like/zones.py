"""A time zone of the harness's own, whose clocks go forward and back all through a run.

Peers find it in a ``tzdata`` package that stands before the installed one.  Judges never read that
package: what is due is worked out from the plan itself.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import NamedTuple

NAME = "Jepsen/Changing"
#: From one change to the next, and by how much clocks change.  Neither is a multiple of what is in
#: the expressions, so that slots of all kinds fall into gaps and folds.
APART_SECONDS, STEP_SECONDS = 17, 7
#: Of changes after the last fault may have ended.
_MORE_SECONDS = 300

_HEADER = struct.Struct(">4sc15x6l")
_TYPE = struct.Struct(">lBB")


class Offset(NamedTuple):
    """Since when (unix seconds) clocks in the zone show so many seconds more than UTC."""

    since: int
    seconds: int


class Zone:
    """One run's."""

    def __init__(self, since: int, limit_seconds: float) -> None:
        """``since``: unix seconds; changes go on for the limit and some minutes more."""
        pairs = round(limit_seconds + _MORE_SECONDS) // (2 * APART_SECONDS) + 1
        #: In order of time; the last is none.
        self.offsets = [
            Offset(since + APART_SECONDS * number, 0 if number % 2 else STEP_SECONDS)
            for number in range(2 * pairs)
        ]

    def next_change(self, after: float) -> Offset | None:
        """The first after an instant, unix seconds; None: there is none any more."""
        return next((offset for offset in self.offsets if offset.since > after), None)

    def write(self, directory: Path) -> Path:
        """Lay a ``tzdata`` package into a directory, with this zone and UTC; returns it."""
        package = directory / "tzdata"
        for name, offsets in ((NAME, self.offsets), ("UTC", [])):
            file = package / "zoneinfo" / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(_tzif(offsets))
        (package / "zones").write_text(f"{NAME}\nUTC\n", encoding="utf-8")
        (package / "__init__.py").write_text('IANA_VERSION = "jepsen"\n', encoding="utf-8")
        return directory


def _tzif(offsets: list[Offset]) -> bytes:
    """A file of RFC 8536, version 2, whose first block is empty; before the first it is UTC."""
    seconds = sorted({0, *(offset.seconds for offset in offsets)})
    names = b"JPS\0"
    types = b"".join(_TYPE.pack(one, one != 0, 0) for one in seconds)
    instants = struct.pack(f">{len(offsets)}q", *(offset.since for offset in offsets))
    indices = bytes(seconds.index(offset.seconds) for offset in offsets)
    empty = _HEADER.pack(b"TZif", b"2", 0, 0, 0, 0, 1, len(names)) + _TYPE.pack(0, 0, 0) + names
    head = _HEADER.pack(b"TZif", b"2", 0, 0, 0, len(offsets), len(seconds), len(names))
    # From the last change on it is UTC as well.
    return empty + head + instants + indices + types + names + b"\nUTC0\n"
