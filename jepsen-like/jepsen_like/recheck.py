"""Judge a run's directory again: `PYTHONPATH=jepsen-like python -m jepsen_like.recheck DIR`.

Reads the evidence, writes ``results.json`` and ``report.html`` beside it.  Nothing else of the
directory is touched, so it can be done as often as one likes, by newer checkers too.
"""

from __future__ import annotations

import sys
from pathlib import Path

from jepsen_like.checker import judge
from jepsen_like.evidence import read_evidence
from jepsen_like.history import BadEvidence
from jepsen_like.report import write_report
from jepsen_like.results import Results, results, write_results


def recheck(directory: Path) -> Results:
    """The results of a run's evidence.  Raises BadEvidence when it cannot be read."""
    evidence = read_evidence(directory)
    found = results(evidence, judge(evidence))
    write_results(directory, found)
    write_report(directory, evidence, found)
    return found


def main(arguments: list[str]) -> int:
    """Exit code: 0 valid, 1 not valid or unknown, 2 no evidence of a run."""
    if len(arguments) != 1:
        print("usage: python -m jepsen_like.recheck DIRECTORY", file=sys.stderr)
        return 2
    try:
        found = recheck(Path(arguments[0]))
    except BadEvidence as error:
        print(error, file=sys.stderr)
        return 2
    for verdict in found.checkers:
        is_unused = verdict.vacuous and verdict.valid is True
        told = "not looked at" if is_unused else str(verdict.valid).lower()
        print(f"{verdict.promise or '--':4} {verdict.checker:16} {told}")
        for said in [*verdict.doubts, *(violation.says for violation in verdict.violations)]:
            print(f"       {said}")
    return 0 if found.valid is True else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
