"""G5: every due slot of a schedule is covered by exactly one row, and run as its row says.

*missed*: due, and no row.  *duplicate*: two rows, or two tasks.  *phantom*: a row or a run for an
instant that is not due, or a run where the row says there is none.  *early*: a run or a row before
its instant, by all clocks, those that were just then wrong included (`ahead`).  *late*: a run long
after it in a quiet stretch, without faults and with no node cordoned or drained; otherwise lateness
is only measured.

Rows of tasks that were ``missed`` or ``skipped`` with a reason cover their slot: the promise is
that nothing is silent.
"""

from __future__ import annotations

from typing import Any

import msgspec

from jepsen_like.ahead import Ahead
from jepsen_like.asked import Book
from jepsen_like.attempts import Attempt, attempts
from jepsen_like.checker.verdict import Checker, Findings, workloads
from jepsen_like.closed import closed
from jepsen_like.evidence import Evidence
from jepsen_like.history import Call
from jepsen_like.slots import CannotTell, due
from jepsen_like.spans import spans
from jepsen_like.statistics import distribution

#: Rows a schedule keeps; an answer with as many may not show all.
ROWS_KEPT = 100
#: A slot this much older than an answer has to be in it.
SETTLE_MS = 10_000
#: A run in a quiet stretch starts within this of its instant, jitter aside.
LATE_MS_MAX = 10_000


class Sight(msgspec.Struct):
    """All that was seen of one schedule."""

    name: str
    document: dict[str, Any]
    put: Call | None
    answers: list[Call]
    #: Other documents were sent under its name, so what is due is not known.
    is_changed: bool
    #: Nominal instant -> tasks that rows name, with the answer that did.
    tasks: dict[int, dict[str, Call]]
    #: Nominal instants with a row of their own.
    rows: dict[int, Call]
    #: Ranges of rows without a task.
    ranges: list[tuple[int, int, Call]]


def look(evidence: Evidence, findings: Findings) -> None:
    if not any(call.f == "put-schedule" for call in evidence.calls):
        return
    book = Book(evidence)
    runs: dict[str, list[Attempt]] = {}
    for task_id, tries in attempts(evidence.effects).items():
        if tries[0].slot is not None:
            name = tries[0].schedule or book.schedule_of.get(task_id, "")
            runs.setdefault(name, []).append(min(tries, key=lambda run: run.started_at))
    lateness: list[float] = []
    for name, document in sorted(book.schedules.items()):
        sight = _sight(evidence, name, document, findings)
        findings.saw("schedules")
        of_name = runs.get(name, [])
        findings.saw("runs", len(of_name))
        _rows(evidence, sight, of_name, findings)
        lateness += _runs(evidence, sight, of_name, findings)
    findings.measures["late_ms"] = distribution(lateness)


def _sight(evidence: Evidence, name: str, document: dict[str, Any], findings: Findings) -> Sight:
    put, answers, is_changed = None, [], False
    for call in evidence.calls:
        if call.value.get("name") != name:
            continue
        if call.f == "put-schedule":
            is_changed = is_changed or call.value != document
            put = call if put is None and call.is_ok else put
        elif call.f == "slots" and call.is_ok:
            answers.append(call)
    sight = Sight(name, document, put, answers, is_changed, {}, {}, [])
    for call in answers:
        seen: set[int] = set()
        for slot in call.answer.get("slots") or ():
            at = int(slot["at_ms"])
            upto = int(slot.get("upto_ms") or at)
            findings.saw("rows")
            if slot.get("task"):
                sight.tasks.setdefault(at, {}).setdefault(str(slot["task"]), call)
            if upto > at:
                sight.ranges.append((at, upto, call))
                continue
            if at in seen:
                findings.broken(
                    f"duplicate: schedule {name} has two rows for {at} in one answer",
                    [call.ended_at or 0],
                    [name],
                    [call],
                )
            seen.add(at)
            sight.rows.setdefault(at, call)
    return sight


def _rows(evidence: Evidence, sight: Sight, runs: list[Attempt], findings: Findings) -> None:
    """Missed, duplicate and phantom by the rows; every run has one of them."""
    for at, tasks in sorted(sight.tasks.items()):
        ran = {run.task for run in runs if run.slot == at}
        if len(tasks) > 1 or len(ran | set(tasks)) > 1:
            everyone = sorted(ran | set(tasks))
            findings.broken(
                f"duplicate: slot {at} of {sight.name} has the tasks {', '.join(everyone)}",
                [call.ended_at or 0 for call in tasks.values()],
                [sight.name, *everyone],
                [*tasks.values(), *(run for run in runs if run.slot == at)],
            )
    instants = _due(evidence, sight, findings)
    if instants is None:
        return
    ahead = Ahead(evidence)
    for at, call in sorted(sight.rows.items()):
        latest = ahead.latest_ms(call.ended_at or 0)
        if at > latest:
            findings.broken(
                f"early: {sight.name} has a row for {at}, {at - latest} ms before anybody's clock",
                [call.ended_at or 0],
                [sight.name],
                [call],
            )
        elif at not in instants and _is_judged(evidence, sight, at):
            findings.broken(
                f"phantom: {sight.name} has a row for {at}, when it is not due",
                [call.ended_at or 0],
                [sight.name],
                [call],
            )
    deciding = _deciding(evidence, sight)
    if not deciding:
        findings.doubt(f"the slots of {sight.name} were not read after the heal")
    for at in sorted(instants):
        if at in sight.rows or any(low <= at <= high for low, high, _ in sight.ranges):
            findings.saw("slots")
            continue
        witness = next((c for c, low, high in deciding if low <= at <= high), None)
        if witness is None:
            # Too new for the last answer, or pushed out of every one of them.
            findings.saw("slots_out_of_sight")
            continue
        findings.saw("slots")
        findings.broken(
            f"missed: slot {at} of {sight.name} has no row",
            [witness.ended_at or 0],
            [sight.name],
            [record for record in (sight.put, witness) if record is not None],
        )


def _due(evidence: Evidence, sight: Sight, findings: Findings) -> set[int] | None:
    """All instants that are due from the first word of the schedule to the last; None: unknown."""
    if evidence.run.clock is None:
        findings.doubt("run.json has no clock, so nobody can say what was due")
        return None
    if sight.put is None:
        return None
    if sight.is_changed:
        findings.doubt(f"{sight.name} was changed, so what is due of it is not known")
        return None
    after = evidence.run.unix_ms(sight.put.invoked_at)
    last = max((call.ended_at or 0 for call in sight.answers), default=0)
    assert after is not None
    upto = Ahead(evidence).latest_ms(last)
    try:
        return set(due(sight.document, after, upto, min(sight.rows, default=None)))
    except CannotTell as error:
        findings.doubt(f"what is due of {sight.name} is not known: {error}")
        return None


def _is_judged(evidence: Evidence, sight: Sight, at: int) -> bool:
    """A slot at the very moment of the put may be of either side."""
    assert sight.put is not None
    after = evidence.run.unix_ms(sight.put.invoked_at)
    return after is not None and at > after


def _deciding(evidence: Evidence, sight: Sight) -> list[tuple[Call, int, int]]:
    """Answers after the heal, with the instants that each must show."""
    healed = evidence.run.phase("healed")
    since = healed.from_ if healed else 0
    if evidence.run.clock is None or sight.put is None:
        return []
    # What was due at the put itself may be of either side of it.
    put = Ahead(evidence).latest_ms(sight.put.ended_at or 0)
    found = []
    for call in sight.answers:
        upto = evidence.run.unix_ms(call.invoked_at)
        if call.invoked_at < since or upto is None:
            continue
        rows = call.answer.get("slots") or ()
        low = put
        if len(rows) >= ROWS_KEPT:
            low = max(low, min(int(slot["at_ms"]) for slot in rows))
        found.append((call, low, upto - SETTLE_MS))
    return found


def _runs(evidence: Evidence, sight: Sight, runs: list[Attempt], findings: Findings) -> list[float]:
    """Judge when the programs ran; returns their lateness, ms."""
    by_slot: dict[int, Attempt] = {}
    lateness = []
    jitter = int(sight.document.get("jitter_ms") or 0)
    disturbed = [(span.from_at, span.to_at) for span in spans(evidence.faults)]
    disturbed += [(node.from_at, node.to_at) for node in closed(evidence)]
    quiet = Quiet(disturbed, SETTLE_MS)
    ahead = Ahead(evidence) if evidence.run.clock is not None else None
    for run in sorted(runs, key=lambda run: run.started_at):
        assert run.slot is not None
        other = by_slot.setdefault(run.slot, run)
        if other.task != run.task and len(sight.tasks.get(run.slot, ())) == 0:
            findings.broken(
                f"duplicate: slot {run.slot} of {sight.name} was run by {other.task} "
                f"and {run.task}",
                [other.started_at, run.started_at],
                [sight.name, other.task, run.task],
                [other, run],
            )
        row = sight.rows.get(run.slot)
        if row is not None and run.slot not in sight.tasks:
            findings.broken(
                f"phantom: {run.task} ran slot {run.slot} of {sight.name}, whose row has no task",
                [run.started_at],
                [sight.name, run.task],
                [row, run],
            )
        started = evidence.run.unix_ms(run.started_at)
        if started is None or ahead is None:
            continue
        late = started - run.slot
        lateness.append(float(max(0, late)))
        if run.slot > ahead.latest_ms(run.started_at):
            findings.broken(
                f"early: {run.task} ran slot {run.slot} of {sight.name} {-late} ms before it",
                [run.started_at],
                [sight.name, run.task],
                [run],
            )
        # Of what its owner broke meanwhile nothing is known.
        is_late = late > LATE_MS_MAX + jitter and not evidence.run.is_attached
        if is_late and quiet(run.started_at - late * 1_000_000, run.started_at):
            findings.broken(
                f"late: {run.task} ran slot {run.slot} of {sight.name} {late} ms after it, "
                "with no fault near",
                [run.started_at],
                [sight.name, run.task],
                [run],
            )
    return lateness


class Quiet:
    """Answers whether a stretch and what comes before it is free of these."""

    def __init__(self, disturbed: list[tuple[int, int]], settle_ms: int) -> None:
        self._disturbed = disturbed
        self._settle = settle_ms * 1_000_000

    def __call__(self, from_at: int, to_at: int) -> bool:
        before = from_at - self._settle
        return not any(low <= to_at and high >= before for low, high in self._disturbed)


CHECKER = Checker(
    "slots",
    "G5",
    "slots",
    workloads("schedules", "mixed"),
    look,
    "Is every due slot of every schedule covered by exactly one row, and run once?",
)
