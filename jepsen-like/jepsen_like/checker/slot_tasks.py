"""Of G5: every task that a row names is there in the end, is over, and ran or says why not."""

from __future__ import annotations

from jepsen_like.asked import TERMINAL
from jepsen_like.checker.verdict import Findings
from jepsen_like.evidence import Evidence
from jepsen_like.history import Call, Final, FinalTask
from jepsen_like.sights import Row, Sight


class Tasks:
    """What all peers hold in the end."""

    def __init__(self, evidence: Evidence, findings: Findings) -> None:
        self._findings = findings
        self._finals: list[tuple[Final, dict[str, FinalTask]]] = [
            (final, {task.id: task for task in final.tasks}) for final in evidence.finals
        ]
        self._ran = {effect.task for effect in evidence.effects if effect.event != "write"}
        if not evidence.finals:
            findings.doubt("no peer was read after the heal, so what became of tasks is not known")

    def look(self, seen: Sight) -> None:
        """Judge the tasks of a schedule."""
        for at, tasks in sorted(seen.tasks.items()):
            for task_id, call in tasks.items():
                self._findings.saw("tasks")
                if task_id not in self._ran:
                    self._findings.saw("tasks_that_did_not_run")
                self._task(seen, at, task_id, call)

    def _task(self, seen: Sight, at: int, task_id: str, call: Call) -> None:
        for final, rows in self._finals:
            row, ended = rows.get(task_id), seen.ends.get(task_id)
            says = self._what_is_wrong(task_id, row, ended)
            if says:
                self._findings.broken(
                    f"lost: {task_id} of slot {at} of {seen.name} {says} on {final.peer}",
                    [(call if ended is None else ended.call).ended_at or 0],
                    [seen.name, task_id, final.peer],
                    [call, *([row] if row else [])],
                )
                return

    def _what_is_wrong(self, task_id: str, row: FinalTask | None, ended: Row | None) -> str:
        """Empty: nothing."""
        if row is None:
            return "is not there"
        if row.state not in TERMINAL:
            return "" if row.paused else f"is still {row.state} ({row.reason or 'no reason'})"
        if ended is not None and ended.state != row.state:
            return f"was shown {ended.state} and is {row.state}, though an end never changes,"
        if task_id in self._ran:
            return ""
        if row.state == "succeeded":
            return "has succeeded without having run"
        return "" if row.reason else f"has not run, is {row.state} and does not say why"
