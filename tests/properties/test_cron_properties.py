"""Slots against an independent reckoning: zones walked minute by minute, with ``zoneinfo`` alone.

The reckoning converts from UTC to local time only and notes what the clocks showed; it knows
nothing of offsets, folds or of how times are found.
"""

from __future__ import annotations

import datetime as dt
import os
import random
from collections.abc import Iterator
from itertools import pairwise, product
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from raftsched.core.cron.english import english
from raftsched.core.cron.parse import Asked, ParseError, parse
from raftsched.core.cron.preview import Change, preview
from raftsched.core.cron.slots import between, following, last_between
from raftsched.core.cron.timing import Fold, Gap, Timing
from raftsched.core.cron.zones import names, zone

IS_SOAK = bool(os.environ.get("RAFTSCHED_SOAK"))
NAME = "schedule"
SINCE, UPTO = dt.datetime(2020, 1, 1, tzinfo=dt.UTC), dt.datetime(2041, 1, 1, tzinfo=dt.UTC)
MINUTE = dt.timedelta(minutes=1)
#: Walked before and after a change.
AROUND = dt.timedelta(hours=5)

#: What has unusual changes, always walked.
PECULIAR = [
    "Europe/Berlin", "Australia/Lord_Howe", "America/New_York", "Africa/Casablanca", "Africa/Cairo",
    "Asia/Beirut", "America/Nuuk", "America/Scoresbysund", "Atlantic/Azores", "America/Havana",
    "America/Asuncion", "Antarctica/Troll", "Europe/Dublin", "Asia/Gaza", "Pacific/Apia",
    "Asia/Tehran", "America/Santiago", "Africa/Juba", "Europe/Volgograd", "Pacific/Norfolk",
]  # fmt: skip
ZONES = sorted(names()) if IS_SOAK else PECULIAR + random.Random(5).sample(sorted(names()), 40)
CHANGES_PER_ZONE = 1_000 if IS_SOAK else 3


def changes(where: ZoneInfo) -> Iterator[dt.datetime]:
    """The instants (UTC) at which the offset changes; no two are on one day."""
    at = SINCE
    while at < UPTO:
        end = at + dt.timedelta(days=1)
        old = at.astimezone(where).utcoffset()
        if end.astimezone(where).utcoffset() != old:
            for step in (dt.timedelta(hours=1), MINUTE):
                while (at + step).astimezone(where).utcoffset() == old:
                    at += step
            yield at + MINUTE
        at = end


class Walk:
    """What the clocks of a zone showed, minute by minute around an instant."""

    def __init__(self, where: ZoneInfo, middle: dt.datetime) -> None:
        self.first, self.last = middle - AROUND, middle + AROUND
        self.shown: list[tuple[dt.datetime, dt.datetime]] = []
        at = self.first
        while at <= self.last:
            self.shown.append((at, at.astimezone(where).replace(tzinfo=None, fold=0)))
            at += MINUTE
        self.times: dict[dt.datetime, list[dt.datetime]] = {}
        for at, wall in self.shown:
            self.times.setdefault(wall, []).append(at)
        #: (the first time that is left out, the instant behind it, what is shown then)
        self.gaps = [
            (before + MINUTE, at, wall)
            for (_, before), (at, wall) in pairwise(self.shown)
            if wall > before + MINUTE
        ]

    def slots(self, hours: set[int], minutes: set[int], gap: Gap, fold: Fold) -> list[int]:
        """Of a cron of these hours and minutes, in milliseconds."""
        found: set[dt.datetime] = set()
        for wall, instants in self.times.items():
            if wall.hour in hours and wall.minute in minutes:
                if fold is Fold.BOTH:
                    found.update(instants)
                else:
                    found.add(instants[0] if fold is Fold.FIRST else instants[-1])
        for missing, at, wall in self.gaps if gap is Gap.SHIFT else []:
            while missing < wall:
                if missing.hour in hours and missing.minute in minutes:
                    found.add(at)
                missing += MINUTE
        return [milliseconds(at) for at in sorted(found)]


def milliseconds(at: dt.datetime) -> int:
    return (at - dt.datetime(1970, 1, 1, tzinfo=dt.UTC)) // dt.timedelta(milliseconds=1)


def patterns(wall: dt.datetime) -> list[tuple[str, set[int], set[int], bool]]:
    """(expression, hours, minutes, whether it is a rhythm), where it concerns this hour."""
    all_hours = set(range(24))
    near = {(wall.hour + more) % 24 for more in (-2, -1, 0, 1)}
    listed = ",".join(str(hour) for hour in sorted(near))
    return [
        ("*/20 * * * *", all_hours, {0, 20, 40}, True),
        ("7 */2 * * *", set(range(0, 24, 2)), {7}, True),
        (f"0,10,30,59 {listed} * * *", near, {0, 10, 30, 59}, False),
        (f"30 {wall.hour} * * *", {wall.hour}, {30}, False),
        ("0 0 * * *", {0}, {0}, False),
    ]


def check_change(where: ZoneInfo, at: dt.datetime) -> None:
    walk = Walk(where, at)
    wall = at.astimezone(where)
    # A fold that is cut by the window's edge looks like none.
    since, upto = milliseconds(walk.first) + 7_200_000, milliseconds(walk.last) - 7_200_000
    for (text, hours, minutes, is_rhythm), gap, fold in product(patterns(wall), Gap, Fold):
        timing = Timing(crons=(text,), zone=where.key, gap=gap, fold=fold)
        if gap is Gap.USUAL:
            gap = Gap.SKIP if is_rhythm else Gap.SHIFT
        if fold is Fold.USUAL:
            fold = Fold.BOTH if is_rhythm else Fold.FIRST
        expected = [slot for slot in walk.slots(hours, minutes, gap, fold) if since < slot <= upto]
        found = between(timing, NAME, 0, since, upto, 1_000)
        assert list(found) == expected, (where.key, at, text, gap, fold)
        # Also asked from within: two instants of every half hour.
        for after in range(since, upto, 900_000 + 1):
            later = [slot for slot in expected if slot > after]
            if later:
                assert following(timing, NAME, 0, after) == later[0], (where.key, after, timing)


@pytest.mark.timeout(3_000 if IS_SOAK else 60)
@pytest.mark.parametrize("part", range(8))
def test_slots_around_every_change_are_those_that_the_clocks_show(part: int) -> None:
    walked = 0
    for name in ZONES[part::8]:
        where = zone(name)
        found = list(changes(where))
        if len(found) > CHANGES_PER_ZONE:
            found = random.Random(name).sample(found, CHANGES_PER_ZONE)
        for at in found:
            check_change(where, at)
            walked += 1
    assert walked >= 5


fields = st.sampled_from(["*", "0", "*/5", "30", "1,2", "H", "H/7", "10-20/3", "23"])
days = st.sampled_from(["* * *", "1 * *", "* * 1-5", "29 2 *", "L * *", "13 * 5", "*/2 1-6 0#1"])
timings = st.builds(
    Timing,
    crons=st.lists(
        st.one_of(
            st.builds(
                "{} {} {} {}".format, fields, fields, st.sampled_from(["*", "0-5", "2"]), days
            ),
            st.builds("{} {} {}".format, fields, st.sampled_from(["*", "H", "2,3"]), days),
        ),
        max_size=2,
    ).map(tuple),
    every_ms=st.sampled_from([0, 0, 7_000, 3_600_000]),
    zone=st.sampled_from(PECULIAR),
    gap=st.sampled_from(Gap),
    fold=st.sampled_from(Fold),
    exclude=st.sampled_from([(), ((20_000, 20_030), (20_500, 20_900))]),
    exclude_yearly=st.sampled_from([(), ((229, 401), (1224, 106))]),
)
USUAL = settings(
    max_examples=2_000 if IS_SOAK else 60, deadline=None, derandomize=not IS_SOAK, database=None
)


@USUAL
@given(
    timing=timings,
    after=st.integers(milliseconds(SINCE), milliseconds(UPTO)),
    parts=st.lists(st.integers(1, 40), max_size=4),
)
def test_slots_do_not_depend_on_who_asks_and_when(
    timing: Timing, after: int, parts: list[int]
) -> None:
    whole = between(timing, NAME, 0, after, 1 << 60, 60)
    assert list(whole) == sorted(set(whole)) and all(slot > after for slot in whole)
    found: list[int] = []
    for part in parts:
        found += between(timing, NAME, 0, found[-1] if found else after, 1 << 60, part)
    assert tuple(found[:60]) == whole[: len(found)]
    for slot, later in pairwise((after, *whole)):
        assert following(timing, NAME, 0, (slot + later) // 2) == later
    if whole:
        assert last_between(timing, NAME, 0, after, whole[-1]) == whole[-1]


@USUAL
@given(timing=timings, after=st.integers(milliseconds(SINCE), milliseconds(UPTO)))
def test_preview_shows_what_follows_in_the_zones_time(timing: Timing, after: int) -> None:
    rows = preview(timing, NAME, 0, after, 10)
    assert tuple(row.at for row in rows) == between(timing, NAME, 0, after, 1 << 60, 10)
    for row in rows:
        told = dt.datetime.fromisoformat(f"{row.local}+00:00")
        assert milliseconds(told) - row.offset_seconds * 1_000 == row.at
        assert (row.change is Change.GAP) == bool(row.instead_of)


WRITTEN = "0123456789*/,-#LWH()@?: .TZ+MONJAN\n²①\0"
texts = st.one_of(
    st.text(max_size=30),
    st.text(WRITTEN, max_size=40),
    st.lists(st.text(WRITTEN[:16] + "LWH()", min_size=1, max_size=6), min_size=5, max_size=6).map(
        " ".join
    ),
    st.builds("@every {}".format, st.text("0123456789.msh ", max_size=12)),
    st.builds("@at {}".format, st.text("0123456789-T:Z+. ", max_size=26)),
    st.datetimes().map(str),
)


@settings(USUAL, max_examples=20_000 if IS_SOAK else 400)
@given(
    crons=st.lists(texts, max_size=2).map(tuple),
    at=st.lists(texts, max_size=2).map(tuple),
    every=st.sampled_from(["", "1s"]) | texts,
    where=st.sampled_from(PECULIAR) | texts,
    exclude=st.lists(
        texts | st.dates().map(str) | st.dates().map(lambda day: str(day)[5:]), max_size=2
    ).map(tuple),
    bounds=st.tuples(st.just("") | texts, st.just("") | texts),
)
@example(("0 0 1-5,L * 1#1,5L/2",), (), "", "UTC", (), ("", ""))
@example(("H(0-9999) * * * *",), (), "", "UTC", (), ("", ""))
@example(("* * * * " + "," * 190,), (), "", "UTC", (), ("", ""))
@example((), ("0001-01-01T00:00:00-23:59",), "", "UTC", (), ("", ""))
def test_wrong_texts_end_in_a_sentence_and_right_ones_in_slots(
    crons: tuple[str, ...],
    at: tuple[str, ...],
    every: str,
    where: str,
    exclude: tuple[str, ...],
    bounds: tuple[str, str],
) -> None:
    asked = Asked(
        crons=crons, at=at, every=every, zone=where, exclude=exclude,
        start_at=bounds[0], end_at=bounds[1],
    )  # fmt: skip
    try:
        timing = parse(asked, NAME)
    except ParseError as error:
        assert error.pointer.startswith("/") and 10 < len(error.text) < 500
        return
    found = following(timing, NAME, 0, milliseconds(SINCE))
    assert found == 0 or found > milliseconds(SINCE)
    assert english(timing, NAME)


cron_parts = st.lists(
    st.sampled_from(
        ["*", "0", "5", "*/2", "1-3", "1-5/2", "H", "H/3", "H(1-3)", "L", "LW", "L/2", "5L", "1#2",
         "MON", "MON-FRI", "SUN", "JAN", "FEB-MAR", "7", "0-7", "31", "5/2", "*,5", "1#1,2#2"]
    ),
    min_size=1,
    max_size=2,
).map(",".join)  # fmt: skip


@settings(USUAL, max_examples=20_000 if IS_SOAK else 600)
@given(parts=st.lists(cron_parts, min_size=5, max_size=6))
def test_every_expression_that_is_taken_comes_and_has_words(parts: list[str]) -> None:
    try:
        timing = parse(Asked(crons=(" ".join(parts),), zone="Europe/Berlin"), NAME)
    except ParseError:
        return
    assert following(timing, NAME, 0, milliseconds(SINCE))
    assert english(timing, NAME)
