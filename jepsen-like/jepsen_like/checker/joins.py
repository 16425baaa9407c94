"""G8, in part: within a workflow a part starts when those before it have ended, all of their items.

A workflow is asked for with its ``workflow`` (part -> parts that it waits for) and its ``maps``
(part -> number of items); what has an id ``WHOLE.PART`` or ``WHOLE.PART.ITEM`` is of it.  With
``fails`` items end otherwise than well and their map goes on; without, each has succeeded before
what joins them starts.

What a task is given of those before it (``inputs``) is what they came to: every item once, at its
end, and the end that all peers show later.
"""

from __future__ import annotations

from typing import Any

from jepsen_like.asked import TERMINAL, Asked, Book
from jepsen_like.attempts import Attempt
from jepsen_like.checker.verdict import Checker, Findings, workloads
from jepsen_like.evidence import Evidence
from jepsen_like.freezes import counted_attempts
from jepsen_like.history import Effect, FinalTask

#: Item -> its attempts; what is no item of a map has None.
Items = dict[int | None, list[Attempt]]


def look(evidence: Evidence, findings: Findings) -> None:
    book = Book(evidence)
    by_task = counted_attempts(evidence)
    ends = {task.id: task for final in evidence.finals for task in final.tasks}
    parts = _parts(by_task)
    for task_id, asked in sorted(book.asked.items()):
        if asked.task.get("workflow") and not book.terms(task_id).may_overlap:
            _workflow(task_id, asked, parts.get(task_id, {}), ends, findings)
    for effect in evidence.effects:
        if effect.inputs is not None:
            asked_for = book.asked.get(effect.task)
            needs = asked_for.task.get("needs", "all") if asked_for else "all"
            _given(effect, effect.inputs, needs == "all", ends, findings)


def _parts(by_task: dict[str, list[Attempt]]) -> dict[str, dict[str, Items]]:
    """Whole -> part -> its attempts, by item."""
    found: dict[str, dict[str, Items]] = {}
    for task_id, runs in by_task.items():
        whole, _, rest = task_id.partition(".")
        part, _, item = rest.partition(".")
        if part:
            items = found.setdefault(whole, {}).setdefault(part, {})
            items.setdefault(int(item) if item.isdecimal() else None, []).extend(runs)
    return found


def _workflow(
    whole: str,
    asked: Asked,
    parts: dict[str, Items],
    ends: dict[str, FinalTask],
    findings: Findings,
) -> None:
    findings.saw("workflows")
    graph: dict[str, list[str]] = asked.task["workflow"]
    maps: dict[str, int] = asked.task.get("maps") or {}
    for part, waits_for in sorted(graph.items()):
        runs = [run for tries in parts.get(part, {}).values() for run in tries]
        for before in waits_for:
            items = parts.get(before, {})
            for run in runs:
                findings.saw("starts_behind_others")
                findings.saw("joins", int(before in maps))
                _alive(run, before, items, findings)
                if before in maps and asked.task.get("fails"):
                    _ran(run, f"{whole}.{before}", items, maps[before], ends, findings)
                else:
                    wanted = range(maps[before]) if before in maps else (None,)
                    _succeeded(run, f"{whole}.{before}", items, wanted, findings)


def _alive(run: Attempt, before: str, items: Items, findings: Findings) -> None:
    """Nothing of what is waited for runs any more."""
    alive = [one for tries in items.values() for one in tries if one.to_at > run.from_at]
    if alive:
        last = max(alive, key=lambda one: one.to_at)
        findings.broken(
            f"{run.task} started on {run.node} {(last.to_at - run.from_at) / 1e6:.0f} ms before "
            f"the last sign of life of {last.task}, a part of {before}, which it waits for",
            [run.from_at, last.to_at],
            [run.task, last.task],
            [last, run],
        )


def _succeeded(
    run: Attempt, task_id: str, items: Items, wanted: range | tuple[None], findings: Findings
) -> None:
    """Everything that is waited for has succeeded."""
    at = run.from_at
    for item in wanted:
        tries = items.get(item, [])
        if not any(one.succeeded and (one.ended_at or 0) <= at for one in tries):
            name = task_id if item is None else f"{task_id}.{item}"
            findings.broken(
                f"{run.task} started on {run.node} when {name}, which it waits for, had not "
                "succeeded",
                [at],
                [run.task, name],
                [*tries, run],
            )
            return


def _ran(
    run: Attempt,
    task_id: str,
    items: Items,
    count: int,
    ends: dict[str, FinalTask],
    findings: Findings,
) -> None:
    """Every item has been tried, unless it was lost before it gave a sign of life."""
    for item in range(count):
        name = f"{task_id}.{item}"
        end = ends.get(name)
        if end is not None and end.state != "succeeded" and "lost" in (end.reason, end.state):
            continue
        if not any(one.from_at <= run.from_at for one in items.get(item, [])):
            findings.broken(
                f"{run.task} started on {run.node} when {name}, which it waits for, had not run",
                [run.from_at],
                [run.task, name],
                [run],
            )
            return


def _given(
    run: Effect,
    inputs: list[dict[str, Any]],
    must_have_ended: bool,
    ends: dict[str, FinalTask],
    findings: Findings,
) -> None:
    """What a task was told of those before it."""
    seen: dict[str, list[int]] = {}
    for line in inputs:
        findings.saw("inputs")
        task_id, state = str(line.get("task")), str(line.get("state"))
        end = ends.get(task_id)
        wrong = ""
        if must_have_ended and state not in TERMINAL:
            wrong = "which has not ended"
        elif state in TERMINAL and end is not None and end.state != state:
            wrong = f"and it is {end.state} in the end"
        if wrong:
            findings.broken(
                f"{run.task} was told that {task_id} is {state}, {wrong}",
                [run.at],
                [run.task, task_id],
                [run, *([end] if end is not None else [])],
            )
        if "of" in line:
            seen.setdefault(str(line["of"]), []).append(int(line["index"]))
        elif line.get("split"):
            seen.setdefault(task_id, [])
    for task_id, indexes in seen.items():
        there = {int(e.id.rpartition(".")[2]) for e in ends.values() if _is_item(e, task_id)}
        if indexes != sorted(set(indexes)) or (there and set(indexes) != there):
            findings.broken(
                f"{run.task} was told of items {indexes} of {task_id}, which has {len(there)}",
                [run.at],
                [run.task, task_id],
                [run],
            )


def _is_item(task: FinalTask, of: str) -> bool:
    # A twin has another name behind its number.
    return task.parent == of and task.id.rpartition(".")[2].isdecimal()


CHECKER = Checker(
    "joins",
    "G8",
    "joins",
    workloads("workflow", "mixed"),
    look,
    "Did everything in a workflow start when all before it had ended, and hear of all of it?",
)
