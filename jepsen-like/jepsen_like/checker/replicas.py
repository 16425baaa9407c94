"""G6: peers that applied the same entries hold the same, and they applied the same entries.

Logs are compared as far as both peers are known to have applied theirs: behind that a disk may have
entries that were never committed.
"""

from __future__ import annotations

from itertools import pairwise

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
    _compare_logs(evidence, findings)
    if len(by_index) > 1:
        told = ", ".join(f"{f.peer} at {f.applied}" for f in evidence.finals)
        findings.doubt(f"peers were not read at one index: {told}")
    if len(evidence.finals) > 1 and not all(final.digest for final in evidence.finals):
        findings.doubt("not every peer gave a digest")


def _compare_logs(evidence: Evidence, findings: Findings) -> None:
    """Every peer's with the next one's: equality needs no more."""
    applied = {one.peer: one.committed_index for one in evidence.replayed}
    told = [(final.peer, final.applied) for final in evidence.finals]
    told += [(call.peer, call.index) for call in evidence.calls if call.index is not None]
    for peer, index in told:
        if peer in applied:
            applied[peer] = max(applied[peer], index)
    logs = [one for one in evidence.replayed if one.entries]
    for one, two in pairwise(sorted(logs, key=lambda log: (applied[log.peer], log.peer))):
        until = applied[one.peer]
        of_two = {entry.index: entry for entry in two.entries}
        both = [(e, of_two[e.index]) for e in one.entries if e.index <= until and e.index in of_two]
        findings.saw("entries", len(both))
        other = next((pair for pair in both if pair[0] != pair[1]), None)
        if other is not None:
            findings.broken(
                f"the logs of {one.peer} and {two.peer} are not the same from index "
                f"{other[0].index} on: terms {other[0].term} and {other[1].term}",
                [],
                [one.peer, two.peer],
            )


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
