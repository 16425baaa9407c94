from __future__ import annotations

from typing import Any

import pytest

from raftsched.core.cron.parse import Asked, ParseError, must_come, parse
from raftsched.core.cron.timing import EXCLUDE_MAX, Fold, Gap, Timing
from tests.unit.core.cron.builders import NAME, at

BERLIN = "Europe/Berlin"
DAY_MS = 86_400_000


def parsed(**asked: Any) -> Timing:
    return parse(Asked(**asked), NAME)


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({"crons": ("30  2 * * *", " @daily")}, Timing(crons=("30 2 * * *", "@daily"))),
        ({"crons": ("30 2 * * *", "30 2 * * *")}, Timing(crons=("30 2 * * *",))),
        ({"crons": ("@every 10m",)}, Timing(every_ms=600_000)),
        ({"every": "100ms"}, Timing(every_ms=100)),
        ({"every": "1h30m"}, Timing(every_ms=5_400_000)),
        ({"every": "0.5s"}, Timing(every_ms=500)),
        ({"crons": ("@at 2026-12-31T23:59:00Z",)}, Timing(at=(at("2026-12-31 23:59"),))),
        (
            {"at": ("2027-01-01 01:00+01:00", "2026-12-31T23:59:00.250", "2027-01-01T00:00Z")},
            Timing(at=(at("2026-12-31 23:59:00.250"), at("2027-01-01"))),
        ),
        (
            {"at": ("2026-07-01T12:00",), "zone": BERLIN},
            Timing(at=(at("2026-07-01 10:00"),), zone=BERLIN),
        ),
        (
            {"at": ("2026-10-25T02:30",), "zone": BERLIN},
            Timing(at=(at("2026-10-25 00:30"),), zone=BERLIN),
        ),
        (
            {"at": ("2026-10-25T02:30",), "zone": BERLIN, "fold": "both", "gap": "skip"},
            Timing(
                at=(at("2026-10-25 00:30"), at("2026-10-25 01:30")),
                zone=BERLIN,
                fold=Fold.BOTH,
                gap=Gap.SKIP,
            ),
        ),
        (
            {"every": "1d", "start_at": "2026-07-01T12:00", "end_at": "2027-07-01T12:00Z",
             "zone": BERLIN, "jitter": "5m"},
            Timing(every_ms=DAY_MS, start_at=at("2026-07-01 10:00"), end_at=at("2027-07-01 12:00"),
                   zone=BERLIN, jitter_ms=300_000),
        ),
        (
            {"every": "1d", "exclude": ("1970-01-10", "1970-01-03..1970-01-05", "1970-01-06",
                                        "1970-01-04..1970-01-05")},
            Timing(every_ms=DAY_MS, exclude=((2, 5), (9, 9))),
        ),
        (
            {"every": "1d", "exclude": ("12-24..01-06", "1970-01-10", "02-29", "05-01", "05-01")},
            Timing(every_ms=DAY_MS, exclude=((9, 9),),
                   exclude_yearly=((229, 229), (501, 501), (1224, 106))),
        ),
    ],
)  # fmt: skip
def test_texts_become_the_row(asked: dict[str, Any], expected: Timing) -> None:
    assert parsed(**asked) == expected


@pytest.mark.parametrize(
    ("asked", "pointer", "part"),
    [
        ({}, "/crons", "no time is given"),
        ({"crons": ("@daily", "61 * * * *")}, "/crons/1", 'minute "61": 0 to 59'),
        ({"crons": ("0 0 30 2 *",)}, "/crons/0", "a slot that never comes"),
        ({"crons": ("@reboot",)}, "/crons/0", "@reboot is no time"),
        ({"crons": ("@every 50ms",)}, "/crons/0", "100 ms to ten years"),
        ({"crons": ("@every",)}, "/crons/0", "is no duration"),
        ({"crons": ("@every 10",)}, "/crons/0", '"10m"'),
        ({"crons": ("@every 1m", "@every 2m")}, "/crons/1", "one interval"),
        ({"every": "0.0005s"}, "/every", "is no duration"),
        ({"every": "1s", "crons": ("@every 2m",)}, "/crons/0", "one interval"),
        ({"crons": ("@daily",) * 21}, "/crons", "at most 20"),
        ({"at": ("tomorrow",)}, "/at/0", "is no instant"),
        ({"at": ("2026-13-01T00:00Z",)}, "/at/0", "is no instant"),
        ({"at": ("1969-01-01T00:00Z",)}, "/at/0", "out of range"),
        ({"at": ("9999-12-31T23:59:59-12:00",)}, "/at/0", "out of range"),
        ({"at": ("0001-01-01T00:00:00",), "zone": BERLIN}, "/at/0", "out of range"),
        (
            {"at": ("2026-03-29T02:30",), "zone": BERLIN},
            "/at/0",
            "2026-03-29 02:30 does not exist in Europe/Berlin: the clocks go from 02:00 to 03:00",
        ),
        ({"every": "1s", "zone": "europe/berlin"}, "/zone", "did you mean Europe/Berlin"),
        ({"every": "1s", "zone": "America/NewYork"}, "/zone", "America/New_York"),
        ({"every": "1s", "zone": "x" * 10_000}, "/zone", "an IANA name"),
        ({"every": "1s", "zone": "../../etc/passwd"}, "/zone", "is no time zone"),
        ({"every": "1s", "gap": "jump"}, "/gap", "usual, skip, shift"),
        ({"every": "1s", "fold": "third"}, "/fold", "usual, first, both, second"),
        ({"every": "1s", "jitter": "25h"}, "/jitter", "at most"),
        (
            {"every": "1s", "start_at": "2026-05-01T00:00Z", "end_at": "2026-05-01T00:00Z"},
            "/end_at",
            "not after the start",
        ),
        ({"every": "1s", "exclude": ("2026-02-30",)}, "/exclude/0", "is no day"),
        ({"every": "1s", "exclude": ("02-30",)}, "/exclude/0", "is no day of any year"),
        ({"every": "1s", "exclude": ("12-24..13-01",)}, "/exclude/0", "is no day of any year"),
        ({"every": "1s", "exclude": ("12-24..2026-12-26",)}, "/exclude/0", "is no day"),
        (
            {"every": "1s", "exclude": tuple(f"01-{n:02}" for n in range(1, 22))},
            "/exclude",
            "at most 20",
        ),
        ({"every": "1s", "exclude": ("2026-02-03..2026-02-01",)}, "/exclude/0", "is no day"),
        ({"every": "1s", "exclude": ("2026-02-03",) * (EXCLUDE_MAX + 1)}, "/exclude", "at most"),
    ],
)
def test_wrong_text_gets_its_place_and_a_sentence(
    asked: dict[str, Any], pointer: str, part: str
) -> None:
    with pytest.raises(ParseError) as raised:
        parsed(**asked)
    assert raised.value.pointer == pointer
    assert part in raised.value.text


@pytest.mark.parametrize(
    ("asked", "pointer", "part"),
    [
        ({"at": ("2026-01-01T00:00Z",)}, "/at", "all instants are over"),
        ({"every": "1s", "end_at": "2026-01-01T00:00Z"}, "/end_at", "the end is over"),
        ({"crons": ("@yearly",), "end_at": "2026-12-31T00:00Z"}, "/end_at", "none is before"),
        ({"crons": ("@yearly",), "end_at": "2027-01-02T00:00Z", "exclude": ("2027-01-01",)},
         "/exclude", "on an excluded day"),
        ({"every": "1s", "exclude": ("01-01..12-31",)}, "/exclude", "on an excluded day"),
        ({"crons": ("30 2 * 3 0L",), "zone": BERLIN, "gap": "skip"}, "/gap", '"shift"'),
    ],
)  # fmt: skip
def test_what_never_comes_any_more_is_refused(
    asked: dict[str, Any], pointer: str, part: str
) -> None:
    now = at("2026-05-01")
    with pytest.raises(ParseError) as raised:
        must_come(parsed(**asked), NAME, now, now)
    assert raised.value.pointer == pointer
    assert "a slot that never comes" in raised.value.text and part in raised.value.text


def test_what_comes_is_let_through() -> None:
    must_come(parsed(crons=("0 0 * 2 MON#5",)), NAME, 0, at("2026-05-01"))
