"""Judges of the evidence: one module each, pure, tested with histories made by hand.

`CHECKERS` is all of them; `judge` asks each.  A new one is a module with a `Checker`, and a row
here.
"""

from __future__ import annotations

from jepsen_like.checker import (
    cancels,
    dependencies,
    durability,
    earned,
    exclusion,
    leaders,
    limits,
    linearizability,
    logs,
    once,
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
    linearizability.CHECKER,
    witness.CHECKER,
    slots.CHECKER,
    replicas.CHECKER,
    leaders.CHECKER,
    cancels.CHECKER,
    dependencies.CHECKER,
    limits.CHECKER,
    termination.CHECKER,
    logs.CHECKER,
    earned.CHECKER,
)

__all__ = ["CHECKERS", "Checker", "Findings", "Valid", "Verdict", "Violation", "judge", "overall"]


def judge(evidence: Evidence) -> list[Verdict]:
    """Every checker's verdict, in the order of `CHECKERS`."""
    return [checker(evidence) for checker in CHECKERS]


def overall(verdicts: list[Verdict]) -> Valid:
    """False if any promise was broken, else ``"unknown"`` if any is in doubt, else True."""
    if any(verdict.valid is False for verdict in verdicts):
        return False
    return "unknown" if any(verdict.valid == "unknown" for verdict in verdicts) else True
