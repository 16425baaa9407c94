"""No term has two leaders: by what peers say when asked in passing, and by their logs.

Samples miss a leader of a few milliseconds; whoever was elected has written it down.
"""

from __future__ import annotations

import re

from jepsen_like.checker.verdict import Checker, Findings, always
from jepsen_like.evidence import Evidence
from jepsen_like.history import Sample
from jepsen_like.reigns import reigns

#: What a peer logs when it is elected.
ELECTED = re.compile(r": leader in term (\d+) \(leader: ")


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
    _logged(evidence, findings)
    findings.measures["leader_changes"] = max(0, len(reigns(evidence.samples)) - 1)


def _logged(evidence: Evidence, findings: Findings) -> None:
    elected: dict[int, tuple[str, str]] = {}
    for log in evidence.logs:
        for line in log.lines:
            found = ELECTED.search(line)
            if found is None:
                continue
            findings.saw("elections_logged")
            term = int(found[1])
            peer, first = elected.setdefault(term, (log.peer, line))
            if peer != log.peer:
                findings.broken(
                    f"term {term} has two leaders by their logs, {peer} and {log.peer}:\n"
                    f"{first}\n{line}",
                    [],
                    [peer, log.peer],
                )


CHECKER = Checker(
    "leaders",
    "G6",
    "terms",
    always,
    look,
    "Did no term have two leaders?",
)
