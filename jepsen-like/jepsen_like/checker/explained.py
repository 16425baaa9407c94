"""Answers beside the committed log: is each what the log says at the index that it names?

The log may begin behind a snapshot (``first > 1``): then a task is known only from the first entry
on that changed it, and what was answered of it before cannot be compared.  Counted are:

* ``answers_replayed``: compared with the row as of their index,
* ``answers_outside_the_log``: the log is not there, or not known to be agreed on, at their index,
* ``answers_without_index``: nothing says which row they show,
* ``commands_found``: what was done to a task, found in the log as accepted,
* ``refusals_replayed``: what was refused, and rightly.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable

from jepsen_like.asked import TERMINAL
from jepsen_like.checker.verdict import Findings
from jepsen_like.evidence import Evidence
from jepsen_like.history import Call, LogEntry, Ordered, Record, Row

#: Of the answers that name an index: below this share a run says too little, unless its journals
#: were made small.
SHARE_MIN = 0.9
#: What clients ask for -> the command that it is in the log.
COMMANDS = {"cancel": "CancelTask", "pause": "PauseTask", "resume": "ResumeTask"}
#: Why a task was not touched -> what it then is; a row that is not there is None.
EXPLAINS: dict[str, Callable[[Row | None], bool]] = {
    "unknown-task": lambda row: row is None,
    "task-terminal": lambda row: row is not None and row.state in TERMINAL,
    "task-not-terminal": lambda row: row is not None and row.state not in TERMINAL,
    "task-succeeded": lambda row: row is not None and row.state == "succeeded",
}


def task_id_of(call: Call) -> str:
    """The task that a call is about, the new one of a retry."""
    return str(call.answer.get("id") or call.id)


def look(evidence: Evidence, answers: list[Call], refusals: list[Call], findings: Findings) -> None:
    """``answers``: about one task each, and ok; ``refusals``: with the index of the refusal."""
    _tell_what_is_missing(evidence, findings)
    if evidence.log is None:
        return
    rows = Rows(evidence.log)
    findings.saw("entries", len(evidence.log))
    known = Known(evidence.calls)
    for call in answers:
        if not _is_written(rows, call, findings):
            continue
        _compare(rows, call, findings)
        _find_command(rows, call, known.before(call), findings)
    for call in refusals:
        _explain(rows, call, known.before(call), findings)
    _tell_share(evidence, findings)


class Rows:
    """The tasks as of any index of the log, and what was asked of them."""

    def __init__(self, log: tuple[LogEntry, ...]) -> None:
        self.first = log[0].index if log else 0
        self.last = log[-1].index if log else 0
        self._versions: dict[str, tuple[list[int], list[Row | None]]] = {}
        self._commands: dict[tuple[str, str], list[tuple[int, Ordered]]] = {}
        for entry in log:
            for task_id, row in entry.rows.items():
                indexes, rows = self._versions.setdefault(task_id, ([], []))
                indexes.append(entry.index)
                rows.append(row)
            for command in entry.commands:
                for task_id in command.about:
                    of_task = self._commands.setdefault((command.command, task_id), [])
                    of_task.append((entry.index, command))

    @property
    def is_whole(self) -> bool:
        """There is nothing before it."""
        return self.first == 1

    def knows(self, task_id: str, index: int) -> bool:
        """Does it say what the task was at that index?"""
        if not self.first <= index <= self.last:
            return False
        indexes, _ = self._versions.get(task_id, ([], []))
        return self.is_whole or bool(indexes and indexes[0] <= index)

    def has(self, task_id: str) -> bool:
        """Was it ever there?"""
        return task_id in self._versions

    def at(self, task_id: str, index: int) -> Row | None:
        """The row behind that entry; None: there is none.  `knows` says whether it tells."""
        indexes, rows = self._versions.get(task_id, ([], []))
        place = bisect_right(indexes, index)
        return rows[place - 1] if place else None

    def between(self, task_id: str, after: int, upto: int) -> list[Row | None]:
        """The row behind the entry ``after``, and all that it became up to the other one."""
        indexes, rows = self._versions.get(task_id, ([], []))
        later = rows[bisect_right(indexes, after) : bisect_right(indexes, upto)]
        return [self.at(task_id, after), *later]

    def commands(self, name: str, task_id: str, after: int, upto: int) -> Iterable[Ordered]:
        """Commands of that name about the task, behind one entry and up to another."""
        of_task = self._commands.get((name, task_id), [])
        return [command for index, command in of_task if after < index <= upto]


class Known:
    """The highest index that anybody had been told by an instant."""

    def __init__(self, calls: Iterable[Call]) -> None:
        told = sorted(
            (call.ended_at, call.index)
            for call in calls
            if call.ended_at is not None and call.index is not None
        )
        self._instants = [at for at, _ in told]
        self._highest: list[int] = []
        for _, index in told:
            self._highest.append(max(index, self._highest[-1] if self._highest else 0))

    def before(self, call: Call) -> int:
        """What was applied for sure when the call was made: what it did lies behind."""
        place = bisect_right(self._instants, call.invoked_at - 1)
        return self._highest[place - 1] if place else 0


def _is_written(rows: Rows, call: Call, findings: Findings) -> bool:
    """What was acknowledged is in the log, if the log goes so far."""
    task_id = task_id_of(call)
    if call.f not in ("submit", "retry") or rows.has(task_id) or not rows.is_whole:
        return True
    if call.index is not None and call.index > rows.last:
        return True
    findings.broken(
        f"{call.f} of {task_id} was acknowledged by {call.peer} and is not in the log",
        [call.ended_at or 0],
        [task_id],
        [call],
    )
    return False


def _compare(rows: Rows, call: Call, findings: Findings) -> None:
    """An answer with the row as of its index, field by field."""
    task_id, index = task_id_of(call), call.index
    if index is None or "state" not in call.answer:
        findings.saw("answers_without_index")
        return
    if not rows.knows(task_id, index):
        findings.saw("answers_outside_the_log")
        return
    findings.saw("answers_replayed")
    row = rows.at(task_id, index)
    fields = {"state": row.state, "attempt": row.attempt, **row.told} if row else {"state": None}
    others = [
        f"{name} {call.answer[name]!r} where the log has {value!r}"
        for name, value in fields.items()
        if name in call.answer and not _is_same(name, call.answer[name], value)
    ]
    if others:
        shown: list[Record] = [call, *([row] if row else [])]
        findings.broken(
            f"{call.f} of {task_id} at {call.peer} answered at index {index} {', '.join(others)}",
            [call.ended_at or 0],
            [task_id],
            shown,
        )


def _is_same(name: str, answered: object, logged: object) -> bool:
    # A history that says nothing of the attempt has None for it.
    return answered == logged or (name == "attempt" and answered is None)


def _find_command(rows: Rows, call: Call, before: int, findings: Findings) -> None:
    """What was done to a task is in the log, asked of that peer, and was accepted."""
    name, task_id, index = COMMANDS.get(call.f), task_id_of(call), call.index
    if name is None or index is None or not rows.first <= before + 1 <= index <= rows.last:
        return
    commands = rows.commands(name, task_id, before, index)
    if any(command.is_accepted and command.peer == call.peer for command in commands):
        findings.saw("commands_found")
        return
    findings.broken(
        f"{call.f} of {task_id} was acknowledged by {call.peer} at index {index}, and no entry "
        f"behind {before} says so",
        [call.ended_at or 0],
        [task_id],
        [call, *commands],
    )


def _explain(rows: Rows, call: Call, before: int, findings: Findings) -> None:
    """The task was what the refusal says, at some entry from when it was asked to its answer."""
    is_explained = EXPLAINS.get(str((call.error or {}).get("code")))
    task_id, index = call.id, call.index or 0
    if is_explained is None or not rows.knows(task_id, before or index):
        return
    if not rows.knows(task_id, index):
        return
    findings.saw("refusals_replayed")
    seen = rows.between(task_id, min(before, index), index)
    if not any(is_explained(row) for row in seen):
        states = ", ".join("nothing" if row is None else row.state for row in seen)
        findings.broken(
            f"{call.f} of {task_id} at {call.peer} was refused at index {index} with "
            f"{(call.error or {}).get('code')}, where the log has {states}",
            [call.ended_at or 0],
            [task_id],
            [call, *[row for row in seen if row is not None]],
        )


def _tell_what_is_missing(evidence: Evidence, findings: Findings) -> None:
    """Logs that could not be had: a doubt, unless the program cannot do it at all."""
    missing = [o for o in evidence.replayed if o.why_not and o.peer not in evidence.run.dead]
    if evidence.log is None:
        why = "; ".join(f"{one.peer}: {one.why_not}" for one in missing)
        findings.measures["replay"] = f"not available ({why or 'nobody asked for it'})"
    for one in missing:
        if not one.is_impossible:
            findings.doubt(f"the log of {one.peer} could not be applied again: {one.why_not}")


def _tell_share(evidence: Evidence, findings: Findings) -> None:
    compared = findings.checked.get("answers_replayed", 0)
    outside = findings.checked.get("answers_outside_the_log", 0)
    if not compared + outside:
        return
    share = compared / (compared + outside)
    findings.measures["share_replayed"] = round(share, 3)
    if share < SHARE_MIN and not evidence.run.presets:
        findings.doubt(
            f"only {compared} of {compared + outside} answers could be compared with the log"
        )
