"""All checkers together: a good run passes, and an empty one passes nothing."""

from __future__ import annotations

from jepsen_like.checker import CHECKERS, judge, overall
from jepsen_like.evidence import Evidence
from tests.jepsen.builders import good, run


def test_a_good_run_passes_with_everything_looked_at() -> None:
    verdicts = judge(good())
    assert overall(verdicts) is True, [
        (v.checker, v.doubts, v.violations) for v in verdicts if v.valid is not True
    ]
    unused = {v.checker for v in verdicts if v.vacuous}
    assert unused == {"slots", "dependencies", "joins", "limits", "cordons"}


def test_a_run_without_evidence_is_unknown_and_never_a_pass() -> None:
    for workload in ("tasks", "register", "schedules", "workflow", "limits", "fencing", "mixed"):
        verdicts = judge(Evidence(run=run(workload)))
        assert overall(verdicts) == "unknown"
        assert all(
            v.vacuous and v.valid == "unknown" for v in verdicts if v.checker == "durability"
        )


def test_checkers_have_names_of_their_own() -> None:
    assert len({checker.name for checker in CHECKERS}) == len(CHECKERS)
