"""G3: no two attempts of a task at once, tokens that rise, no run after success.

Two attempts overlap when the older one gave a sign of life after the newer one's first.  An overlap
*had effect* when the older one then came to its end, or a sink took its write.  Tasks that ask for
it (``idempotent``, ``on_lease_loss: continue``) may overlap; they are counted apart.

Not a violation: a run after a success that nobody was told of.  A node that is cut off until its
lease is over has its tasks run again, whatever their programs came to.  Nor what an attempt does
in the moment after its whole machine stood still for longer than its lease (`freezes`); these are
counted apart.
"""

from __future__ import annotations

from itertools import pairwise

from jepsen_like.asked import Book, Terms
from jepsen_like.attempts import Attempt, attempts
from jepsen_like.checker.verdict import Checker, Findings, workloads
from jepsen_like.closed import given_back
from jepsen_like.evidence import Evidence
from jepsen_like.freezes import Freeze, counted, freezes
from jepsen_like.history import Call, Effect


def look(evidence: Evidence, findings: Findings) -> None:
    book = Book(evidence)
    by_task = attempts(evidence.effects)
    writes = _writes(evidence)
    shown = _shown_succeeded(evidence)
    by_number = {
        task.id: task.attempt
        for final in evidence.finals
        for task in final.tasks
        if task.state == "succeeded" and task.attempt
    }
    is_given_back = given_back(evidence)
    owner_of: dict[int, Attempt] = {}
    frozen = freezes(evidence)
    for task_id, runs in sorted(by_task.items()):
        terms = book.terms(task_id)
        findings.saw("tasks")
        findings.saw("attempts", len(runs))
        for run in runs:
            _one(run, owner_of, findings)
        _order(runs, terms, findings)
        _overlaps(runs, terms, writes.get(task_id, []), frozen, findings)
        _after_success(runs, shown.get(task_id), by_number.get(task_id), findings)
        _starts(runs, terms, sum(map(is_given_back, runs)), findings)
    for task_id, taken in sorted(writes.items()):
        _sink(task_id, taken, by_task.get(task_id, []), findings)
    if evidence.run.workload == "fencing" and not writes:
        findings.doubt("no sink got anything, so none was tried")


def _one(run: Attempt, owner_of: dict[int, Attempt], findings: Findings) -> None:
    if len(run.starts) > 1:
        findings.broken(
            f"attempt {run.number} of {run.task} was started {len(run.starts)} times under "
            f"token {run.token}",
            run.starts,
            [run.task],
            [run],
        )
    other = owner_of.setdefault(run.token, run)
    if other is not run:
        findings.broken(
            f"token {run.token} was given twice: to attempt {other.number} of {other.task} on "
            f"{other.node} and to attempt {run.number} of {run.task} on {run.node}",
            [other.from_at, run.from_at],
            sorted({other.task, run.task}),
            [other, run],
        )


def _order(runs: list[Attempt], terms: Terms, findings: Findings) -> None:
    """Tokens rise with the attempts' numbers, and no older attempt starts after a newer one."""
    for one, two in pairwise(sorted(runs, key=lambda run: run.number)):
        if one.number == two.number or one.token >= two.token:
            findings.broken(
                f"tokens of {one.task} do not rise: attempt {one.number} has {one.token}, "
                f"attempt {two.number} has {two.token}",
                [one.from_at, two.from_at],
                [one.task],
                [one, two],
            )
    if terms.may_overlap:
        return
    newest = runs[0]
    for run in sorted(runs, key=lambda run: run.from_at):
        if run.token < newest.token:
            findings.broken(
                f"attempt {run.number} of {run.task} (token {run.token}) started on {run.node} "
                f"after attempt {newest.number} (token {newest.token}) had",
                [newest.from_at, run.from_at],
                [run.task],
                [newest, run],
            )
        else:
            newest = run


def _overlaps(
    runs: list[Attempt],
    terms: Terms,
    writes: list[Effect],
    frozen: list[Freeze],
    findings: Findings,
) -> None:
    # By token: the older one is the one that should have been over.
    for position, old in enumerate(runs):
        for new in runs[position + 1 :]:
            if new.from_at >= old.to_at or new.to_at <= old.from_at:
                continue
            had_effect = _had_effect(old, new, writes)
            if terms.may_overlap:
                findings.saw("overlaps_asked_for")
                findings.saw("overlaps_asked_for_with_effect", int(had_effect))
                continue
            if counted(old, frozen).to_at <= new.from_at:
                findings.saw("overlaps_of_machines_that_stood_still")
                continue
            findings.saw("overlaps")
            findings.saw("overlaps_with_effect", int(had_effect))
            until = min(old.to_at, new.to_at)
            findings.broken(
                f"attempts {old.number} (on {old.node}) and {new.number} (on {new.node}) of "
                f"{old.task} ran at once for at least "
                f"{(until - max(old.from_at, new.from_at)) / 1e6:.0f} ms"
                + (", and the older one had effect" if had_effect else ""),
                [max(old.from_at, new.from_at), until],
                [old.task],
                [old, new],
            )


def _had_effect(old: Attempt, new: Attempt, writes: list[Effect]) -> bool:
    if writes:
        return any(w.token == old.token and w.accepted and w.at > new.from_at for w in writes)
    return old.succeeded and old.ended_at is not None and old.ended_at > new.from_at


def _after_success(
    runs: list[Attempt], shown: Call | None, number: int | None, findings: Findings
) -> None:
    """Nothing starts once it is known that the task has succeeded."""
    for run in runs:
        if shown is not None and shown.ended_at is not None and run.from_at > shown.ended_at:
            findings.broken(
                f"attempt {run.number} of {run.task} started on {run.node} "
                f"{(run.from_at - shown.ended_at) / 1e6:.0f} ms after {shown.peer} had shown "
                "the task succeeded",
                [shown.ended_at, run.from_at],
                [run.task],
                [shown, run],
            )
        elif number is not None and run.number > number:
            findings.broken(
                f"{run.task} has succeeded with attempt {number}, and attempt {run.number} ran",
                [run.from_at],
                [run.task],
                runs,
            )


def _starts(runs: list[Attempt], terms: Terms, given_back: int, findings: Findings) -> None:
    """No more starts than its asker allows; what a node gave back is none."""
    if terms.at_most_once:
        findings.saw("tasks_at_most_once")
        for one, two in pairwise(runs):
            # An attempt that said itself that it failed may be tried again.
            if not one.failed:
                findings.broken(
                    f"{one.task} is to start at most once; attempt {two.number} started though "
                    f"attempt {one.number} had not failed",
                    [one.from_at, two.from_at],
                    [one.task],
                    [one, two],
                )
    # The last failure and the last loss end the task.
    most = terms.max_attempts + terms.max_losses - 1
    if len(runs) - given_back > most:
        findings.broken(
            f"{runs[0].task} ran {len(runs) - given_back} times; {terms.max_attempts} attempts and "
            f"{terms.max_losses} losses allow {most}",
            [run.from_at for run in runs],
            [runs[0].task],
            runs,
        )


def _writes(evidence: Evidence) -> dict[str, list[Effect]]:
    """Task -> what a sink got from it, in the sink's order."""
    found: dict[str, list[Effect]] = {}
    for effect in evidence.effects:
        if effect.event == "write":
            found.setdefault(effect.task, []).append(effect)
    return found


def _sink(task_id: str, writes: list[Effect], runs: list[Attempt], findings: Findings) -> None:
    """A sink takes nothing with a token below the highest it has taken, and the newest attempt's
    all the same."""
    latest = max(runs, key=lambda run: run.number, default=None)
    newest: Effect | None = None
    for write in writes:
        findings.saw("writes")
        findings.saw("writes_refused", int(write.accepted is False))
        if not write.accepted:
            if latest is not None and write.token == latest.token:
                findings.broken(
                    f"the sink of {task_id} refused attempt {latest.number}, the newest, with "
                    f"token {write.token}",
                    [write.at],
                    [task_id],
                    [write, latest],
                )
            continue
        if newest is not None and write.token < newest.token:
            findings.broken(
                f"the sink of {task_id} took token {write.token} after {newest.token}",
                [newest.at, write.at],
                [task_id],
                [newest, write],
            )
        elif newest is None or write.token > newest.token:
            newest = write


def _shown_succeeded(evidence: Evidence) -> dict[str, Call]:
    """Task -> the earliest answer that showed it succeeded."""
    found: dict[str, Call] = {}
    for call in evidence.calls:
        if call.is_ok and call.ended_at and call.answer.get("state") == "succeeded":
            task_id = str(call.answer.get("id") or call.id)
            first = found.get(task_id)
            if first is None or call.ended_at < (first.ended_at or 0):
                found[task_id] = call
    return found


CHECKER = Checker(
    "exclusion",
    "G3",
    "attempts",
    workloads("tasks", "schedules", "workflow", "limits", "fencing", "drain", "mixed"),
    look,
    "Did never two attempts of a task run at once, and none after its success?",
)
