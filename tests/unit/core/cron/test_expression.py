from __future__ import annotations

import datetime as dt
import random

import pytest
from cronsim import CronSim

from raftsched.core.cron.expression import expression, next_wall, plain

NAME = "backup"

TEXTS = [
    "* * * * *", "*/15 * * * *", "30 2 * * *", "30 2 * * 1-5", "0 9-17 * * MON-FRI", "5/20 * * * *",
    "0 0 29 2 *", "0 0 L * *", "0 0 LW * *", "0 0 * * 5L", "0 0 * * MON#2", "0 0 1,15 * MON",
    "0 0 */2 * 1", "*/7 * * * * *", "59 59 23 31 12 *", "1,2,58 1-3 */5 * JAN,JUL *",
    "0 0 * * 7", "0 0 13 * 5", "@hourly", "@weekly", "H H(9-17) * * *", "H/10 H/5 * H * H",
]  # fmt: skip


@pytest.mark.parametrize("text", TEXTS)
def test_times_are_cronsims(text: str) -> None:
    times, six = expression(text, NAME), plain(text, NAME)
    chance = random.Random(text)
    for _ in range(15):
        wall = dt.datetime(2020, 1, 1) + dt.timedelta(seconds=chance.randrange(20 * 366 * 86_400))
        theirs = CronSim(six, wall)
        for _ in range(3):
            found = next_wall(times, wall)
            assert found == next(theirs)
            assert found is not None
            wall = found


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # These never change: a schedule must not move with a release.
        ("H H * * *", "0 54 20 * * *"),
        ("H * * * * *", "15 * * * * *"),
        ("H/15 * * * *", "0 9-59/15 * * * *"),
        ("H(0-29) H(9-17)/4 * * *", "0 24 9-17/4 * * *"),
        ("0 0 H H H", "0 0 0 3 9 1"),
        ("0 0 H(30-31) * THU", "0 0 0 30 * THU"),
    ],
)
def test_hash_stands_for_the_same_number_for_ever(text: str, expected: str) -> None:
    assert plain(text, NAME) == expected


def test_hash_spreads_names_evenly() -> None:
    minutes = [int(plain("H * * * *", f"schedule-{number}").split()[1]) for number in range(6_000)]
    assert set(minutes) == set(range(60))
    assert max(minutes.count(minute) for minute in range(60)) < 150


def test_stepped_hash_reaches_as_far_as_the_field() -> None:
    for number in range(50):
        minutes = expression("H/15 * * * *", f"n{number}").minutes
        assert len(minutes) == 4 and minutes[0] < 15


@pytest.mark.parametrize(
    ("text", "is_rhythm"),
    [
        ("*/15 * * * *", True),
        ("5 * * * *", True),
        ("H/15 3 * * *", True),
        ("0 */2 * * *", True),
        ("*/10 30 2 * * *", False),
        ("30 2 * * *", False),
        ("0,30 2-5 * * *", False),
        ("H H * * *", False),
        ("@hourly", True),
        ("@daily", False),
    ],
)
def test_rhythms_are_those_with_a_star_or_a_stepped_hash(text: str, is_rhythm: bool) -> None:
    assert expression(text, NAME).is_rhythm is is_rhythm


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("61 * * * *", 'minute "61": 0 to 59'),
        ("61 * * * * *", 'second "61"'),
        ("* 24 * * *", 'hour "24": 0 to 23'),
        ("* * 0 * *", 'day-of-month "0": 1 to 31'),
        ("* * * FOO *", 'month "FOO": 1 to 12'),
        ("* * * * 8", 'day-of-week "8"'),
        ("*/0 * * * *", 'minute "*/0"'),
        ("5-1 * * * *", 'minute "5-1"'),
        ("0 0 ? * *", '"?" is of Quartz; write "*"'),
        ("* * * *", "has 4 fields; cron has 5"),
        ("0 0 0 1 1 ? 2026", "the year of Quartz"),
        ("", "has 0 fields"),
        ("@reboot", "no time"),
        ("@often", "@hourly"),
        ("H/61 * * * *", 'minute "H/61": a step from 1 to 60'),
        ("H/0 * * * *", "a step from 1"),
        ("H(40-70) * * * *", "a range within 0-59"),
        ("H(9-3) * * * *", "a range within 0-59"),
        ("0 0 30 2 *", "a slot that never comes"),
        ("0 0 31 4,6 *", "a slot that never comes"),
        ("* * */20 * 1L", "a slot that never comes"),
        ("* * * * " + "1," * 200, "at most 200 characters"),
        ("① * * * *", 'minute "①"'),
        ("* * * * ²L", 'day-of-week "²L"'),
    ],
)
def test_wrong_text_gets_a_sentence(text: str, part: str) -> None:
    with pytest.raises(ValueError, match=r".") as raised:
        expression(text, NAME)
    assert part in str(raised.value)
    assert len(str(raised.value)) < 300


def test_rarest_day_of_the_calendar_is_found() -> None:
    times = expression("0 0 * 2 MON#5", NAME)
    assert next_wall(times, dt.datetime(2072, 3, 1)) == dt.datetime(2112, 2, 29)
