"""A time zone whose clocks change during a run: as its plan says, for every reader of zones."""

from __future__ import annotations

import datetime as dt
import json
import os
import subprocess
import sys
from pathlib import Path
from zoneinfo import ZoneInfo

from jepsen_like.slots import due
from jepsen_like.startup import environment
from jepsen_like.workload.schedules import _TIMES
from jepsen_like.zones import APART_SECONDS, NAME, STEP_SECONDS, Offset, Zone

SINCE = 1_790_000_003
#: Slots of a schedule by the program under test, as milliseconds; arguments: timing, from, to.
_ASK = """
import json, sys
from raftsched.core.cron.slots import between
from raftsched.core.cron.timing import Fold, Gap, Timing
document, after, upto = json.loads(sys.argv[1])
gap, fold = (document.pop(key, "usual") for key in ("gap", "fold"))
timing = Timing(crons=(document["cron"],), zone=document["zone"], gap=Gap(gap), fold=Fold(fold))
print(json.dumps(list(between(timing, "s", 0, after, upto, 10_000))))
"""


def test_plan_is_what_readers_of_the_file_see(tmp_path: Path) -> None:
    zone = Zone(SINCE, 10)
    file = zone.write(tmp_path) / "tzdata" / "zoneinfo" / NAME
    with file.open("rb") as stream:
        read = ZoneInfo.from_file(stream, key=NAME)
    shown = 0
    plan = dict(zone.offsets)
    for at in range(SINCE - 100, zone.offsets[-1].since + 100):
        shown = plan.get(at, shown)
        told = read.fromutc(_utc(at, read)).utcoffset()
        assert told is not None and told.total_seconds() == shown, at


def _utc(at: int, zone: ZoneInfo) -> dt.datetime:
    return dt.datetime.fromtimestamp(at, dt.UTC).replace(tzinfo=zone)


def test_changes_go_on_for_the_run_and_its_end() -> None:
    zone = Zone(SINCE, 60)
    assert zone.next_change(SINCE - 1) == Offset(SINCE, STEP_SECONDS)
    assert zone.next_change(SINCE) == Offset(SINCE + APART_SECONDS, 0)
    assert zone.next_change(SINCE + 60 + 240) is not None
    assert zone.next_change(SINCE + 3_600) is None


def test_program_and_judge_agree_on_what_is_due_in_it(tmp_path: Path) -> None:
    zone = Zone(SINCE, 10)
    variables = {**os.environ, **environment({}, zone.write(tmp_path))}
    after, upto = (SINCE - 60) * 1_000, (SINCE + 200) * 1_000
    for times in _TIMES:
        asked = json.dumps([{**times, "zone": NAME}, after, upto])
        done = subprocess.run(
            [sys.executable, "-c", _ASK, asked], env=variables,
            capture_output=True, text=True, check=True, timeout=20,
        )  # fmt: skip
        offsets = [list(offset) for offset in zone.offsets]
        expected = due({**times, "offsets": offsets}, after, upto, None)
        assert json.loads(done.stdout) == expected and len(expected) > 40
