"""The harness with real peers: a run that is broken and judged, and one that must not pass."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from jepsen_like.nemesis import faults_of
from jepsen_like.suite import PLANTED as HUNTED
from jepsen_like.suite import SUITES
from tests.planted import PLANTED

pytestmark = pytest.mark.timeout(180)
ROOT = Path(__file__).parents[2]


def harness(*words: str) -> subprocess.CompletedProcess[str]:
    """``python jepsen-like ...``"""
    return subprocess.run(
        [sys.executable, "jepsen-like", *words],
        cwd=ROOT, capture_output=True, text=True, timeout=170, check=False,
    )  # fmt: skip


def test_peers_that_are_broken_keep_their_promises(tmp_path: Path) -> None:
    done = harness("suite", "smoke", "--report", str(tmp_path / "runs"))
    logs = "\n".join(log.read_text()[-3000:] for log in (tmp_path / "runs").glob("*.log"))
    assert done.returncode == 0, f"{done.stdout}{done.stderr}\n{logs}"
    run = tmp_path / "runs" / "000"
    results = json.loads((run / "results.json").read_text())
    assert results["valid"] is True
    assert sum(results["faults"].values()) >= 3
    assert (run / "report.html").stat().st_size > 10_000
    (run / "results.json").unlink()
    again = harness("recheck", str(run))
    assert again.returncode == 0, again.stdout + again.stderr
    assert json.loads((run / "results.json").read_text()) == results, "judged again it is the same"


def test_a_bug_is_caught(tmp_path: Path) -> None:
    done = harness("mutants", "let-everybody-through", "--report", str(tmp_path / "runs"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 of 1 caught" in done.stdout


def test_what_the_suites_name_is_there() -> None:
    for plan in [plan for suite in SUITES.values() for plan in suite]:
        faults_of(plan.nemesis)
    for hunted in HUNTED:
        faults_of(hunted.plan.nemesis)
    assert {hunted.name for hunted in HUNTED} <= set(PLANTED)
    assert len(HUNTED) >= 15


@pytest.mark.parametrize("name", sorted(PLANTED))
def test_a_planted_bug_still_applies(name: str) -> None:
    """What it replaces is still there."""
    with PLANTED[name]():
        pass


def test_rubbish_is_refused_with_what_there_is(tmp_path: Path) -> None:
    for words, says in (
        (["--nemesis", "earthquake"], "'earthquake' is none; classes are kill"),
        (["--workload", "none"], "'none' is not one of"),
        (["mutants", "nothing"], "no planted bug nothing"),
        (["recheck", str(tmp_path)], "is this the directory of a run?"),
    ):
        done = harness(*words)
        assert done.returncode == 2, (words, done)
        assert says in done.stderr, (words, done.stderr)
