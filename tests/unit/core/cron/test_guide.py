"""The tables of the guide are true."""

from __future__ import annotations

import datetime as dt
import re
from itertools import pairwise
from pathlib import Path

import pytest

from raftsched.core.cron.slots import between
from raftsched.core.cron.timing import Fold, Gap
from raftsched.core.cron.zones import zone
from tests.unit.core.cron.builders import NAME, at, cron

GUIDE = Path(__file__).parents[4] / "docs" / "guides" / "schedules.md"


def rows() -> list[tuple[str, str, str, str, str]]:
    """(zone, day, expression, policy, slots) of every cell."""
    found, place, day, policies = [], "", "", [""]
    for line in (
        GUIDE.read_text(encoding="utf-8").split("## When the clocks change")[1].splitlines()
    ):
        place = line[4:] if line.startswith("### ") else place
        if named := re.search(r"\d{4}-\d\d-\d\d", line):
            day = named[0]
        cells = [cell.strip().strip("`") for cell in line.strip("|").split("|")]
        if line.startswith("| Expression"):
            policies = cells[1:]
        elif line.startswith("| `") and "/" in place:
            found += [
                (place, day, cells[0], *pair) for pair in zip(policies, cells[1:], strict=True)
            ]
    return found


def slots(place: str, day: str, text: str, policy: str) -> str:
    timing = cron(text, zone=place)
    if policy != "usual":
        gap, fold = ("usual", policy) if policy in list(Fold) else (policy, "usual")
        timing = cron(text, zone=place, gap=Gap(gap), fold=Fold(fold))
    midnight = at(day) - 12 * 3_600_000
    walls = [
        dt.datetime.fromtimestamp(slot / 1_000, zone(place))
        for slot in between(timing, NAME, 0, midnight, midnight + 2 * 86_400_000, 1_000)
    ]
    shown = [wall for wall in walls if f"{wall:%F}" == day and "01:00" <= f"{wall:%R}" <= "04:00"]
    return ", ".join(f"{wall:%H:%M}" + " again" * wall.fold for wall in shown) or "none"


@pytest.mark.parametrize(("place", "day", "text", "policy", "told"), rows())
def test_table_is_true(place: str, day: str, text: str, policy: str, told: str) -> None:
    assert slots(place, day, text, policy) == told


def test_all_tables_are_read() -> None:
    assert len(rows()) == (4 + 3) * 3 + (3 + 3) * 4
    assert all(before != after for before, after in pairwise(rows()))
