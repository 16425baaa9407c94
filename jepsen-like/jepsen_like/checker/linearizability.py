"""G4: for every task there is one order of what clients did that explains all answers.

Tasks are judged one by one, which is enough: operations are about one task each.  The last read of
all peers is one of them, or what was lost of an old task would be seen by nobody.  Tasks that are
made never to run are judged by the exact model, others by the one that lets the system move them.
"""

from __future__ import annotations

from jepsen_like.asked import Book
from jepsen_like.checker.verdict import Checker, Findings, workloads
from jepsen_like.evidence import Evidence
from jepsen_like.history import Call
from jepsen_like.linear import Budget, Model, Op, linearizable
from jepsen_like.models import REGISTER, TASK, is_read, ops_of
from jepsen_like.shrink import Steps, smallest

#: What one task's clients do to it.
VERBS = frozenset({"submit", "retry", "cancel", "pause", "resume", "read", "final"})

STEPS_MAX = 20_000_000
SECONDS_MAX = 120.0
#: Configurations looked at for the smallest parts of all violations together.
SHRINK_STEPS_MAX = 3_000_000


def look(evidence: Evidence, findings: Findings) -> None:
    judge(evidence, findings, Budget(STEPS_MAX, SECONDS_MAX))


def judge(evidence: Evidence, findings: Findings, budget: Budget) -> None:
    """As `look`, within another budget."""
    book = Book(evidence)
    by_task: dict[str, list[Call]] = {}
    for call in evidence.calls:
        if call.f in VERBS:
            by_task.setdefault(_task(call), []).append(call)
    by_task.pop("", None)
    for call in last_reads(evidence):
        if call.id in by_task:
            by_task[call.id].append(call)
            findings.saw("last_reads")
    steps = Steps(SHRINK_STEPS_MAX)
    for task_id, calls in sorted(by_task.items()):
        model = REGISTER if book.terms(task_id).is_held else TASK
        ops = operations(calls)
        findings.saw("tasks")
        findings.saw("operations", len(calls))
        findings.saw("reads", sum(is_read(op) for op in ops))
        is_fine = linearizable(ops, model, budget) if budget.spend(len(ops)) else None
        if is_fine is None:
            findings.doubt(f"{task_id}: its {len(ops)} operations were not judged within budget")
        elif not is_fine:
            _report(task_id, calls, ops, model, steps, findings)


def last_reads(evidence: Evidence) -> list[Call]:
    """What peers hold when all is over, as reads after everything else: one for each that differs.

    A write that was acknowledged, and lost when nobody looked at its task any more, shows here.
    """
    ended = [call.ended_at for call in evidence.calls if call.ended_at is not None]
    at = max([*ended, *(call.invoked_at for call in evidence.calls)], default=0) + 1
    found: dict[tuple[str, str, int], Call] = {}
    for final in evidence.finals:
        for task in final.tasks:
            is_paused = task.paused and task.state in ("waiting", "queued")
            state = "paused" if is_paused else task.state
            answer = {
                "id": task.id, "state": state, "attempt": task.attempt, "reason": task.reason,
            }  # fmt: skip
            call = Call(
                0, 0, "final", final.peer, at, at + 1, "ok", {"id": task.id}, answer, final.applied
            )
            found.setdefault((task.id, state, task.attempt), call)
    return list(found.values())


def operations(calls: list[Call]) -> list[Op]:
    """The operations of one task's calls."""
    may_cancel = any(
        (call.value.get("task") or {}).get(word)
        for call in calls
        for word in ("depends_on", "unique")
    )
    return [op for call in calls for op in ops_of(call, may_cancel)]


def _task(call: Call) -> str:
    if call.f == "retry":
        return str(call.answer.get("id") or "")
    return call.id


def _report(
    task_id: str,
    calls: list[Call],
    ops: list[Op],
    model: Model,
    steps: Steps,
    findings: Findings,
) -> None:
    part = smallest(ops, model, is_read, steps)
    asked_at = {op.from_at for op in part.ops}
    shown = [call for call in calls if call.invoked_at in asked_at]
    fewer = f"{len(shown)} of its {len(calls)}" if len(shown) < len(calls) else f"its {len(calls)}"
    findings.broken(
        f"task {task_id}: no order of {fewer} operations explains their answers",
        [] if part.at is None else [part.at],
        [task_id],
        shown,
    )


CHECKER = Checker(
    "linearizability",
    "G4",
    "reads",
    workloads("tasks", "register", "mixed"),
    look,
    "Is there one order of what clients did to a task that explains all answers?",
)
