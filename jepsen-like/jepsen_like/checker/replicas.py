"""G6: peers that applied the same entries hold the same."""

from __future__ import annotations

from jepsen_like.checker.verdict import Checker, Findings
from jepsen_like.evidence import Evidence
from jepsen_like.history import Final, FinalTask

#: Rows that are named of two replicas that differ.
ROWS_SHOWN = 5


def look(evidence: Evidence, findings: Findings) -> None:
    by_index: dict[int, list[Final]] = {}
    for final in sorted(evidence.finals, key=lambda final: final.peer):
        by_index.setdefault(final.applied, []).append(final)
    for index, finals in sorted(by_index.items()):
        first = finals[0]
        for other in finals[1:]:
            findings.saw("pairs")
            findings.saw("rows", len(first.tasks))
            rows = _differing(first, other)
            if first.digest != other.digest or rows:
                findings.broken(
                    f"{first.peer} and {other.peer} differ at index {index}: digests "
                    f"{first.digest or 'none'} and {other.digest or 'none'}, "
                    f"{len(rows)} of the tasks they show",
                    [],
                    [first.peer, other.peer, *dict.fromkeys(row.id for row in rows[:ROWS_SHOWN])],
                    rows[: 2 * ROWS_SHOWN],
                )
    if len(by_index) > 1:
        told = ", ".join(f"{f.peer} at {f.applied}" for f in evidence.finals)
        findings.doubt(f"peers were not read at one index: {told}")
    if len(evidence.finals) > 1 and not all(final.digest for final in evidence.finals):
        findings.doubt("not every peer gave a digest")


def _differing(one: Final, two: Final) -> list[FinalTask]:
    """Rows that are not in both, the first replica's before the other's."""
    of_one = {task.id: task for task in one.tasks}
    of_two = {task.id: task for task in two.tasks}
    found = []
    for task_id in sorted(of_one.keys() | of_two.keys()):
        rows = (of_one.get(task_id), of_two.get(task_id))
        if rows[0] != rows[1]:
            found += [row for row in rows if row is not None]
    return found


CHECKER = Checker(
    "replicas",
    "G6",
    "pairs",
    lambda evidence: len(set(evidence.run.peers) - set(evidence.run.dead)) > 1,
    look,
    "Do all peers hold the same at the same index?",
)
