from __future__ import annotations

from typing import Any

import pytest

from raftsched.core.cron.slots import between, following, last_between, starts_at
from raftsched.core.cron.timing import DAY_MAX, INSTANT_MS_MAX, Fold, Gap, Timing
from tests.unit.core.cron.builders import NAME, at, cron, days_slots

BERLIN, LORD_HOWE = "Europe/Berlin", "Australia/Lord_Howe"


def next_of(timing: Timing, after: str) -> int:
    return following(timing, NAME, 0, at(after))


def test_next_slot_is_strictly_later() -> None:
    timing = cron("30 2 * * *")
    assert next_of(timing, "2026-05-01 02:29:59") == at("2026-05-01 02:30")
    assert next_of(timing, "2026-05-01 02:30") == at("2026-05-02 02:30")
    assert following(timing, NAME, 0, at("2026-05-01 02:30") - 1) == at("2026-05-01 02:30")
    assert following(timing, NAME, 0, at("2026-05-01 02:30") + 1) == at("2026-05-02 02:30")


def test_slots_are_read_in_the_zone() -> None:
    assert next_of(cron("30 2 * * *", zone="Asia/Kolkata"), "2026-05-01") == at("2026-05-01 21:00")


# Berlin's clocks go from 02:00 to 03:00 on 2026-03-29 and from 03:00 to 02:00 on 2026-10-25.
@pytest.mark.parametrize(
    ("gap", "expected"),
    [
        (Gap.SKIP, ["28 02:30 +0100", "30 02:30 +0200"]),
        (Gap.SHIFT, ["28 02:30 +0100", "29 03:00 +0200", "30 02:30 +0200"]),
        (Gap.USUAL, ["28 02:30 +0100", "29 03:00 +0200", "30 02:30 +0200"]),
    ],
)
def test_gap_decides_on_a_time_that_does_not_exist(gap: Gap, expected: list[str]) -> None:
    timing = cron("30 2 * * *", zone=BERLIN, gap=gap)
    assert days_slots(timing, "2026-03-28", "2026-03-30 12:00") == expected


@pytest.mark.parametrize(
    ("fold", "expected"),
    [
        (Fold.FIRST, ["25 02:30 +0200", "26 02:30 +0100"]),
        (Fold.BOTH, ["25 02:30 +0200", "25 02:30 +0100", "26 02:30 +0100"]),
        (Fold.SECOND, ["25 02:30 +0100", "26 02:30 +0100"]),
        (Fold.USUAL, ["25 02:30 +0200", "26 02:30 +0100"]),
    ],
)
def test_fold_decides_on_a_time_that_is_twice(fold: Fold, expected: list[str]) -> None:
    timing = cron("30 2 * * *", zone=BERLIN, fold=fold)
    assert days_slots(timing, "2026-10-24 12:00", "2026-10-26 12:00") == expected


@pytest.mark.parametrize(
    ("fold", "expected"),
    [
        (Fold.FIRST, ["25 02:00 +0200", "25 02:30 +0200", "25 03:00 +0100"]),
        (
            Fold.BOTH,
            ["25 02:00 +0200", "25 02:30 +0200", "25 02:00 +0100", "25 02:30 +0100",
             "25 03:00 +0100"],
        ),
        (Fold.SECOND, ["25 02:00 +0100", "25 02:30 +0100", "25 03:00 +0100"]),
        (
            Fold.USUAL,
            ["25 02:00 +0200", "25 02:30 +0200", "25 02:00 +0100", "25 02:30 +0100",
             "25 03:00 +0100"],
        ),
    ],
)  # fmt: skip
def test_rhythm_goes_through_a_fold_by_elapsed_time_unless_told(
    fold: Fold, expected: list[str]
) -> None:
    timing = cron("*/30 * * * *", zone=BERLIN, fold=fold)
    assert days_slots(timing, "2026-10-24 23:59", "2026-10-25 02:10") == expected


def test_rhythm_has_no_slot_of_its_own_for_a_gap_unless_told() -> None:
    hourly = cron("30 * * * *", zone=BERLIN)
    assert days_slots(hourly, "2026-03-29 00:00", "2026-03-29 02:00") == [
        "29 01:30 +0100", "29 03:30 +0200",
    ]  # fmt: skip
    told = cron("30 * * * *", zone=BERLIN, gap=Gap.SHIFT)
    assert days_slots(told, "2026-03-29 00:00", "2026-03-29 02:00") == [
        "29 01:30 +0100", "29 03:00 +0200", "29 03:30 +0200",
    ]  # fmt: skip


def test_change_of_thirty_minutes_is_dealt_with_alike() -> None:
    # Lord Howe: 02:00 to 02:30 on 2026-10-04, 02:00 to 01:30 on 2026-04-05.
    timing = cron("45 1 * * *", "15 2 * * *", zone=LORD_HOWE, fold=Fold.BOTH)
    assert days_slots(timing, "2026-10-03 12:00", "2026-10-03 16:00") == [
        "04 01:45 +1030", "04 02:30 +1100",
    ]  # fmt: skip
    assert days_slots(timing, "2026-04-04 12:00", "2026-04-04 16:00") == [
        "05 01:45 +1100", "05 01:45 +1030", "05 02:15 +1030",
    ]  # fmt: skip


def test_times_that_fall_into_one_gap_are_one_slot() -> None:
    timing = cron("0,15,30 2 * * *", "0 3 * * *", zone=BERLIN, gap=Gap.SHIFT)
    assert days_slots(timing, "2026-03-29 00:00", "2026-03-29 04:00") == ["29 03:00 +0200"]


def test_day_that_a_zone_left_out_is_a_gap() -> None:
    # Samoa had no 30 December 2011.
    timing = cron("0 12 30 12 *", zone="Pacific/Apia", gap=Gap.SHIFT)
    assert days_slots(timing, "2011-12-29", "2012-01-05") == ["31 00:00 +1400"]
    assert days_slots(cron("0 12 30 12 *", zone="Pacific/Apia", gap=Gap.SKIP), "2011-12-29",
                      "2012-01-05") == []  # fmt: skip


def test_schedule_that_only_ever_falls_into_gaps_never_comes() -> None:
    timing = cron("30 2 * 3 0L", zone=BERLIN, gap=Gap.SKIP)
    assert next_of(timing, "2026-01-01") == 0


def test_several_expressions_are_the_union_of_their_instants() -> None:
    timing = cron("0 6 * * *", "0 */6 * * *", at=(at("2026-05-01 07:00"),))
    assert days_slots(timing, "2026-05-01", "2026-05-01 12:00") == [
        "01 06:00 +0000", "01 07:00 +0000", "01 12:00 +0000",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("more", "anchor", "after", "expected"),
    [
        ({}, 1_000, 1_000, 1_250),
        ({}, 1_000, 1_249, 1_250),
        ({}, 1_000, 1_250, 1_500),
        ({}, 1_000, 86_400_000, 86_400_250),
        ({"start_at": 5_100}, 1_000, 1_000, 5_100),
        ({"start_at": 5_100}, 1_000, 5_100, 5_350),
        ({"start_at": 5_100, "end_at": 5_350}, 1_000, 5_100, 0),
    ],
)
def test_interval_is_counted_from_its_anchor(
    more: dict[str, Any], anchor: int, after: int, expected: int
) -> None:
    assert following(Timing(every_ms=250, **more), NAME, anchor, after) == expected


def test_start_is_the_first_instant_and_end_is_none() -> None:
    timing = cron("0 * * * *", start_at=at("2026-05-01 03:00"), end_at=at("2026-05-01 05:00"))
    assert days_slots(timing, "2026-01-01", "2026-12-31") == ["01 03:00 +0000", "01 04:00 +0000"]


def test_excluded_days_are_those_of_the_zone() -> None:
    day = at("2026-05-02") // 86_400_000
    timing = cron("0 */12 * * *", zone=BERLIN, exclude=((day, day), (day + 2, day + 9)))
    assert days_slots(timing, "2026-05-01", "2026-05-13 10:00") == [
        "01 12:00 +0200", "03 00:00 +0200", "03 12:00 +0200", "12 00:00 +0200", "12 12:00 +0200",
        "13 00:00 +0200", "13 12:00 +0200",
    ]  # fmt: skip


def test_days_of_every_year_are_excluded_every_year() -> None:
    timing = cron("0 9 23-27 12 *", zone=BERLIN, exclude_yearly=((1224, 1226),))
    found = between(timing, NAME, 0, at("2026-06-01"), at("2029-01-01"), 99)
    assert found == tuple(
        at(f"{year}-12-{day} 08:00") for year in (2026, 2027, 2028) for day in (23, 27)
    )


def test_days_of_every_year_may_go_over_new_year() -> None:
    timing = cron("0 0 * * *", exclude_yearly=((1224, 106),))
    for year in (2026, 2027):
        assert next_of(timing, f"{year}-12-23") == at(f"{year + 1}-01-07")
        assert next_of(timing, f"{year}-01-02") == at(f"{year}-01-07")
    assert next_of(timing, "2026-12-22") == at("2026-12-23")


def test_the_leap_day_is_excluded_where_there_is_one() -> None:
    timing = cron("0 0 * * *", exclude_yearly=((229, 229),))
    assert next_of(timing, "2028-02-28") == at("2028-03-01")
    assert next_of(timing, "2027-02-28") == at("2027-03-01")
    until = cron("0 0 * * *", exclude_yearly=((227, 229),))
    assert next_of(until, "2027-02-26") == next_of(until, "2027-02-27") == at("2027-03-01")


def test_certain_days_and_those_of_every_year_are_both_left_out() -> None:
    day = at("2026-12-27") // 86_400_000
    timing = cron("0 0 * * *", exclude=((day, day),), exclude_yearly=((1224, 1226), (1228, 1231)))
    assert next_of(timing, "2026-12-23") == at("2027-01-01")
    assert next_of(timing, "2027-12-23") == at("2027-12-27")


@pytest.mark.parametrize(
    "yearly", [((101, 1231),), ((701, 630),), ((1224, 1224),), ((1220, 1223), (1224, 1230))]
)
def test_what_is_excluded_every_year_never_comes(yearly: tuple[tuple[int, int], ...]) -> None:
    assert next_of(cron("0 0 24 12 *", exclude_yearly=yearly), "2026-05-01") == 0


def test_everything_excluded_never_comes() -> None:
    assert next_of(cron("* * * * * *", exclude=((0, DAY_MAX),)), "2026-05-01") == 0


def test_between_is_bounded() -> None:
    timing = cron("* * * * * *")
    since = at("2026-05-01")
    assert between(timing, NAME, 0, since, since + 10_000, 3) == tuple(
        since + n * 1_000 for n in (1, 2, 3)
    )
    assert between(timing, NAME, 0, since, since, 3) == ()
    assert between(timing, NAME, 0, since, since + 1_000, 3) == (since + 1_000,)


@pytest.mark.parametrize(
    ("timing", "upto", "expected"),
    [
        (cron("30 2 * * *"), "2026-05-09 02:30", "2026-05-09 02:30"),
        (cron("30 2 * * *"), "2026-05-09 02:29:59.999", "2026-05-08 02:30"),
        (cron("* * * * * *"), "2026-06-01 12:00:00.500", "2026-06-01 12:00:00"),
        (Timing(every_ms=100), "2026-06-01 12:00:00.250", "2026-06-01 12:00:00.200"),
        (cron("0 0 1 1 *"), "2026-12-31", None),
    ],
)
def test_last_slot_of_a_long_while_is_found(
    timing: Timing, upto: str, expected: str | None
) -> None:
    found = last_between(timing, NAME, 0, at("2026-05-01"), at(upto))
    assert found == (at(expected) if expected else 0)


def test_jitter_delays_a_start_by_name_and_slot() -> None:
    timing = cron("* * * * *", jitter_ms=30_000)
    slots = [at("2026-05-01") + minute * 60_000 for minute in range(100)]
    delays = [starts_at(timing, NAME, slot) - slot for slot in slots]
    assert all(0 <= delay < 30_000 for delay in delays) and len(set(delays)) > 90
    assert delays != [starts_at(timing, "other", slot) - slot for slot in slots]
    # The same in every release.
    assert delays[:2] == [19_369, 29_735]
    assert starts_at(cron("* * * * *"), NAME, slots[0]) == slots[0]


@pytest.mark.parametrize("after", [-(10**18), 0, INSTANT_MS_MAX, INSTANT_MS_MAX + 1, 10**18])
def test_far_instants_have_an_answer(after: int) -> None:
    timing = cron("0 0 29 2 *", zone=BERLIN)
    found = following(timing, NAME, 0, after)
    assert found == 0 or found > after


def test_daily_time_in_new_yorks_gap_comes_once_a_day_and_never_storms() -> None:
    # Nomad #5410: 02:30 on the day of the change crippled a cluster.
    timing = cron("30 2 * * *", zone="America/New_York")
    assert days_slots(timing, "2027-03-13", "2027-03-16") == [
        "13 02:30 -0500", "14 03:00 -0400", "15 02:30 -0400",
    ]  # fmt: skip
    assert days_slots(timing, "2027-11-06", "2027-11-09") == [
        "06 02:30 -0400", "07 02:30 -0500", "08 02:30 -0500",
    ]  # fmt: skip
    year = between(timing, NAME, 0, at("2026-12-31 12:00"), at("2027-12-31 12:00"), 1_000)
    assert len(year) == 365


def test_late_question_leaves_nothing_out_and_repeats_nothing() -> None:
    timing = cron("30 2 * * *", zone="America/New_York")
    asked = following(timing, NAME, 0, at("2027-03-14 07:00"))
    assert asked == at("2027-03-15 06:30")
    assert following(timing, NAME, 0, at("2027-03-14 07:00") - 1) == at("2027-03-14 07:00")
