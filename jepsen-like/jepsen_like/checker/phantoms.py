"""Nothing runs, or is there, that nobody asked for.

Every effect and every final row belongs to a submission that may have happened, to a slot of a
schedule, or is a part of one of those.  What was surely refused has no effect.
"""

from __future__ import annotations

from jepsen_like.asked import Book
from jepsen_like.attempts import attempts
from jepsen_like.checker.verdict import Checker, Findings, workloads
from jepsen_like.evidence import Evidence
from jepsen_like.history import Record


def look(evidence: Evidence, findings: Findings) -> None:
    book = Book(evidence)
    # A retry without an answer made a task whose id nobody knows.
    open_retries = {
        call.id for call in evidence.calls if call.f == "retry" and call.outcome == "info"
    }
    retry_of = {task.id: task.retry_of for final in evidence.finals for task in final.tasks}
    seen: dict[str, list[Record]] = {}
    for task_id, runs in attempts(evidence.effects).items():
        findings.saw("tasks_with_effects")
        seen.setdefault(task_id, []).extend(runs)
    for final in evidence.finals:
        for task in final.tasks:
            findings.saw("rows")
            seen.setdefault(task.id, []).append(task)
    for task_id, records in sorted(seen.items()):
        owner = book.owner(task_id)
        if owner is None:
            old = retry_of.get(task_id)
            if old is not None and old in open_retries:
                findings.saw("of_open_retries")
                continue
            if old is None and open_retries:
                findings.doubt(f"{task_id} has effects and no final row; it may be an open retry's")
                continue
            findings.broken(f"{task_id} is there, and nobody asked for it", [], [task_id], records)
        elif owner in book.asked and book.asked[owner].surely_refused:
            asked = book.asked[owner]
            findings.broken(
                f"{task_id} is there, and everyone who asked for it was told that it did not "
                "happen",
                [],
                [task_id],
                [*asked.calls, *records],
            )


CHECKER = Checker(
    "phantoms",
    "G2",
    "tasks_with_effects",
    workloads("tasks", "schedules", "workflow", "limits", "fencing", "drain", "mixed"),
    look,
    "Does everything that ran belong to something that was asked for?",
)
