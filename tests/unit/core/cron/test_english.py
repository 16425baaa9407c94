from __future__ import annotations

import pytest

from raftsched.core.cron.english import english
from raftsched.core.cron.timing import Timing
from tests.unit.core.cron.builders import NAME, at, cron

BERLIN = "Europe/Berlin"


@pytest.mark.parametrize(
    ("timing", "expected"),
    [
        (cron("30 2 * * 1-5", zone=BERLIN), "at 02:30 on weekdays, Europe/Berlin"),
        (cron("H H * * *"), "at 20:54 every day, UTC"),
        (cron("*/15 * * * *"), "every 15th minute of every hour, UTC"),
        (cron("*/5 * * * * *"), "every fifth second of every minute, UTC"),
        (cron("@hourly"), "at the start of every hour, UTC"),
        (cron("0 0 L * *", "0 12 * * *"), "at 00:00 on the last day of every month; and at 12:00 "
         "every day, UTC"),
        (Timing(every_ms=600_000), "every 10 minutes"),
        (Timing(every_ms=60_000), "every minute"),
        (Timing(every_ms=90_250), "every 1 minute 30 seconds 250 milliseconds"),
        (Timing(at=(at("2026-12-31 22:59"),), zone=BERLIN), "at 2026-12-31 23:59, Europe/Berlin"),
        (Timing(at=tuple(at(f"2026-12-0{n}") for n in range(1, 5))),
         "at 4 instants from 2026-12-01 00:00 to 2026-12-04 00:00, UTC"),
        (
            cron("@daily", start_at=at("2026-05-01"), end_at=at("2026-06-01"), jitter_ms=90_000,
                 exclude=((1, 1), (3, 5))),
            "at 00:00 every day, UTC, from 2026-05-01 00:00, before 2026-06-01 00:00, "
            "not on 4 excluded days, each start up to 1 minute 30 seconds later",
        ),
        (cron("@daily", exclude_yearly=((501, 501), (1224, 106))),
         "at 00:00 every day, UTC, in no year on 05-01 and 12-24 to 01-06"),
        (cron("@daily", exclude_yearly=((1, 1),) * 4),
         "at 00:00 every day, UTC, not on 4 ranges of days of every year"),
    ],
)  # fmt: skip
def test_times_are_said_in_words(timing: Timing, expected: str) -> None:
    assert english(timing, NAME) == expected
