"""What a checker says: whether a promise was held, by how much evidence, and what broke it.

``valid`` is ``False`` when something broke the promise, ``"unknown"`` when the evidence does not
tell (which fails a run as well), ``True`` otherwise.  A checker that had nothing to look at is
*vacuous*; where the workload should have given it something, that is a doubt, so not a pass.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Literal

import msgspec

from jepsen_like.evidence import Evidence
from jepsen_like.history import Record

#: Violations a verdict lists; ``checked["violations"]`` counts all of them.
VIOLATIONS_MAX = 50
DOUBTS_MAX = 20
#: Records a violation carries; of more it carries the last.
SUB_HISTORY_MAX = 40

Valid = bool | Literal["unknown"]


class Violation(msgspec.Struct, frozen=True):
    """One way in which a promise was broken, with the records that show it."""

    says: str
    #: Instants, ns; the last one is when it was broken for sure.
    at: list[int] = []
    #: Tasks, schedules, peers or limits it is about.
    ids: list[str] = []
    #: The smallest part of the evidence that cannot be, in order of time.
    history: list[dict[str, Any]] = []
    #: Records before these that are not listed.
    left_out: int = 0


class Verdict(msgspec.Struct, frozen=True):
    """A checker's answer."""

    checker: str
    #: Of ``docs/consistency.md``: ``G1`` to ``G10``; empty: about the run itself.
    promise: str
    valid: Valid
    #: What was looked at, by kind.
    checked: dict[str, int] = {}
    violations: list[Violation] = []
    #: Why the evidence does not tell.
    doubts: list[str] = []
    measures: dict[str, Any] = {}
    #: It had nothing to look at.
    vacuous: bool = False


class Findings:
    """A verdict in the making.  Keeps the first violations and counts all."""

    def __init__(self) -> None:
        self.checked: dict[str, int] = {}
        self.violations: list[Violation] = []
        self.doubts: list[str] = []
        self.measures: dict[str, Any] = {}

    def saw(self, kind: str, count: int = 1) -> None:
        """Count something that was looked at."""
        self.checked[kind] = self.checked.get(kind, 0) + count

    def broken(
        self,
        says: str,
        at: Iterable[int] = (),
        ids: Iterable[str] = (),
        history: Iterable[Record] = (),
    ) -> None:
        """The promise does not hold, and this shows it."""
        self.saw("violations")
        if len(self.violations) < VIOLATIONS_MAX:
            records = list(history)
            shown = [_shown(record) for record in records[-SUB_HISTORY_MAX:]]
            self.violations.append(
                Violation(says, list(at), list(ids), shown, len(records) - len(shown))
            )

    def doubt(self, says: str) -> None:
        """The evidence does not tell whether it holds."""
        self.saw("doubts")
        if len(self.doubts) < DOUBTS_MAX:
            self.doubts.append(says)


def _shown(record: Record) -> dict[str, Any]:
    """A record with the name of its kind, so that records of several logs can stand together."""
    shown: dict[str, Any] = {"record": type(record).__name__.lower()}
    shown.update(msgspec.to_builtins(record))
    return shown


#: Does a run of this kind have to give the checker something?
Uses = Callable[[Evidence], bool]


def always(evidence: Evidence) -> bool:
    """Every run does."""
    return True


def workloads(*names: str) -> Uses:
    """Runs of these workloads do."""

    def uses(evidence: Evidence) -> bool:
        return evidence.run.workload in names

    return uses


class Checker(msgspec.Struct, frozen=True):
    """A named judge: a pure function from evidence to verdict."""

    name: str
    promise: str
    #: The kind of thing it has to have seen to say anything.
    needs: str
    uses: Uses
    look: Callable[[Evidence, Findings], None]
    #: The question it answers, for reports.
    asks: str

    def __call__(self, evidence: Evidence) -> Verdict:
        findings = Findings()
        findings.checked[self.needs] = 0
        self.look(evidence, findings)
        is_vacuous = findings.checked[self.needs] == 0 and not findings.violations
        if is_vacuous and self.uses(evidence):
            findings.doubt(f"saw no {self.needs.replace('_', ' ')}, so it says nothing")
        return Verdict(
            checker=self.name,
            promise=self.promise,
            valid=_valid(findings),
            checked=findings.checked,
            violations=findings.violations,
            doubts=findings.doubts,
            measures=findings.measures,
            vacuous=is_vacuous,
        )


def _valid(findings: Findings) -> Valid:
    if findings.violations:
        return False
    return "unknown" if findings.doubts else True
