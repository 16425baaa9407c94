"""No term has two leaders, as far as peers say when asked in passing."""

from __future__ import annotations

from jepsen_like.checker.verdict import Checker, Findings, always
from jepsen_like.evidence import Evidence
from jepsen_like.history import Sample
from jepsen_like.reigns import reigns


def look(evidence: Evidence, findings: Findings) -> None:
    leader: dict[int, Sample] = {}
    for sample in evidence.samples:
        if not sample.reachable:
            continue
        findings.saw("samples")
        if sample.role != "leader":
            continue
        first = leader.setdefault(sample.term, sample)
        if first.peer != sample.peer:
            findings.broken(
                f"term {sample.term} has two leaders, {first.peer} and {sample.peer}",
                [first.at, sample.at],
                [first.peer, sample.peer],
                [first, sample],
            )
    findings.saw("terms", len(leader))
    findings.measures["leader_changes"] = max(0, len(reigns(evidence.samples)) - 1)


CHECKER = Checker(
    "leaders",
    "G6",
    "terms",
    always,
    look,
    "Did no term have two leaders?",
)
