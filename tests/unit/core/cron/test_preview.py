from __future__ import annotations

from raftsched.core.cron.preview import Change, preview, warnings
from raftsched.core.cron.timing import Fold, Gap, Timing
from tests.unit.core.cron.builders import NAME, at, cron

BERLIN = "Europe/Berlin"


def shown(timing: Timing, after: str, n: int) -> list[tuple[str, int, Change, str]]:
    rows = preview(timing, NAME, 0, at(after), n)
    return [(row.local, row.offset_seconds, row.change, row.instead_of) for row in rows]


def test_slot_behind_a_gap_says_what_it_stands_for() -> None:
    timing = cron("30 2 * * *", "45 2 * * *", zone=BERLIN)
    assert shown(timing, "2026-03-28 12:00", 2) == [
        ("2026-03-29 03:00:00", 7_200, Change.GAP, "2026-03-29 02:30:00"),
        ("2026-03-30 02:30:00", 7_200, Change.NONE, ""),
    ]


def test_slot_behind_a_gap_that_has_its_own_name_is_none_of_the_gap() -> None:
    timing = cron("30 2 * * *", "0 3 * * *", zone=BERLIN)
    assert shown(timing, "2026-03-28 12:00", 1) == [("2026-03-29 03:00:00", 7_200, Change.NONE, "")]


def test_slots_of_a_fold_say_which_they_are() -> None:
    timing = cron("30 2 * * *", zone=BERLIN, fold=Fold.BOTH)
    assert shown(timing, "2026-10-24 12:00", 3) == [
        ("2026-10-25 02:30:00", 7_200, Change.FOLD_FIRST, ""),
        ("2026-10-25 02:30:00", 3_600, Change.FOLD_SECOND, ""),
        ("2026-10-26 02:30:00", 3_600, Change.NONE, ""),
    ]


def test_preview_ends_where_the_schedule_does() -> None:
    (row,) = preview(Timing(at=(at("2026-05-01") + 250,), jitter_ms=1), NAME, 0, 0, 20)
    assert (row.at, row.starts_at, row.local) == (
        at("2026-05-01") + 250,
        at("2026-05-01") + 250,
        "2026-05-01 00:00:00.250",
    )


def test_warnings_name_what_changes_of_the_clocks_leave_out() -> None:
    year = (at("2026-01-01"), at("2026-12-31"))
    assert warnings(cron("30 2 * * *", zone=BERLIN, gap=Gap.SKIP), NAME, *year) == (
        "2026-03-29 02:30 does not exist (30 2 * * *): no slot",
    )
    assert warnings(cron("*/15 * * * *", zone=BERLIN, fold=Fold.FIRST), NAME, *year) == (
        "2026-10-25 02:00 is twice (*/15 * * * *): no slots while the clocks show it for the "
        "second time",
    )
    assert warnings(cron("30 2 * * *", "*/15 * * * *", zone=BERLIN), NAME, *year) == ()
