"""A cluster that the harness did not start: judged, left running, refused unless it is empty."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.cluster import Cluster

pytestmark = pytest.mark.timeout(120)
ROOT = Path(__file__).parents[2]


def attach(cluster: Cluster, report: Path, *words: str) -> subprocess.CompletedProcess[str]:
    peers = [f"{peer}=127.0.0.1:{port}" for peer, port in cluster.api.items()]
    return subprocess.run(
        [sys.executable, "jepsen-like", "attach", *peers, "--token-file",
         str(cluster.directory / "token"), "--report", str(report), *words],
        cwd=ROOT, capture_output=True, text=True, timeout=110, check=False,
    )  # fmt: skip


def test_a_cluster_of_somebody_else_is_judged_once_and_goes_on(tmp_path: Path) -> None:
    (tmp_path / "c").mkdir()
    with Cluster(tmp_path / "c") as cluster:
        done = attach(cluster, tmp_path / "r", "--workload", "register", "--seconds", "2")
        assert done.returncode == 0, done.stdout + done.stderr
        results = json.loads((tmp_path / "r" / "results.json").read_text())
        assert (results["valid"], results["run"]["backend"]) == (True, "attached")
        assert results["operations"]["read"]["ok"] > 0
        again = attach(cluster, tmp_path / "again")
        assert again.returncode == 1
        assert "the cluster holds something in /v1/tasks: take an empty one" in again.stderr
        assert cluster.request(cluster.ids[0], "GET", "/health/ready").status == 200
