"""Every slot of many schedules in many zones is accounted for, whoever leads and for how long.

A week around each change of the clocks here, a whole year in ``make soak``.
"""

from __future__ import annotations

import datetime as dt
import os
from collections.abc import Iterator

import pytest

from raftsched.core.cron.timing import Fold, Gap, Timing
from raftsched.core.schedule import Misfire, Overlap
from tests.properties.almanac import Almanac, Plan
from tests.properties.clocks import MINUTE_MS, Clocks, cron, instant_ms

IS_SOAK = bool(os.environ.get("RAFTSCHED_SOAK"))
DAY_MS = 86_400_000
WEEK_MS = 7 * DAY_MS

#: In both hemispheres; by half an hour, by two hours, at midnight, with winter time as the odd one.
ZONES = [
    "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Africa/Casablanca",
    "America/Santiago", "Australia/Sydney", "Europe/Dublin", "Antarctica/Troll",
    "Africa/Cairo", "Asia/Beirut", "Pacific/Auckland", "America/St_Johns", "America/Havana",
    "Asia/Jerusalem", "Atlantic/Azores", "Pacific/Chatham", "America/Asuncion", "Asia/Kathmandu",
    "UTC", "Pacific/Kiritimati",
]  # fmt: skip
#: A few slots a day, many of them in the hours in which clocks change.
EXPRESSIONS = [
    ("*/20 * * * *", "usual", "usual"),
    ("*/20 8-18 * * *", "usual", "usual"),
    ("7 * * * *", "usual", "usual"),
    ("0,30 * * * *", "shift", "both"),
    ("30 2 * * *", "usual", "usual"),
    ("30 1,2,3 * * *", "usual", "usual"),
    ("0 0 * * *", "usual", "usual"),
    ("0 */2 * * *", "usual", "usual"),
    ("15 0-6 * * *", "skip", "second"),
    ("*/10 0-2 * * *", "usual", "first"),
    ("45 1 * * 0", "usual", "usual"),
    ("0 9 * * 1-5", "usual", "usual"),
    ("30 2 1,15 * *", "usual", "usual"),
    ("5 4 1 * 1", "usual", "usual"),
    ("59 23 L * *", "usual", "usual"),
    ("*/30 22-23,0-3 * * *", "shift", "usual"),
    ("20,50 2 * * *", "shift", "both"),
    ("20,50 2 * * *", "skip", "second"),
    ("*/15 1-3 * * *", "shift", "first"),
    ("30 15 2 * * *", "usual", "usual"),
    ("0,30 15 */4 * * *", "usual", "usual"),
    ("45 */6 * 3,4,10,11 *", "usual", "usual"),
]
#: Runs that take longer than it is to the next, by number.
LONG = {
    0: (Overlap.ALLOW, 50 * MINUTE_MS),
    3: (Overlap.SKIP, 50 * MINUTE_MS),
    9: (Overlap.QUEUE, 25 * MINUTE_MS),
    22: (Overlap.REPLACE, 100 * MINUTE_MS),
}


def plans(zone: str, since: int, upto: int) -> Iterator[Plan]:
    """Twenty-five schedules of a zone."""
    clocks, letter = Clocks(zone, since, upto), zone.replace("/", "-").lower()
    for number, (text, gap, fold) in enumerate(EXPRESSIONS):
        timing = Timing(
            crons=(text,),
            zone=zone,
            gap=Gap(gap),
            fold=Fold(fold),
            jitter_ms=20_000 * (number == 7),
        )
        due = [at for at in clocks.slots(cron(text, gap, fold)) if at > since]
        yield _plan(f"{letter}-{number}", timing, due, number)
    for number, every_ms in ((22, 90 * MINUTE_MS), (23, 8 * 60 * MINUTE_MS)):
        timing = Timing(every_ms=every_ms, zone=zone)
        yield _plan(f"{letter}-{number}", timing, range(since + every_ms, upto, every_ms), number)
    yield _with_excluded_days(f"{letter}-24", zone, clocks, since)


def _plan(name: str, timing: Timing, due: list[int] | range, number: int) -> Plan:
    """What else it says goes by its number."""
    overlap, busy_ms = LONG.get(number, (Overlap.ALLOW, 0))
    return Plan(name, timing, due, list(Misfire)[number % 3], overlap, busy_ms)


def _with_excluded_days(name: str, zone: str, clocks: Clocks, since: int) -> Plan:
    """Hourly, but not on every fifth day of the zone and some days of every year."""
    first = since // DAY_MS
    days = range(first + 2, first + 1 + 366, 5)
    timing = Timing(
        crons=("0 * * * *",),
        zone=zone,
        exclude=tuple((day, day) for day in days),
        exclude_yearly=((327, 331), (1030, 1102), (1224, 106)),
    )
    due = []
    for at in clocks.slots(cron("0 * * * *")):
        day = (at // MINUTE_MS + clocks.ahead(at)) // 1_440
        date = dt.date(1970, 1, 1) + dt.timedelta(days=day)
        shown = f"{date:%m-%d}"
        is_yearly = "03-27" <= shown <= "03-31" or "10-30" <= shown <= "11-02"
        is_yearly = is_yearly or shown >= "12-24" or shown <= "01-06"
        if at > since and day not in days and not is_yearly:
            due.append(at)
    return _plan(name, timing, due, 24)


#: What a newspaper of the year said, and so no matter of any release of ``tzdata``.
CHANGES = [
    ("Europe/Berlin", "2026-03-29T01:00Z"),
    ("Europe/Berlin", "2026-10-25T01:00Z"),
    ("America/New_York", "2026-03-08T07:00Z"),
    ("America/New_York", "2026-11-01T06:00Z"),
    ("Australia/Lord_Howe", "2026-04-04T15:00Z"),
    ("Australia/Lord_Howe", "2026-10-03T15:30Z"),
    # Back for Ramadan, which its rules write as a summer time that is behind.
    ("Africa/Casablanca", "2025-02-23T02:00Z"),
    ("Africa/Casablanca", "2025-04-06T02:00Z"),
    ("America/Santiago", "2026-04-05T03:00Z"),
    ("America/Santiago", "2026-09-06T04:00Z"),
    ("Australia/Sydney", "2026-04-04T16:00Z"),
    ("Europe/Dublin", "2026-10-25T01:00Z"),
    ("Antarctica/Troll", "2026-03-29T01:00Z"),
]


@pytest.mark.parametrize(("zone", "change"), CHANGES)
def test_a_week_around_a_change_of_the_clocks(zone: str, change: str) -> None:
    at = instant_ms(change)
    since, upto = at - WEEK_MS // 2, at + WEEK_MS // 2
    assert [span.first * MINUTE_MS for span in Clocks(zone, since, upto).spans] == [since, at]
    almanac = Almanac(list(plans(zone, since, upto)), since, upto, at)
    almanac.run()
    assert almanac.counts["slots"] > 1_500
    # Most hours; nobody led in the others.
    assert almanac.counts["leaders"] > 140


if IS_SOAK:

    @pytest.mark.timeout(3_000)
    def test_a_year_of_five_hundred_schedules_in_twenty_zones() -> None:
        since, upto = instant_ms("2026-01-01T00:00:00Z"), instant_ms("2027-01-01T00:00:00Z")
        everything = [plan for zone in ZONES for plan in plans(zone, since, upto)]
        almanac = Almanac(everything, since, upto, 2026)
        almanac.run()
        print(dict(sorted(almanac.counts.items())))
        assert len(everything) == 500 and almanac.counts["slots"] > 2_000_000
        # One an hour, but for those in which nobody led.
        assert almanac.counts["leaders"] > 8_500
        assert almanac.counts["outages"] > 20
