"""What the slots, the tasks and the functions' own file say, held against what was due.  Pure.

Rules
1. What was due is reckoned by steps from each schedule's first instant, not asked of the cluster.
2. Whether something ran is read from the file that the functions append to: the tasks and the
   slots that the cluster shows have to agree with it.
3. An instant is milliseconds since the Unix epoch.
"""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from raftsched.cli.bench.figures import Report, spread

_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_MILLISECOND = dt.timedelta(milliseconds=1)

#: A schedule's name and an instant.
Slot = tuple[str, int]


class Start(NamedTuple):
    """A line of the file: a run began."""

    slot: Slot
    #: Nanoseconds of the machine's clock since the Unix epoch.
    at_ns: int

    @property
    def lag_ms(self) -> float:
        """How long after its instant."""
        return self.at_ns / 1e6 - self.slot[1]


class Row(NamedTuple):
    """What the cluster says that became of an instant."""

    status: str
    reason: str
    #: When that was decided.
    fired_at: int


class Shown(NamedTuple):
    """All that the cluster says."""

    #: Of each task; more than one task may be of the same.
    tasks: Sequence[Slot]
    rows: Mapping[Slot, Row]


def instant_ms(text: str) -> int:
    """Of an instant as the API shows it."""
    return (dt.datetime.fromisoformat(text) - _EPOCH) // _MILLISECOND


def due(first: Mapping[str, int], steps: Mapping[str, int], before: int) -> list[Slot]:
    """Slots from each schedule's first instant on, so many ms apart, as long as they are before."""
    return [(name, at) for name, one in first.items() for at in range(one, before, steps[name])]


def starts(text: str) -> list[Start]:
    """The file of the functions: ``NAME.STAMP NANOSECONDS`` in each line."""
    found = []
    for line in text.splitlines():
        task_id, _, at_ns = line.partition(" ")
        name, _, stamp = task_id.rpartition(".")
        # A second task of a slot has a number behind its stamp.
        found.append(Start((name, _stamped(stamp.partition("-")[0])), int(at_ns)))
    return found


@lru_cache(maxsize=100_000)
def _stamped(stamp: str) -> int:
    whole = dt.datetime.strptime(stamp[:15] + "+0000", "%Y%m%dT%H%M%S%z")
    return (whole - _EPOCH) // _MILLISECOND + int(stamp[15:].rstrip("Z") or 0)


def rows(name: str, slots: Iterable[Mapping[str, Any]], step_ms: int) -> dict[Slot, Row]:
    """Of the slots of one schedule as the API shows them; a range has a row for each instant."""
    found = {}
    for slot in slots:
        first, last = instant_ms(slot["at"]), instant_ms(slot["upto"])
        row = Row(slot["status"], slot["reason"], instant_ms(slot["fired_at"]))
        for at in range(first, last + 1, step_ms):
            found[name, at] = row
    return found


def account(wanted: Collection[Slot], began: Sequence[Start], shown: Shown) -> Report:
    """Counts of instants: ``missed`` and ``twice`` are to be 0, and so is all that disagrees."""
    runs, tasks = Counter(start.slot for start in began), Counter(shown.tasks)
    known = set(wanted)
    fates = Counter(
        row.status + (f" {row.reason}" if row.reason else "")
        for slot, row in shown.rows.items()
        if slot in known
    )
    decided = [row.fired_at - slot[1] for slot, row in shown.rows.items() if slot in known]
    first_of = {start.slot: start for start in sorted(began, key=lambda s: s.at_ns, reverse=True)}
    lags = [start.lag_ms for slot, start in first_of.items() if slot in known]
    return {
        "due": len(known),
        "fired": sum(slot in tasks for slot in known),
        "started": sum(slot in runs for slot in known),
        "missed": sum(slot not in runs for slot in known),
        "twice": sum(count > 1 for count in runs.values()),
        "tasks_twice": sum(count > 1 for count in tasks.values()),
        "never_due": len((runs.keys() | tasks.keys() | shown.rows.keys()) - known),
        "without_slot": sum(slot not in shown.rows for slot in known),
        "slots": dict(sorted(fates.items())),
        "decided_after_ms": spread(decided),
        "start_lag_ms": spread(lags),
    }


def is_exact(report: Report) -> bool:
    """Every instant once, and all witnesses agree?"""
    wrong = ("missed", "twice", "tasks_twice", "never_due", "without_slot")
    return report["fired"] == report["due"] and not any(report[name] for name in wrong)
