"""What no peer may do, whatever the fault: a probe of the fault itself saw it.

A peer whose files are damaged refuses to start and says so, or says how it dealt with it; it never
serves silently.
"""

from __future__ import annotations

from jepsen_like.checker.verdict import Checker, Findings
from jepsen_like.evidence import Evidence


def look(evidence: Evidence, findings: Findings) -> None:
    for event in evidence.faults:
        findings.saw("faults")
        if event.broken:
            findings.broken(f"{event.fault}: {event.broken}", [event.at], event.targets, [event])


CHECKER = Checker(
    "damage",
    "G1",
    "faults",
    lambda evidence: False,
    look,
    "Did no peer serve with damaged files, or do else what no fault allows?",
)
