"""G9: after the heal every acknowledged task comes to an end.

Not meant: a task that is paused, or may be (a pause whose outcome nobody knows), and one that was
made so that it cannot run.
"""

from __future__ import annotations

from jepsen_like.asked import TERMINAL, Book
from jepsen_like.attempts import attempts
from jepsen_like.checker.verdict import Checker, Findings, workloads
from jepsen_like.evidence import Evidence
from jepsen_like.spans import NEVER, spans
from jepsen_like.statistics import distribution


def look(evidence: Evidence, findings: Findings) -> None:
    book = Book(evidence)
    paused = _maybe_paused(evidence)
    rows = [{task.id: task for task in final.tasks} for final in evidence.finals]
    for task in book.asked.values():
        if task.acknowledged_at is None:
            continue
        if book.terms(task.id).is_held or task.id in paused:
            findings.saw("not_expected_to_end")
            continue
        findings.saw("tasks")
        for final, tasks in zip(evidence.finals, rows, strict=True):
            row = tasks.get(task.id)
            if row is not None and row.state not in TERMINAL and not row.paused:
                findings.broken(
                    f"task {task.id} is still {row.state} ({row.reason or 'no reason'}) on "
                    f"{final.peer} after the heal",
                    [task.acknowledged_at],
                    [task.id, final.peer],
                    [*task.calls, row],
                )
                break
    if not evidence.finals:
        findings.doubt("no peer was read after the heal")
    to_end, to_start = _since_heal(evidence, book)
    findings.measures["heal_to_end_ms"] = distribution(to_end)
    findings.measures["heal_to_last_start_ms"] = distribution(to_start)


def _maybe_paused(evidence: Evidence) -> set[str]:
    """Tasks that a pause may have taken last: it was not surely refused, and no resume followed."""
    latest: dict[str, int] = {}
    for call in evidence.calls:
        if call.f == "pause" and call.outcome != "fail":
            latest[call.id] = (1 << 63) if call.ended_at is None else call.ended_at
    for call in evidence.calls:
        if call.f == "resume" and call.is_ok and call.invoked_at > latest.get(call.id, 1 << 63):
            del latest[call.id]
    return set(latest)


def _since_heal(evidence: Evidence, book: Book) -> tuple[list[float], list[float]]:
    """How long after the last fault tasks that were open then were first seen at their end, ms.

    And how much of that had gone when the attempt began that ended them (0: before the heal): the
    rest is their own time.
    """
    phase = evidence.run.phase("healed")
    if phase is None:
        return [], []
    # What was killed by the last fault comes back in this time; who is left dead does not.
    ends = [span.from_at if span.to_at == NEVER else span.to_at for span in spans(evidence.faults)]
    healed = min(max(ends, default=phase.from_), phase.from_)
    seen: dict[str, int] = {}
    for call in evidence.calls:
        if call.is_ok and call.ended_at and call.answer.get("state") in TERMINAL:
            task_id = str(call.answer.get("id") or call.id)
            seen[task_id] = min(seen.get(task_id, call.ended_at), call.ended_at)
    ended = attempts(evidence.effects)
    to_end, to_start = [], []
    for task in book.asked.values():
        if task.acknowledged_at is None or task.acknowledged_at > healed:
            continue
        # The program's own end is earlier than any answer that tells of it.
        those = [(a.ended_at, a.from_at) for a in ended.get(task.id, ()) if a.ended_at]
        at, began = max(those, default=(seen.get(task.id), seen.get(task.id)))
        if at is not None and began is not None and at > healed:
            to_end.append((at - healed) / 1e6)
            to_start.append(max(began - healed, 0) / 1e6)
    return to_end, to_start


CHECKER = Checker(
    "termination",
    "G9",
    "tasks",
    workloads("tasks", "mixed", "workflow", "limits", "fencing", "drain", "schedules"),
    look,
    "Did every acknowledged task come to an end once the faults were healed?",
)
