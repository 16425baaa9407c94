"""The judge of what no fault allows."""

from __future__ import annotations

from jepsen_like.checker.damage import CHECKER
from jepsen_like.evidence import Evidence
from jepsen_like.history import FaultEvent
from tests.jepsen.builders import run


def _judged(*events: FaultEvent) -> tuple[object, list[str]]:
    verdict = CHECKER(Evidence(run=run("tasks"), faults=events))
    return verdict.valid, [violation.says for violation in verdict.violations]


def test_a_peer_that_refused_damaged_files_broke_nothing() -> None:
    assert _judged(FaultEvent("bitflip-journal", "begin", 5, ["n1"], True)) == (True, [])


def test_a_peer_that_serves_with_damaged_files_is_a_violation() -> None:
    event = FaultEvent("bitflip-journal", "begin", 5, ["n1"], False, broken="n1 serves")
    assert _judged(event) == (False, ["bitflip-journal: n1 serves"])


def test_a_run_without_faults_has_nothing_to_be_judged() -> None:
    assert _judged() == (True, [])
