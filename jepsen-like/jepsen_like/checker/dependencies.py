"""G8, in part: what waits for others starts when they have ended as asked, and joins come once.

``depends_on`` names tasks and the end that is waited for (``success``, ``failure``: any other end,
``always``); ``needs`` says how many of them are enough.
"""

from __future__ import annotations

from typing import Any

from jepsen_like.asked import TERMINAL, Book
from jepsen_like.attempts import Attempt
from jepsen_like.checker.verdict import Checker, Findings, workloads
from jepsen_like.evidence import Evidence
from jepsen_like.freezes import counted_attempts
from jepsen_like.history import Final, FinalTask, Record


def look(evidence: Evidence, findings: Findings) -> None:
    book = Book(evidence)
    by_task = counted_attempts(evidence)
    ends = {task.id: task for final in evidence.finals for task in final.tasks}
    for task_id, asked in sorted(book.asked.items()):
        waits_for = asked.task.get("depends_on") or []
        if not waits_for:
            continue
        findings.saw("dependents")
        runs = by_task.get(task_id)
        if not runs:
            continue
        findings.saw("dependents_run")
        first = min(runs, key=lambda run: run.from_at)
        _waited(
            first, waits_for, _needed(asked.task, len(waits_for)), by_task, ends, book, findings
        )
    _items(by_task, book, findings)
    for final in evidence.finals[:1]:
        _joins(final, findings)


def _needed(task: dict[str, Any], count: int) -> int:
    needs = task.get("needs", "all")
    if needs == "all":
        return count
    return 1 if needs == "any" else int(needs)


def _waited(
    run: Attempt,
    waits_for: list[Any],
    needed: int,
    by_task: dict[str, list[Attempt]],
    ends: dict[str, FinalTask],
    book: Book,
    findings: Findings,
) -> None:
    unmet: list[tuple[str, list[Record]]] = []
    for named in waits_for:
        task_id = str(named["task"]) if isinstance(named, dict) else str(named)
        on = str(named.get("on", "success")) if isinstance(named, dict) else "success"
        findings.saw("edges")
        before = by_task.get(task_id, [])
        why = _unmet(on, run, before, ends.get(task_id), book.terms(task_id).may_overlap)
        if on == "success" and not (why or before) and _is_command(task_id, book):
            why = "was not seen to run"
        if why:
            end = [ends[task_id]] if task_id in ends else []
            unmet.append((f"{task_id} ({on}) {why}", [*before, *end]))
    if len(waits_for) - len(unmet) < needed:
        findings.broken(
            f"{run.task} started on {run.node} when too few of what it waits for had ended so "
            f"(needs {needed} of {len(waits_for)}): " + "; ".join(why for why, _ in unmet),
            [run.from_at],
            [run.task],
            [*(record for _, records in unmet for record in records), run],
        )


def _is_command(task_id: str, book: Book) -> bool:
    """Is it a program, which leaves effects, and not a whole, of which only the parts do?"""
    asked = book.asked.get(task_id)
    return asked is not None and not (asked.task.get("workflow") or asked.task.get("maps"))


def _unmet(
    on: str, run: Attempt, before: list[Attempt], end: FinalTask | None, may_overlap: bool
) -> str:
    """Why the other task cannot have ended so when this one started; empty: it may have."""
    at = run.from_at
    state = end.state if end is not None else ""
    if on == "success":
        if state and state in TERMINAL and state != "succeeded":
            return f"ended {state}"
        if before and not any(a.succeeded and (a.ended_at or 0) <= at for a in before):
            return "had not succeeded"
    if on == "failure" and state == "succeeded":
        return "succeeded"
    if not may_overlap:
        alive = [a for a in before if a.to_at > at]
        if alive:
            return f"was running until {(max(a.to_at for a in alive) - at) / 1e6:.0f} ms later"
    return ""


def _items(by_task: dict[str, list[Attempt]], book: Book, findings: Findings) -> None:
    """An item of a map is one task."""
    of_item: dict[tuple[str, int], Attempt] = {}
    for task_id, runs in sorted(by_task.items()):
        index = runs[0].index
        parent = book.parent_of.get(task_id) or task_id.rpartition(".")[0]
        if index is None or not parent:
            continue
        findings.saw("items")
        other = of_item.setdefault((parent, index), runs[0])
        if other.task != task_id:
            findings.broken(
                f"item {index} of {parent} was run by {other.task} and by {task_id}",
                [other.from_at, runs[0].from_at],
                [parent, other.task, task_id],
                [other, runs[0]],
            )


def _joins(final: Final, findings: Findings) -> None:
    """What was split has ended only with the last of its parts."""
    rows = {task.id: task for task in final.tasks}
    for task in final.tasks:
        parent = rows.get(task.parent)
        if parent is None:
            continue
        findings.saw("parts")
        if parent.state in TERMINAL and task.state not in TERMINAL:
            findings.broken(
                f"{parent.id} has ended ({parent.state}) and its part {task.id} is {task.state}",
                [],
                [parent.id, task.id],
                [parent, task],
            )


CHECKER = Checker(
    "dependencies",
    "G8",
    "dependents_run",
    workloads("workflow", "mixed"),
    look,
    "Did everything that waits for others start only when they had ended as asked?",
)
