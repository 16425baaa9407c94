"""What a user writes about times into the row, or a sentence that says what, where and what now.

Nothing but `ParseError` comes out of here, whatever goes in, and every text is bounded.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable
from typing import TypeVar

import msgspec

from raftsched.core.cron.expression import expression
from raftsched.core.cron.slots import following
from raftsched.core.cron.texts import TEXT_MAX, days, days_of_year, duration_ms, instants_ms
from raftsched.core.cron.timing import (
    AT_MAX,
    CRONS_MAX,
    EVERY_MS_MAX,
    EVERY_MS_MIN,
    EXCLUDE_MAX,
    JITTER_MS_MAX,
    YEARLY_MAX,
    Fold,
    Gap,
    Timing,
)
from raftsched.core.cron.zones import names, zone
from raftsched.core.words import Word

T = TypeVar("T")
W = TypeVar("W", bound=Word)


class ParseError(Exception):
    """A wrong word of a user's.  ``pointer`` is the JSON pointer of it within `Asked`."""

    def __init__(self, pointer: str, text: str) -> None:
        super().__init__(f"{pointer}: {text}")
        self.pointer = pointer
        self.text = text


class Asked(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The times of a schedule as texts; what is left out is as in `Timing`."""

    #: Expressions, ``@daily`` and the like, ``@every 10m``, ``@at 2026-12-31T23:59:00Z``.
    crons: tuple[str, ...] = ()
    every: str = ""
    #: RFC 3339, or without an offset in the zone; likewise ``start_at`` and ``end_at``.
    at: tuple[str, ...] = ()
    zone: str = "UTC"
    gap: str = "usual"
    fold: str = "usual"
    start_at: str = ""
    end_at: str = ""
    #: Days, or ranges ``2026-12-24..2026-12-31``; without the year those of every year.
    exclude: tuple[str, ...] = ()
    jitter: str = ""


def parse(asked: Asked, name: str) -> Timing:
    """The row for a schedule of this name.  ParseError for the first thing that is wrong.

    That it comes at all is checked against the calendar; `must_come` knows about now.
    """
    _count(asked)
    timing = Timing(
        zone=_zone(asked.zone),
        gap=_word(Gap, asked.gap, "/gap"),
        fold=_word(Fold, asked.fold, "/fold"),
    )
    timing = _with_times(timing, asked, name)
    start_at = _bound(asked.start_at, "/start_at", timing)
    end_at = _bound(asked.end_at, "/end_at", timing)
    if end_at and end_at <= start_at:
        raise ParseError("/end_at", "the end is not after the start, so no slot is between them")
    jitter_ms = _at("/jitter", duration_ms, asked.jitter) if asked.jitter else 0
    if jitter_ms > JITTER_MS_MAX:
        raise ParseError("/jitter", "a start is delayed by a day (24h) at most")
    exclude, exclude_yearly = _excluded(asked.exclude)
    return msgspec.structs.replace(
        timing,
        start_at=start_at,
        end_at=end_at,
        exclude=exclude,
        exclude_yearly=exclude_yearly,
        jitter_ms=jitter_ms,
    )


def must_come(timing: Timing, name: str, anchor_ms: int, now_ms: int) -> None:
    """ParseError if no slot is after ``now_ms``: what is saved is meant to run."""
    if following(timing, name, anchor_ms, now_ms):
        return
    never = "a slot that never comes: "
    if timing.end_at and timing.end_at <= now_ms:
        raise ParseError("/end_at", never + "the end is over")
    without = msgspec.structs.replace(timing, exclude=(), exclude_yearly=())
    if without != timing and following(without, name, anchor_ms, now_ms):
        raise ParseError("/exclude", never + "every one is on an excluded day")
    if timing.end_at:
        raise ParseError("/end_at", never + "none is before the end")
    if timing.crons:
        raise ParseError(
            "/gap",
            never + f"all are at times that the clocks of {timing.zone} go over; gap = "
            '"shift" moves them behind it',
        )
    raise ParseError("/at", never + "all instants are over")


def _count(asked: Asked) -> None:
    for pointer, given, most in (
        ("/crons", asked.crons, CRONS_MAX),
        ("/at", asked.at, AT_MAX),
        ("/exclude", asked.exclude, EXCLUDE_MAX),
    ):
        if len(given) > most:
            raise ParseError(pointer, f"{len(given)} of them; at most {most} are taken")
    if not asked.crons and not asked.every and not asked.at:
        raise ParseError("/crons", "no time is given; write crons, every or at")


def _with_times(timing: Timing, asked: Asked, name: str) -> Timing:
    crons: list[str] = []
    intervals = [("/every", asked.every)] if asked.every else []
    instants = [(f"/at/{index}", text) for index, text in enumerate(asked.at)]
    for index, text in enumerate(asked.crons):
        pointer, word = f"/crons/{index}", text.strip()
        kind, _, rest = word.partition(" ")
        if kind.lower() == "@every":
            intervals.append((pointer, rest.strip()))
        elif kind.lower() == "@at":
            instants.append((pointer, rest.strip()))
        else:
            _at(pointer, lambda told: expression(told, name), word)
            crons.append(" ".join(word.split()))
    return msgspec.structs.replace(
        timing,
        crons=tuple(dict.fromkeys(crons)),
        every_ms=_interval(intervals),
        at=_instants(instants, timing),
    )


def _interval(told: list[tuple[str, str]]) -> int:
    if not told:
        return 0
    if len(told) > 1:
        raise ParseError(told[1][0], "a schedule has one interval; make another schedule")
    pointer, text = told[0]
    found = _at(pointer, duration_ms, text)
    if not EVERY_MS_MIN <= found <= EVERY_MS_MAX:
        raise ParseError(pointer, f"{text!r} is out of range: {EVERY_MS_MIN} ms to ten years")
    return found


def _instants(told: list[tuple[str, str]], timing: Timing) -> tuple[int, ...]:
    where = zone(timing.zone)
    found: set[int] = set()
    for pointer, text in told:
        found.update(_at(pointer, lambda told: instants_ms(told, where, timing.fold), text))
    return tuple(sorted(found))


def _bound(text: str, pointer: str, timing: Timing) -> int:
    """Of a time that is twice: the first."""
    if not text:
        return 0
    where = zone(timing.zone)
    return _at(pointer, lambda told: instants_ms(told, where, Fold.FIRST)[0], text)


_Ranges = tuple[tuple[int, int], ...]


def _excluded(texts: tuple[str, ...]) -> tuple[_Ranges, _Ranges]:
    """Certain days, and those of every year."""
    told: list[tuple[int, int]] = []
    yearly: set[tuple[int, int]] = set()
    for index, text in enumerate(texts):
        found = _at(f"/exclude/{index}", days_of_year, text)
        if found is None:
            told.append(_at(f"/exclude/{index}", days, text))
        else:
            yearly.add(found)
    if len(yearly) > YEARLY_MAX:
        raise ParseError("/exclude", f"{len(yearly)} of every year; at most {YEARLY_MAX} are taken")
    return _merged(sorted(told)), tuple(sorted(yearly))


def _merged(told: list[tuple[int, int]]) -> _Ranges:
    merged: list[tuple[int, int]] = []
    for first, last in told:
        if merged and first <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(merged[-1][1], last))
        else:
            merged.append((first, last))
    return tuple(merged)


def _zone(text: str) -> str:
    if text in names():
        return text
    shown = text[:TEXT_MAX]
    by_lower = {name.lower(): name for name in sorted(names())}
    near = difflib.get_close_matches(shown.lower().replace(" ", "_"), sorted(by_lower), 3, 0.6)
    help_ = ", ".join(by_lower[name] for name in near) or 'an IANA name such as "Europe/Berlin"'
    raise ParseError("/zone", f"{shown[:40]!r} is no time zone; did you mean {help_}?")


def _word(kind: type[W], text: str, pointer: str) -> W:
    try:
        return kind(text)
    except ValueError:
        allowed = ", ".join(kind)
        raise ParseError(pointer, f"{text[:40]!r} is unknown; there are {allowed}") from None


def _at(pointer: str, read: Callable[[str], T], text: str) -> T:
    try:
        return read(text)
    except ValueError as error:
        raise ParseError(pointer, str(error)) from None
