"""Judge a run's directory, again if need be.

Reads the evidence, writes ``results.json`` and ``report.html`` beside it.  Nothing else of the
directory is touched, so it can be done as often as one likes, by newer checkers too.
"""

from __future__ import annotations

from pathlib import Path

from jepsen_like.checker import judge
from jepsen_like.evidence import read_evidence
from jepsen_like.report import write_report
from jepsen_like.results import Results, results, write_results


def recheck(directory: Path) -> Results:
    """The results of a run's evidence.  Raises BadEvidence when it cannot be read."""
    evidence = read_evidence(directory)
    found = results(evidence, judge(evidence))
    write_results(directory, found)
    write_report(directory, evidence, found)
    return found
