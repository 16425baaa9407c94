"""G1: nothing that was acknowledged is gone, on any peer, after the heal.

A set, as in Jepsen's set-full: what was added and acknowledged, or shown to anybody, must be in the
final read of every peer.  An end that was shown once is an acknowledged fact as well: terminal
states absorb.
"""

from __future__ import annotations

from jepsen_like.asked import TERMINAL, asked
from jepsen_like.checker.verdict import Checker, Findings, always
from jepsen_like.evidence import Evidence
from jepsen_like.history import Call, Final


def look(evidence: Evidence, findings: Findings) -> None:
    known = asked(evidence)
    acknowledged = [task for task in known.values() if task.acknowledged_at is not None]
    shown = _first_shown(evidence, {task.id for task in acknowledged})
    ends = _first_ends(evidence, findings)
    findings.saw("peers_read", len(evidence.finals))
    findings.saw("tasks_acknowledged", len(acknowledged))
    findings.saw("tasks_only_shown", len(shown))
    for peer in sorted(set(evidence.run.peers) - set(evidence.run.dead)):
        if peer not in {final.peer for final in evidence.finals}:
            findings.doubt(f"{peer} was not read after the heal")
    for final in evidence.finals:
        rows = {task.id: task for task in final.tasks}
        for task in acknowledged:
            findings.saw("reads")
            if task.id not in rows:
                said = next(call for call in task.calls if call.is_ok)
                findings.broken(
                    f"task {task.id} was acknowledged by {said.peer} and is not on {final.peer} "
                    f"at index {final.applied}",
                    [said.ended_at or said.invoked_at],
                    [task.id, final.peer],
                    [said],
                )
        for task_id, call in shown.items():
            findings.saw("reads")
            if task_id not in rows:
                findings.broken(
                    f"task {task_id} was shown by {call.peer} and is not on {final.peer} at index "
                    f"{final.applied}",
                    [call.ended_at or call.invoked_at],
                    [task_id, final.peer],
                    [call],
                )
        for task_id, call in ends.items():
            row = rows.get(task_id)
            if row is not None and row.state != call.answer.get("state"):
                findings.broken(
                    f"task {task_id} was shown {call.answer.get('state')} and is {row.state} on "
                    f"{final.peer}: an end never changes",
                    [call.ended_at or call.invoked_at],
                    [task_id, final.peer],
                    [call, row],
                )
        _schedules(evidence, final, findings)


def _first_shown(evidence: Evidence, but: set[str]) -> dict[str, Call]:
    """Task -> the first answer that showed it, of tasks whose making nobody acknowledged."""
    found: dict[str, Call] = {}
    for call in evidence.calls:
        task_id = str(call.answer.get("id") or "")
        if call.is_ok and task_id and task_id not in but and call.answer.get("state"):
            found.setdefault(task_id, call)
    return found


def _first_ends(evidence: Evidence, findings: Findings) -> dict[str, Call]:
    """Task -> the first answer that showed it at its end; finds answers that differ."""
    ends: dict[str, Call] = {}
    for call in sorted(evidence.calls, key=lambda call: call.ended_at or call.invoked_at):
        if not call.is_ok or call.answer.get("state") not in TERMINAL:
            continue
        # A retry's answer is about the new task.
        task_id = str(call.answer.get("id") or call.id)
        first = ends.setdefault(task_id, call)
        findings.saw("ends_shown")
        if first.answer["state"] != call.answer["state"]:
            findings.broken(
                f"task {task_id} was shown {first.answer['state']}, later "
                f"{call.answer['state']}: an end never changes",
                [first.ended_at or 0, call.ended_at or 0],
                [task_id],
                [first, call],
            )
    return ends


def _schedules(evidence: Evidence, final: Final, findings: Findings) -> None:
    names = {str(schedule.get("name")) for schedule in final.schedules}
    for call in evidence.calls:
        if call.f == "put-schedule" and call.is_ok:
            findings.saw("reads")
            name = str(call.value.get("name"))
            if name not in names:
                findings.broken(
                    f"schedule {name} was acknowledged by {call.peer} and is not on {final.peer}",
                    [call.ended_at or call.invoked_at],
                    [name, final.peer],
                    [call],
                )


CHECKER = Checker(
    "durability",
    "G1",
    "reads",
    always,
    look,
    "Is everything that was acknowledged still there, on every peer?",
)
