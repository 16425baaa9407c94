"""G3: what a task came to is what its current attempt said itself, and that has ended.

A report of an older attempt may arrive at any time, from a node that was cut off or stood still;
it must not end the attempt that is current.  So

- a task that was shown ``succeeded`` has an attempt of that number whose program said that it
  ended with 0;
- one that failed with an exit code (``exit-code-N``, also ``retrying``) has none of that number
  whose program said another one;
- the attempt that it was shown to have ended with gives no sign of life after that.
"""

from __future__ import annotations

import msgspec

from jepsen_like.attempts import Attempt, attempts
from jepsen_like.checker.verdict import Checker, Findings, workloads
from jepsen_like.evidence import Evidence
from jepsen_like.history import Call, Record

#: Begins the reason of a task whose program failed.
EXIT_CODE = "exit-code-"


class _Shown(msgspec.Struct, frozen=True):
    """A task that had ended an attempt, as somebody showed it or as the log has it."""

    task_id: str
    number: int
    #: Of its program.
    exit: int
    record: Record
    #: A peer, or an entry.
    who: str
    #: When it had surely ended; None: it is not known.
    at: int | None = None


def look(evidence: Evidence, findings: Findings) -> None:
    by_task = attempts(evidence.effects)
    told: set[tuple[str, int, int, str]] = set()
    for shown in _all_shown(evidence):
        runs = by_task.get(shown.task_id)
        if not runs:
            # It runs nothing that leaves effects, as a whole does not.
            continue
        findings.saw("outcomes")
        what = _what_is_wrong(shown, [run for run in runs if run.number == shown.number])
        key = (shown.task_id, shown.number, shown.exit, what[:20])
        if what and key not in told:
            told.add(key)
            findings.broken(
                f"{shown.who} showed {shown.task_id} as ended by attempt {shown.number} "
                f"with exit code {shown.exit}, and {what}",
                [] if shown.at is None else [shown.at],
                [shown.task_id],
                [shown.record, *runs],
            )


def _what_is_wrong(shown: _Shown, runs: list[Attempt]) -> str:
    """Of the attempts of that number, mostly one; empty: nothing."""
    said = [run.exit or 0 for run in runs if run.ended_at is not None]
    if said and shown.exit not in said:
        return f"its program said {said[0]}"
    # What fails may do so before its first word, and its last: where there is no room on a disk.
    if not said and shown.exit == 0:
        return "its program said no end" if runs else "nobody saw that one run"
    for run in runs:
        if shown.at is not None and run.to_at > shown.at:
            return f"it ran on {run.node} {(run.to_at - shown.at) / 1e6:.0f} ms after that"
    return ""


def _all_shown(evidence: Evidence) -> list[_Shown]:
    found = []
    for call in evidence.calls:
        if call.is_ok and call.ended_at is not None:
            shown = _of_answer(call, call.ended_at)
            if shown is not None:
                found.append(shown)
    for final in evidence.finals:
        for task in final.tasks:
            if (code := _exit_code(task.state, task.reason)) is not None:
                found.append(_Shown(task.id, task.attempt, code, task, final.peer))
    for entry in evidence.log or ():
        for task_id, row in entry.rows.items():
            code = None if row is None else _exit_code(row.state, str(row.told.get("reason") or ""))
            if row is not None and code is not None:
                found.append(_Shown(task_id, row.attempt, code, entry, f"entry {entry.index}"))
    return found


def _of_answer(call: Call, at: int) -> _Shown | None:
    answer = call.answer
    state, number = str(answer.get("state") or ""), answer.get("attempt")
    code = _exit_code(state, str(answer.get("reason") or ""))
    task_id = str(answer.get("id") or call.id)
    if code is None or not number or not task_id:
        return None
    return _Shown(task_id, int(number), code, call, call.peer, at)


def _exit_code(state: str, reason: str) -> int | None:
    """What the program of the last attempt is said to have ended with; None: it is not said."""
    if state == "succeeded":
        return 0
    code = reason.removeprefix(EXIT_CODE)
    is_said = state in ("failed", "retrying") and reason.startswith(EXIT_CODE)
    return int(code) if is_said and code.isdecimal() else None


CHECKER = Checker(
    "outcomes",
    "G3",
    "outcomes",
    workloads("tasks", "schedules", "workflow", "limits", "fencing", "drain", "mixed"),
    look,
    "Did every task come to what its own current attempt said?",
)
