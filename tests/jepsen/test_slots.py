"""Slots of schedules: covered once, run once, at their time."""

from __future__ import annotations

from typing import Any

import pytest

from jepsen_like.checker.slots import CHECKER
from jepsen_like.history import Call, Effect
from jepsen_like.slots import CannotTell, due
from tests.jepsen.builders import EPOCH_MS, call, evidence, fault, with_run
from tests.jepsen.scheduled import (
    DUE,
    EVERY,
    ROWS,
    held,
    instead,
    put,
    ran,
    slot,
    slots,
    whole,
)


def test_every_slot_covered_once_passes() -> None:
    verdict = CHECKER(whole(ROWS))
    assert verdict.valid is True, verdict.violations
    assert verdict.checked["slots"] == len(DUE)
    assert verdict.measures["late_ms"]["max"] == 100.0


def test_what_was_not_run_for_a_stated_reason_is_covered() -> None:
    others = [slot(s) for s in DUE if s not in (6, 8, 10, 12)]
    rows = [
        *others,
        slot(6, state="skipped", reason="overlap"),
        slot(8, state="missed", reason="superseded", upto_ms=EPOCH_MS + 12_000, count=3),
    ]
    effects = instead(ran(4, late=1_900), 4, 6, 8, 10, 12)
    # Nobody led.
    verdict = CHECKER(whole(rows, effects, faults=fault("partition", 7_000, 13_000, "n1")))
    assert verdict.valid is True, verdict.violations


def test_a_missed_slot_is_found_and_a_fresh_one_is_not_yet() -> None:
    fresh = [slot(s) for s in DUE if s < 20]
    assert CHECKER(whole(fresh)).valid is True
    (violation,) = CHECKER(whole([slot(s) for s in DUE if s != 8])).violations
    assert violation.says == f"missed: slot {EPOCH_MS + 8_000} of s has no row"


def test_a_slot_is_not_missed_when_an_earlier_answer_had_it() -> None:
    early = slots([slot(4), slot(8)], 10_000)
    later = [slot(s) for s in DUE if s != 8]
    assert CHECKER(whole(later, more=(early,), finals=held(ROWS))).valid is True


def test_slots_that_were_pushed_out_of_a_full_answer_are_out_of_sight() -> None:
    document = {"name": "s", "every_ms": 100, "start": EPOCH_MS}
    rows = [slot(tenth / 10) for tenth in range(191, 291)]
    calls = [
        call("put-schedule", 1_000, 1_100, document, {"name": "s"}),
        slots(rows, 29_150),
    ]
    effects = [e for tenth in range(191, 291) for e in ran(tenth / 10, token=tenth)]
    verdict = CHECKER(evidence("schedules", calls=calls, effects=effects, finals=held(rows)))
    assert verdict.valid is True, verdict.violations
    assert verdict.checked["slots_out_of_sight"] > 150


@pytest.mark.parametrize(
    ("rows", "effects", "says"),
    [
        ([*ROWS, slot(8, "other")], None, "duplicate: s has two rows"),
        ([*ROWS, slot(8, "other")], None, "has the tasks other, s-8"),
        (ROWS, [*ran(8), *ran(8, "other", token=80)], "has the tasks other, s-8"),
        ([*ROWS, slot(9)], None, "phantom: s has a row for"),
        (
            [slot(8, state="skipped") if s == 8 else slot(s) for s in DUE],
            None,
            "whose row has no task",
        ),
        (ROWS, ran(8, late=-500), "early: s-8 ran slot"),
        (ROWS, ran(8, late=10_500), "10500 ms after it, and 10500 ms after anything was in"),
        (
            [slot(s) for s in DUE if s < 22],
            [*instead([]), *ran(23)],
            f"s-23 ran slot {EPOCH_MS + 23_000} of s, when it is not due",
        ),
    ],
)
def test_what_must_not_be_is_found(
    rows: list[dict[str, Any]], effects: list[Effect] | None, says: str
) -> None:
    verdict = CHECKER(whole(rows, effects))
    assert verdict.valid is False
    told = [violation.says.replace("schedule s", "s") for violation in verdict.violations]
    assert any(says in one for one in told), told


def test_two_tasks_in_two_answers_are_a_duplicate() -> None:
    calls = [put(), slots([slot(4, "one")], 8_000), slots([slot(s) for s in DUE])]
    verdict = CHECKER(evidence("schedules", calls=calls))
    assert any("has the tasks one, s-4" in v.says for v in verdict.violations)


def test_a_run_without_a_row_is_judged_by_its_own_slot() -> None:
    effects = [*ran(8), *ran(8, "other", token=80)]
    verdict = CHECKER(whole([slot(s) for s in DUE if s != 8], effects))
    assert any("was run by" in v.says for v in verdict.violations)


def test_faults_excuse_lateness_and_stepped_clocks_two_seconds() -> None:
    for late, name, valid in (
        (10_500, "kill", True),
        (-1_500, "clock-step", True),
        (-2_500, "clock-step", False),
    ):
        effects = instead(ran(8, late=late), 8)
        found = CHECKER(whole(ROWS, effects, faults=fault(name, 5_000, 9_000, "n1")))
        assert found.valid is valid, found.violations


def told(verb: str, at: float, until: float | None = 0, node: str = "n1") -> Call:
    """A node is told something; ``until`` 0: at once, None: nobody knows."""
    ended = at + 10 if until == 0 else until
    return call(verb, at, ended, {"node": node}, {"node": node} if ended else None)


@pytest.mark.parametrize(
    ("orders", "valid"),
    [
        ([told("cordon", 5_000)], True),
        ([told("cordon", 5_000, None)], True),
        ([told("drain", 5_000), told("uncordon", 17_000)], True),
        # The slot is at 8 s, and ran after 18.5 s.
        ([told("cordon", -9_000), told("uncordon", -8_000)], False),
        ([told("cordon", 19_000)], False),
        ([told("cordon", -9_000), told("uncordon", -8_000, node="n2")], True),
        ([told("cordon", -9_000), told("uncordon", -8_000, None)], True),
        ([told("cordon", 2_000), told("uncordon", 7_000)], False),
        ([call("cordon", 5_000, 5_010, {"node": "n1"})], False),
    ],
)
def test_runs_may_wait_for_nodes_that_are_given_nothing_just_then(
    orders: list[Call], valid: bool
) -> None:
    slow = whole(ROWS, instead(ran(8, late=10_500), 8), more=tuple(orders))
    assert CHECKER(slow).valid is valid


def test_a_row_before_the_schedule_was_asked_for_is_not_judged() -> None:
    # Clocks of peers may be behind the one that says when it was asked for.
    rows = [*ROWS, slot(0.5)]
    assert CHECKER(whole(rows, [*instead([]), *ran(0.5, token=99)])).valid is True


@pytest.mark.parametrize(
    ("calls", "says"),
    [
        ([put(), put(every_ms=1_000), slots(ROWS)], "s was changed"),
        ([put(every_ms=None, cron="0 0 * * mon"), slots(ROWS)], "'mon' is no field of numbers"),
        ([put(), slots(ROWS[:3], 9_000)], "were not read after the heal"),
        ([put(), call("slots", 29_000, 29_010, {"name": "s"})], "were not read after the heal"),
    ],
)
def test_what_cannot_be_told_is_a_doubt(calls: list[Call], says: str) -> None:
    verdict = CHECKER(evidence("schedules", calls=calls))
    assert verdict.valid == "unknown"
    assert any(says in doubt for doubt in verdict.doubts), verdict.doubts


def test_without_a_clock_nobody_can_say_what_was_due() -> None:
    verdict = CHECKER(with_run(whole(ROWS), clock=None))
    assert verdict.valid == "unknown"
    assert "run.json has no clock, so nobody can say what was due" in verdict.doubts


def test_a_schedule_whose_put_was_refused_is_not_judged_by_its_document() -> None:
    refused = call("put-schedule", 500, 600, {"name": "s", "every_ms": EVERY, "start": EPOCH_MS})
    assert CHECKER(whole(ROWS, more=(refused,))).valid is True


MIDNIGHT = 1_772_323_200_000  # 2026-03-01T00:00:00Z, a Sunday


@pytest.mark.parametrize(
    ("document", "minutes", "expected"),
    [
        ({"every_ms": 90_000, "start": MIDNIGHT}, 5, [90, 180, 270]),
        ({"every_ms": 60_000, "start": MIDNIGHT + 90_000}, 4, [90, 150, 210]),
        ({"every_ms": 60_000, "start": MIDNIGHT, "end": MIDNIGHT + 120_000}, 4, [60]),
        ({"every_ms": 60_000, "start": "2026-03-01T00:00:30Z"}, 2, [30, 90]),
        ({"cron": "*/2 * * * *"}, 6, [120, 240, 360]),
        ({"cron": "*/20 1 0 * * *"}, 3, [60, 80, 100]),
        ({"cron": "5,7-9/2 * * * *"}, 10, [300, 420, 540]),
        ({"cron": "1 0 * * 0"}, 5, [60]),
        ({"cron": "1 0 * * 7"}, 5, [60]),
        ({"cron": "1 0 * * 1-5"}, 5, []),
        # Either of the days, when both are named.
        ({"cron": "1 0 1 * 3"}, 5, [60]),
        ({"cron": "1 1 * * *", "time_zone": "Europe/Berlin"}, 5, [60]),
    ],
)
def test_what_is_due(document: dict[str, Any], minutes: int, expected: list[int]) -> None:
    found = due(document, MIDNIGHT, MIDNIGHT + minutes * 60_000, None)
    assert [(at - MIDNIGHT) // 1_000 for at in found] == expected


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"every_ms": 1_000},
        {"cron": "* * *"},
        {"cron": "@daily"},
        {"cron": "x * * * *"},
    ],
)
def test_what_is_not_known_to_be_due(document: dict[str, Any]) -> None:
    with pytest.raises(CannotTell):
        due(document, MIDNIGHT, MIDNIGHT + 60_000, None)


@pytest.mark.parametrize(
    ("policies", "text", "expected"),
    [
        # As the guide has it for a zone whose clocks go on by seven seconds, and back again.
        ({}, "*/5 * * * * *", [0, 5, 13, 18, 23, 28, 33, 35, 40, 45]),
        ({}, "*/5 0-59 0-23 * * *", [0, 5, 10, 13, 18, 23, 28, 33, 45]),
        ({"gap": "skip", "fold": "both"}, "*/5 0-59 0-23 * * *",
         [0, 5, 13, 18, 23, 28, 33, 35, 40, 45]),
        ({"gap": "shift", "fold": "second"}, "*/5 * * * * *",
         [0, 5, 10, 13, 18, 23, 35, 40, 45]),
        ({"fold": "first"}, "*/5 * * * * *", [0, 5, 13, 18, 23, 28, 33, 45]),
    ],
)  # fmt: skip
def test_what_is_due_when_clocks_change(
    policies: dict[str, str], text: str, expected: list[int]
) -> None:
    since = MIDNIGHT // 1_000
    document = {"cron": text, **policies, "offsets": [[since + 10, 7], [since + 34, 0]]}
    found = due(document, MIDNIGHT - 1, MIDNIGHT + 45_000, None)
    assert [(at - MIDNIGHT) // 1_000 for at in found] == expected


SPRING = 1_772_953_200_000  # 2026-03-08T07:00:00Z, when New York's clocks go to 03:00
AUTUMN = 1_793_512_800_000  # 2026-11-01T06:00:00Z, when they go to 01:00


@pytest.mark.parametrize(
    ("change", "document", "minutes"),
    [
        (SPRING, {"cron": "30 2 * * *"}, [0]),
        (SPRING, {"cron": "30 2 * * *", "gap": "skip"}, []),
        (SPRING, {"cron": "30 * * * *"}, [-90, -30, 30, 90]),
        # Any term of a list makes it a rhythm.
        (SPRING, {"cron": "7,*/30 2 * * *"}, []),
        (SPRING, {"cron": "30 2,*/12 * * *"}, [-90]),
        (SPRING, {"cron": "7,30 2 * * *"}, [0]),
        (AUTUMN, {"cron": "7,*/30 1 * * *"}, [-60, -53, -30, 0, 7, 30]),
        (AUTUMN, {"cron": "30 1 * * *"}, [-30]),
        (AUTUMN, {"cron": "30 1 * * *", "fold": "second"}, [30]),
        (AUTUMN, {"cron": "30 1 * * *", "fold": "both"}, [-30, 30]),
        (AUTUMN, {"cron": "30 * * * *"}, [-90, -30, 30, 90]),
        (AUTUMN, {"cron": "30 * * * *", "fold": "first"}, [-90, -30, 90]),
    ],
)
def test_what_is_due_around_summer_time(
    change: int, document: dict[str, str], minutes: list[int]
) -> None:
    document = {**document, "time_zone": "America/New_York"}
    found = due(document, change - 7_200_000, change + 7_200_000, None)
    assert [(at - change) // 60_000 for at in found] == minutes


def test_a_slot_of_the_wrong_side_of_a_change_is_found() -> None:
    """Rows of a rhythm, where a fixed time is not to come again when clocks go back."""
    offsets = [[EPOCH_MS // 1_000 + 10, -7]]
    document = {"name": "s", "cron": "* 0-59 0-23 * * *", "offsets": offsets}
    seconds = [second for second in range(2, 30) if not 10 <= second < 17]
    for more, says in (([], []), ([13], ["phantom"]), ([10, 16], ["phantom", "phantom"])):
        calls = [
            call("put-schedule", 1_000, 1_100, document, {"name": "s"}),
            slots([slot(second) for second in sorted([*seconds, *more])]),
        ]
        effects = [e for second in seconds for e in ran(second)]
        verdict = CHECKER(evidence("schedules", calls=calls, effects=effects))
        assert [violation.says.split(":")[0] for violation in verdict.violations] == says
