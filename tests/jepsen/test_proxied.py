"""Real peers behind the proxies, as where no network namespace can be had: one leader cut off."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.jepsen.test_smoke import harness

pytestmark = pytest.mark.timeout(120)


def test_a_leader_is_cut_off_by_the_proxies_and_what_they_cannot_do_is_said(tmp_path: Path) -> None:
    # With this seed the cut outlasts an election by far.
    done = harness(
        "--backend", "proxy", "--workload", "register", "--nemesis", "partition-leader,loss",
        "--single", "--seed", "3", "--lease", "2", "--time-limit", "4",
        "--report", str(tmp_path / "r"),
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    results = json.loads((tmp_path / "r" / "results.json").read_text())
    assert (results["valid"], results["run"]["backend"]) == (True, "proxy")
    assert results["faults"]["partition-leader"] >= 1, "a probe saw it"
    assert results["leader_changes"] >= 1
    assert results["faults_skipped"] == {"loss": "backend proxy cannot break loss"}
