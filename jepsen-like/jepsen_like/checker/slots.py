"""G5: every due slot of a schedule is covered by exactly one row, and run as its row says.

*missed*: due, and no row, or a row that writes it off for a reason that the document does not give.
*duplicate*: two rows, or two tasks.  *phantom*: a row or a run for an instant that is not due, or a
run where the row says there is none.  *early*: a run or a row before its instant, by all clocks,
those that were just then wrong included (`ahead`).  *late*: a run long after it and after whatever
was in its way.  *lost*: a task that a row names and that is not there, never ends, or ends without
having run and without a word.  *overlap*: two runs at once of a schedule that forbids it.
"""

from __future__ import annotations

from jepsen_like.asked import Book
from jepsen_like.attempts import Attempt, attempts
from jepsen_like.checker import slot_rows, slot_runs, slot_tasks
from jepsen_like.checker.verdict import Checker, Findings, workloads
from jepsen_like.evidence import Evidence
from jepsen_like.history import Call
from jepsen_like.sights import due_of, sight_of
from jepsen_like.slots import CannotTell
from jepsen_like.statistics import distribution


def look(evidence: Evidence, findings: Findings) -> None:
    if not any(call.f == "put-schedule" for call in evidence.calls):
        return
    book = Book(evidence)
    tried: dict[str, list[list[Attempt]]] = {}
    for task_id, tries in attempts(evidence.effects).items():
        if tries[0].slot is not None:
            name = tries[0].schedule or book.schedule_of.get(task_id, "")
            tried.setdefault(name, []).append(tries)
    tasks = slot_tasks.Tasks(evidence, findings)
    judge = slot_runs.Judge(evidence, findings)
    for name, document in sorted(book.schedules.items()):

        def twice(at: int, call: Call, name: str = name) -> None:
            findings.broken(
                f"duplicate: schedule {name} has two rows for {at} in one answer",
                [call.ended_at or 0],
                [name],
                [call],
            )

        seen = sight_of(evidence, name, document, twice)
        findings.saw("schedules")
        findings.saw("rows", sum(len(call.answer.get("slots") or ()) for call in seen.answers))
        runs = [min(tries, key=lambda run: run.from_at) for tries in tried.get(name, [])]
        findings.saw("runs", len(runs))
        slot_rows.duplicates(seen, runs, findings)
        try:
            due = due_of(evidence, seen)
        except CannotTell as error:
            findings.doubt(str(error))
            due = None
        if due is not None:
            slot_rows.look(evidence, seen, due, findings)
            slot_rows.written_off(evidence, seen, due, tried.get(name, []), findings)
        judge.runs(seen, runs, due)
        judge.overlaps(seen, {run.task for run in runs})
        tasks.look(seen)
    findings.measures["late_ms"] = distribution(judge.lateness)


CHECKER = Checker(
    "slots",
    "G5",
    "slots",
    workloads("schedules", "mixed"),
    look,
    "Is every due slot of every schedule covered by exactly one row, and run once?",
)
