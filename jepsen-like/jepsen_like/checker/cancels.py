"""G7: after an acknowledged cancel nothing new is assigned; once `cancelled` is shown nothing runs.

An attempt that was assigned before the cancel may still start after it, on a node that has not
applied it yet, so a single late start proves nothing by itself.  It was surely assigned later when

- the cancel was answered ``cancelled``: nothing was assigned then;
- another attempt of the task gave a sign of life after the acknowledgement, or an older one started
  after it: only one attempt is current;
- the cancel's answer names the attempt that was current, and this one is another;
- its token is above the token of a task that was first asked for after the acknowledgement: tokens
  rise in the order of assignment, over all tasks.

What a task that may overlap leaves running after a loss is counted apart.
"""

from __future__ import annotations

from bisect import bisect_right

from jepsen_like.asked import Book
from jepsen_like.attempts import Attempt
from jepsen_like.checker.verdict import Checker, Findings, workloads
from jepsen_like.evidence import Evidence
from jepsen_like.freezes import counted_attempts
from jepsen_like.history import Call


class Floor:
    """Tokens known to be given after an instant, by tasks that nobody had asked for before it."""

    def __init__(self, book: Book, by_task: dict[str, list[Attempt]]) -> None:
        known = sorted(
            (book.asked[task_id].asked_at, runs[0].token, runs[0])
            for task_id, runs in by_task.items()
            if task_id in book.asked
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


def look(evidence: Evidence, findings: Findings) -> None:
    book = Book(evidence)
    by_task = counted_attempts(evidence)
    floor = Floor(book, by_task)
    acknowledged: set[str] = set()
    shown: set[str] = set()
    for call in sorted(evidence.calls, key=lambda call: call.ended_at or call.invoked_at):
        task_id = str(call.answer.get("id") or call.id)
        if not call.is_ok or call.ended_at is None or not task_id:
            continue
        runs = by_task.get(task_id, [])
        may_overlap = book.terms(task_id).may_overlap
        if call.f == "cancel" and task_id not in acknowledged:
            acknowledged.add(task_id)
            findings.saw("cancels")
            _new(call, call.ended_at, runs, may_overlap, floor, findings)
        if call.answer.get("state") == "cancelled" and task_id not in shown:
            shown.add(task_id)
            findings.saw("shown_cancelled")
            _running(call, call.ended_at, runs, may_overlap, floor, findings)


def _new(
    cancel: Call,
    at: int,
    runs: list[Attempt],
    may_overlap: bool,
    floor: Floor,
    findings: Findings,
) -> None:
    """Attempts that were assigned after the acknowledgement."""
    late = [run for run in runs if run.starts and run.started_at > at]
    findings.saw("starts_after_cancel", len(late))
    if cancel.answer.get("state") == "cancelled":
        # The other rule speaks of these.
        return
    for run in late:
        # An older one of a task that may overlap need not be current.
        older = [] if may_overlap else [o for o in runs if o.token < run.token and o.to_at > at]
        proof = _proof(cancel, at, run, older, floor)
        if proof is not None:
            why, others = proof
            findings.broken(
                f"attempt {run.number} of {run.task} was assigned after {cancel.peer} had "
                f"acknowledged its cancel: {why}",
                [at, run.started_at],
                [run.task],
                [cancel, *others, run],
            )


def _proof(
    cancel: Call, at: int, run: Attempt, older: list[Attempt], floor: Floor
) -> tuple[str, list[Attempt]] | None:
    """Why the attempt was surely assigned after the acknowledgement; None: it may be an older."""
    current = cancel.answer.get("attempt")
    if current is not None and run.number > int(current):
        return f"attempt {current} was current then", []
    if older:
        return f"attempt {older[0].number} was current then", older[:1]
    lowest = floor(at)
    if lowest is not None and run.token > lowest.token:
        return (
            f"token {run.token} was given after {lowest.token}, to a task that was asked for later",
            [lowest],
        )
    return None


def _running(
    call: Call,
    at: int,
    runs: list[Attempt],
    may_overlap: bool,
    floor: Floor,
    findings: Findings,
) -> None:
    """Signs of life after somebody was shown `cancelled`."""
    for run in runs:
        if run.to_at <= at:
            continue
        # One that was given up may go on, and even start, until its node hears of it.
        if may_overlap and (run.started_at <= at or _proof(call, at, run, [], floor) is None):
            findings.saw("ran_on_as_asked_for")
            continue
        findings.broken(
            f"attempt {run.number} of {run.task} was running on {run.node} "
            f"{(run.to_at - at) / 1e6:.0f} ms after {call.peer} had shown the task cancelled",
            [at, run.to_at],
            [run.task],
            [call, run],
        )


CHECKER = Checker(
    "cancels",
    "G7",
    "cancels",
    workloads("tasks", "register", "mixed"),
    look,
    "Was nothing assigned after an acknowledged cancel, and did nothing run once it was shown?",
)
