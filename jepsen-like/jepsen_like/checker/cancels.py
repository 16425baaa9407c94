"""G7: after an acknowledged cancel nothing new is assigned; once `cancelled` is shown nothing runs.

What is cancelled is cancelled with all its parts.  An attempt that was assigned before the cancel
may still start after it, on a node that has not applied it yet, so a single late start proves
nothing by itself.  It was surely assigned later when

- the cancel was answered ``cancelled``: nothing was assigned then;
- another attempt of the task gave a sign of life after the acknowledgement, or an older one started
  after it: only one attempt is current;
- a part that it waits for gave one: it is assigned when that has ended;
- the cancel's answer names the attempt that was current, and this one is another;
- its token is above the token of a task that was first asked for after the acknowledgement: tokens
  rise in the order of assignment, over all tasks.

What a task that may overlap leaves running after a loss is counted apart.
"""

from __future__ import annotations

from bisect import bisect_right

import msgspec

from jepsen_like.asked import Book
from jepsen_like.attempts import Attempt
from jepsen_like.checker.verdict import Checker, Findings, workloads
from jepsen_like.evidence import Evidence
from jepsen_like.freezes import counted_attempts
from jepsen_like.history import Call


class Floor:
    """Tokens known to be given after an instant, by what nobody had asked for before it."""

    def __init__(self, book: Book, by_task: dict[str, list[Attempt]]) -> None:
        known = sorted(
            (book.asked[owner].asked_at, runs[0].token, runs[0])
            for task_id, runs in by_task.items()
            if (owner := book.owner(task_id)) in book.asked
        )
        self._asked_at = [at for at, _, _ in known]
        #: From this task on, the attempt with the lowest token.
        self._lowest: list[Attempt] = []
        lowest: Attempt | None = None
        for _, _, run in reversed(known):
            lowest = run if lowest is None or run.token < lowest.token else lowest
            self._lowest.append(lowest)
        self._lowest.reverse()

    def __call__(self, at: int) -> Attempt | None:
        """The attempt with the lowest token that was surely given after ``at``."""
        place = bisect_right(self._asked_at, at)
        return self._lowest[place] if place < len(self._lowest) else None


class Told(msgspec.Struct, frozen=True):
    """What a client was told of a task, and when."""

    call: Call
    task_id: str
    at: int


def look(evidence: Evidence, findings: Findings) -> None:
    judge = _Judge(evidence, findings)
    acknowledged: set[str] = set()
    shown: set[str] = set()
    for call in sorted(evidence.calls, key=lambda call: call.ended_at or call.invoked_at):
        task_id = str(call.answer.get("id") or call.id)
        if not call.is_ok or call.ended_at is None or not task_id:
            continue
        told = Told(call, task_id, call.ended_at)
        is_cancelled = call.answer.get("state") == "cancelled"
        if call.f == "cancel" and task_id not in acknowledged:
            acknowledged.add(task_id)
            findings.saw("cancels")
            judge.starts(told, is_cancelled)
        if is_cancelled and task_id not in shown:
            shown.add(task_id)
            findings.saw("shown_cancelled")
            judge.signs_of_life(told)


class _Judge:
    def __init__(self, evidence: Evidence, findings: Findings) -> None:
        self._findings = findings
        self._book = book = Book(evidence)
        self._by_task = by_task = counted_attempts(evidence)
        self._floor = Floor(book, by_task)
        self._counted: set[str] = set()
        #: Task -> attempts of its parts, of all levels.
        self._parts: dict[str, list[Attempt]] = {}
        for task_id, runs in by_task.items():
            for whole in book.wholes(task_id):
                self._parts.setdefault(whole, []).extend(runs)

    def _runs(self, task_id: str) -> list[Attempt]:
        """Its attempts, and those of its parts."""
        parts = self._parts.get(task_id, [])
        if task_id not in self._counted:
            self._counted.add(task_id)
            self._findings.saw("attempts_of_parts", len(parts))
        return [*self._by_task.get(task_id, []), *parts]

    def starts(self, told: Told, is_cancelled: bool) -> None:
        """Attempts that were assigned after the acknowledgement."""
        late = [run for run in self._runs(told.task_id) if run.starts and run.from_at > told.at]
        self._findings.saw("starts_after_cancel", len(late))
        if is_cancelled:
            # The other rule speaks of these.
            return
        for run in late:
            proof = self._proof(told, run, self._ahead(told, run))
            if proof is not None:
                why, others = proof
                self._findings.broken(
                    f"attempt {run.number} of {run.task} was assigned after {told.call.peer} had "
                    f"acknowledged {_its(told, run)}: {why}",
                    [told.at, run.from_at],
                    _ids(told, run),
                    [told.call, *others, run],
                )

    def _ahead(self, told: Told, run: Attempt) -> list[Attempt]:
        """Attempts that had ended when this one was assigned, and were alive at the instant."""
        if self._book.terms(run.task).may_overlap:
            # An older one need not be current.
            return []
        older = [one for one in self._by_task[run.task] if one.token < run.token]
        return [one for one in [*older, *self._waited_for(run)] if one.to_at > told.at]

    def _waited_for(self, run: Attempt) -> list[Attempt]:
        """Of a part of a workflow: the attempts of the parts that it waits for."""
        whole, _, rest = run.task.partition(".")
        asked = self._book.asked.get(whole)
        graph = asked.task.get("workflow") if asked is not None else None
        before = (graph or {}).get(rest.partition(".")[0]) or ()
        return [
            one
            for one in self._parts.get(whole, ())
            if one.task.partition(".")[2].partition(".")[0] in before
        ]

    def _proof(
        self, told: Told, run: Attempt, ahead: list[Attempt]
    ) -> tuple[str, list[Attempt]] | None:
        """Why it was surely assigned after the instant; None: it may be an older one."""
        current = told.call.answer.get("attempt")
        if current is not None and run.task == told.task_id and run.number > int(current):
            return f"attempt {current} was current then", []
        if ahead:
            of = "" if ahead[0].task == run.task else f" of {ahead[0].task}"
            return f"attempt {ahead[0].number}{of} was current then", ahead[:1]
        lowest = self._floor(told.at)
        if lowest is not None and run.token > lowest.token:
            return (
                f"token {run.token} was given after {lowest.token}, to a task that was asked for "
                "later",
                [lowest],
            )
        return None

    def signs_of_life(self, told: Told) -> None:
        """What ran after somebody was shown `cancelled`."""
        for run in self._runs(told.task_id):
            if run.to_at <= told.at:
                continue
            # One that was given up may go on, and even start, until its node hears of it.
            if self._book.terms(run.task).may_overlap and (
                run.from_at <= told.at or self._proof(told, run, []) is None
            ):
                self._findings.saw("ran_on_as_asked_for")
                continue
            what = "the task" if run.task == told.task_id else told.task_id
            self._findings.broken(
                f"attempt {run.number} of {run.task} was running on {run.node} "
                f"{(run.to_at - told.at) / 1e6:.0f} ms after {told.call.peer} had shown {what} "
                "cancelled",
                [told.at, run.to_at],
                _ids(told, run),
                [told.call, run],
            )


def _its(told: Told, run: Attempt) -> str:
    return "its cancel" if run.task == told.task_id else f"the cancel of {told.task_id}"


def _ids(told: Told, run: Attempt) -> list[str]:
    return [run.task] if run.task == told.task_id else [run.task, told.task_id]


CHECKER = Checker(
    "cancels",
    "G7",
    "cancels",
    workloads("tasks", "register", "workflow", "mixed"),
    look,
    "Was nothing assigned after an acknowledged cancel, and did nothing run once it was shown?",
)
