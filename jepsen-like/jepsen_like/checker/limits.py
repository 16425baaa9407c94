"""G8, in part: never more attempts of a limit at once than it has holders.

A sweep over the beginnings and ends of attempts.  A limit is held from the assignment to the end
that was reported, so what programs show of it is less, never more.  Tasks that may overlap are left
out: an attempt of theirs that was lost goes on without holding anything.
"""

from __future__ import annotations

from jepsen_like.asked import Book
from jepsen_like.attempts import Attempt
from jepsen_like.checker.verdict import Checker, Findings, workloads
from jepsen_like.evidence import Evidence
from jepsen_like.freezes import counted_attempts


def look(evidence: Evidence, findings: Findings) -> None:
    book = Book(evidence)
    holders: dict[str, list[Attempt]] = {}
    for task_id, runs in counted_attempts(evidence).items():
        terms = book.terms(task_id)
        if terms.limits and terms.may_overlap:
            findings.saw("attempts_left_out", len(runs))
            continue
        for key in terms.limits:
            holders.setdefault(key, []).extend(runs)
    reached = []
    for key, runs in sorted(holders.items()):
        most = evidence.run.limits.get(key, 1)
        findings.saw("limits")
        findings.saw("attempts", len(runs))
        at_once = _sweep(key, most, runs, findings)
        findings.measures[f"most_at_once:{key}"] = f"{at_once} of {most}"
        if at_once >= most:
            reached.append(key)
    findings.saw("limits_reached", len(reached))
    if holders and not reached:
        findings.doubt("no limit was ever full, so none was tried")


def _sweep(key: str, most: int, runs: list[Attempt], findings: Findings) -> int:
    """Report each time the limit is exceeded anew; returns the highest number at once."""
    moves = [(run.from_at, 1, run) for run in runs]
    moves += [(run.to_at, 0, run) for run in runs if run.to_at > run.from_at]
    held: set[Attempt] = set()
    highest, is_over = 0, False
    # At one instant ends come before beginnings.
    for at, begins, run in sorted(moves, key=lambda move: move[:2]):
        if not begins:
            held.discard(run)
            is_over = is_over and len(held) > most
            continue
        if run.to_at > run.from_at:
            held.add(run)
        at_once = len(held | {run})
        highest = max(highest, at_once)
        if at_once > most and not is_over:
            is_over = True
            now = sorted({*held, run}, key=lambda run: run.from_at)
            findings.broken(
                f"{at_once} attempts at once hold limit {key}, which has {most}: "
                + ", ".join(f"{run.task} on {run.node}" for run in now),
                [at],
                [key, *[run.task for run in now]],
                now,
            )
    return highest


CHECKER = Checker(
    "limits",
    "G8",
    "attempts",
    workloads("limits", "mixed"),
    look,
    "Was no concurrency limit exceeded?",
)
