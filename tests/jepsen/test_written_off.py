"""Rows without a task: only for reasons that the schedule's document gives."""

from __future__ import annotations

from typing import Any

import pytest

from jepsen_like.checker.slots import CHECKER
from jepsen_like.checker.verdict import Verdict
from jepsen_like.history import Call, FaultEvent
from tests.jepsen.builders import EPOCH_MS, attempt, call, evidence, fault, with_run
from tests.jepsen.scheduled import DUE, held, instead, pause, put, ran, slot, slots, whole

ALL = {"misfire": "all", "misfire_limit": 100, "overlap": "allow"}


def _without_8(
    reason: str,
    policies: dict[str, Any],
    faults: list[FaultEvent] | None = None,
    more: tuple[Call, ...] = (),
    late: float = 100,
) -> Verdict:
    """All ran but slot 8, whose row says why; that of slot 6 ``late`` ms after it."""
    state = "skipped" if reason in ("overlap", "paused") else "missed"
    rows = [slot(s, state=state, reason=reason) if s == 8 else slot(s) for s in DUE]
    effects = instead(ran(6, late=late), 6, 8)
    return CHECKER(whole(rows, effects, policies, more, faults=faults or []))


def test_all_slots_missed_and_none_run_does_not_pass() -> None:
    rows = [slot(second, state="missed", reason="late") for second in DUE]
    verdict = CHECKER(whole(rows, [], ALL))
    assert verdict.valid is False
    assert verdict.checked["violations"] == len(DUE)
    says = verdict.violations[0].says
    assert "of s is written off (missed, late) although misfire is all, and 13" in says


@pytest.mark.parametrize(
    ("reason", "policies", "says"),
    [
        ("late", ALL, "misfire is all, and 10 slots were due behind it"),
        ("superseded", ALL, "misfire is all"),
        ("overlap", ALL, "overlap is allow"),
        ("overlap", {"overlap": "queue"}, "fewer than 100 were before it"),
        ("overlap", {"overlap": "skip"}, ""),
        ("paused", ALL, "nobody had paused it"),
        ("overloaded", ALL, "its document gives no such reason"),
        ("queue-full", ALL, "its document gives no such reason"),
        ("", ALL, "its document gives no such reason"),
        ("late", {"misfire": "skip"}, "nothing was in the way of it"),
        ("superseded", {"misfire": "latest"}, "nothing was in the way of it"),
        # So many were due behind it, and no more run.
        ("superseded", {**ALL, "misfire_limit": 10}, ""),
        (
            "superseded",
            {**ALL, "misfire_limit": 11},
            "misfire is all, and 10 slots were due behind it",
        ),
        ("late", {**ALL, "misfire_window_ms": 20_000}, ""),
        ("late", {**ALL, "misfire_window_ms": 25_000}, "misfire is all"),
    ],
)
def test_reasons_by_what_the_document_says(
    reason: str, policies: dict[str, Any], says: str
) -> None:
    verdict = _without_8(reason, policies)
    found = [violation.says for violation in verdict.violations]
    assert [f"although {says}" in one for one in found] == ([True] if says else []), found


@pytest.mark.parametrize("misfire", ["skip", "latest"])
@pytest.mark.parametrize(("until", "valid"), [(7_000, True), (-13_000, False)])
def test_slots_are_late_only_when_something_was_in_the_way(
    misfire: str, until: float, valid: bool
) -> None:
    faults = fault("kill", -18_000, until, "n1")
    assert _without_8("late", {"misfire": misfire}, faults).valid is valid
    # With `all` no fault is a reason.
    assert _without_8("late", ALL, faults).valid is False


def test_a_pause_is_a_reason_once_it_was_asked_for() -> None:
    assert _without_8("paused", ALL, more=(pause(),)).valid is True
    assert _without_8("paused", ALL, more=(pause(20_000, is_open=True),)).valid is True
    assert _without_8("paused", ALL, more=(pause(29_600),)).valid is False
    refused = call("pause-schedule", 29_000, 29_010, {"name": "s"})
    assert _without_8("paused", ALL, more=(refused,)).valid is False


@pytest.mark.parametrize(
    ("second", "ends", "valid"),
    [
        (20, 19_000, True),  # It was under way a moment before.
        (20, 3_000, False),  # Its forerunner was long over.
        (2, 3_000, False),  # It had none.
    ],
)
def test_overlap_needs_a_forerunner_that_was_under_way(
    second: int, ends: float, valid: bool
) -> None:
    due = [s for s in (2, 4, 20, 22) if s != second]
    rows = [slot(s, state="skipped", reason="overlap") if s == second else slot(s)
            for s in (2, 4, 20, 22)]  # fmt: skip
    document = {"overlap": "skip", "every_ms": None, "cron": "2,4,20,22 13 22 * * *"}
    effects = [e for s in due if s != 4 for e in ran(s)]
    effects += ran(4, late=ends - 4_000 - 60) if 4 in due else []
    calls = [put(**document), slots(rows)]
    verdict = CHECKER(evidence("schedules", calls=calls, effects=effects, finals=held(rows)))
    found = [v.says for v in verdict.violations if "written off" in v.says]
    assert (not found) is valid, verdict.violations


def test_a_forerunner_that_was_killed_is_under_way_until_its_lease_is_over() -> None:
    slot_ms = EPOCH_MS + 2_000
    for lease, valid in ((5.0, False), (8.0, True)):
        rows = [slot(2), slot(20, state="skipped", reason="overlap")]
        document = {"overlap": "skip", "every_ms": None, "cron": "22,40 13 22 * * *"}
        killed = attempt("s-2", 1, 2_100, 3_000, exit=None, slot=slot_ms, schedule="s")
        calls = [put(**document), slots(rows)]
        of_it = evidence("schedules", calls=calls, effects=killed, finals=held(rows))
        assert CHECKER(with_run(of_it, lease_seconds=lease)).valid is valid


def test_what_ran_between_the_last_answer_and_the_pause_is_no_phantom() -> None:
    rows = [slot(s) for s in DUE if s <= 20]
    calls = [put(**ALL), slots(rows, 21_000), pause(29_000)]
    verdict = CHECKER(evidence("schedules", calls=calls, effects=instead([]), finals=held(rows)))
    assert verdict.valid is True, verdict.violations


def test_a_clean_schedule_has_nothing_written_off() -> None:
    verdict = CHECKER(whole([slot(s) for s in DUE], policies=ALL))
    assert verdict.valid is True and "rows_without_a_task" not in verdict.checked


def test_who_started_the_peers_of_others_may_have_bounded_them() -> None:
    rows = [slot(s, state="missed", reason="overloaded") if s == 8 else slot(s) for s in DUE]
    mine = whole(rows, instead([], 8), ALL)
    assert CHECKER(mine).valid is False
    assert CHECKER(with_run(mine, is_attached=True)).valid is True


@pytest.mark.parametrize(
    ("calls", "until", "missed"),
    [
        # Read only once, all of the last ten seconds are out of sight; after a pause, of the last
        # two before it.
        ((), 19, []),
        ((pause(29_000),), 19, [20, 22, 24, 26]),
        ((pause(29_000),), 25, [26]),
        ((pause(29_000),), 27, []),
        ((pause(29_000, is_open=True),), 19, []),
        # Read before it was paused.
        ((pause(29_600),), 19, []),
        ((pause(29_000), call("resume-schedule", 29_100, 29_110, {"name": "s"}, {})), 19, []),
    ],
)
def test_slots_are_judged_up_to_the_pause(
    calls: tuple[Call, ...], until: int, missed: list[int]
) -> None:
    rows = [slot(s) for s in DUE if s <= until]
    verdict = CHECKER(whole(rows, instead([], *[s for s in DUE if s > until]), ALL, calls))
    found = [violation.says for violation in verdict.violations]
    assert found == [f"missed: slot {EPOCH_MS + s * 1_000} of s has no row" for s in missed]


def test_nothing_is_due_behind_a_pause() -> None:
    rows = [slot(s) for s in DUE if s <= 20]
    effects = instead([], *[s for s in DUE if s > 20])
    paused = (pause(21_000), slots(rows, 50_000))
    assert CHECKER(whole(rows, effects, ALL, paused)).valid is True
    for more in ([slot(22)], []):
        verdict = CHECKER(whole([*rows, *more], [*effects, *ran(22)], ALL, paused))
        assert [violation.says.split(":")[0] for violation in verdict.violations] == ["phantom"]
