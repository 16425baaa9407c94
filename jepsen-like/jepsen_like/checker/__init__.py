"""Judges of the evidence: one module each, pure, tested with histories made by hand.

`CHECKERS` is all of them; `judge` asks each.  A new one is a module with a `Checker`, and a row
here.
"""

from __future__ import annotations

import traceback

from jepsen_like.checker import (
    cancels,
    cordons,
    damage,
    dependencies,
    durability,
    earned,
    exclusion,
    joins,
    leaders,
    limits,
    linearizability,
    logs,
    once,
    outcomes,
    phantoms,
    replicas,
    slots,
    termination,
    witness,
)
from jepsen_like.checker.verdict import Checker, Findings, Valid, Verdict, Violation
from jepsen_like.evidence import Evidence

CHECKERS: tuple[Checker, ...] = (
    durability.CHECKER,
    once.CHECKER,
    phantoms.CHECKER,
    exclusion.CHECKER,
    outcomes.CHECKER,
    linearizability.CHECKER,
    witness.CHECKER,
    slots.CHECKER,
    replicas.CHECKER,
    leaders.CHECKER,
    cancels.CHECKER,
    dependencies.CHECKER,
    joins.CHECKER,
    limits.CHECKER,
    cordons.CHECKER,
    termination.CHECKER,
    logs.CHECKER,
    damage.CHECKER,
    earned.CHECKER,
)

__all__ = ["CHECKERS", "Checker", "Findings", "Valid", "Verdict", "Violation", "judge", "overall"]


def judge(evidence: Evidence, checkers: tuple[Checker, ...] = CHECKERS) -> list[Verdict]:
    """Every checker's verdict, in the order given.

    One that fails knows nothing, which is a verdict as well; the others are asked all the same.
    """
    return [_ask(checker, evidence) for checker in checkers]


def _ask(checker: Checker, evidence: Evidence) -> Verdict:
    try:
        return checker(evidence)
    except Exception as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        doubt = f"the checker failed: {error!r} in {last.name}, line {last.lineno}"
        return Verdict(checker.name, checker.promise, "unknown", doubts=[doubt])


def overall(verdicts: list[Verdict]) -> Valid:
    """False if any promise was broken, else ``"unknown"`` if any is in doubt, else True."""
    if any(verdict.valid is False for verdict in verdicts):
        return False
    return "unknown" if any(verdict.valid == "unknown" for verdict in verdicts) else True
