"""The leader is killed under twenty attempts, half of them elsewhere, as ``bench killed`` does."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from raftsched.cli.bench.command import bench
from tests.ports import base_port

pytestmark = pytest.mark.timeout(90)

ATTEMPTS = 20
LEASE_SECONDS = 3.0
#: The bar is the lease and three seconds; a busy machine takes longer to act on it.
BUSY_SECONDS = 6.0


def test_a_killed_leaders_attempts_run_again_and_all_others_run_on() -> None:
    arguments = ["killed", "--attempts", str(ATTEMPTS), "--lease-seconds", str(LEASE_SECONDS)]
    port = str(base_port())
    result = CliRunner().invoke(bench, [*arguments, "--base-port", port])
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)["killed"]
    assert (found["attempts"], found["on_the_dead_node"]) == (ATTEMPTS, ATTEMPTS // 2)
    assert (found["overlaps"], found["lost"], found["others_started_again"]) == (0, 0, 0)
    again = found["run_again_seconds"]
    assert again["samples"] == ATTEMPTS // 2
    assert again["longest"] < LEASE_SECONDS + 3.0 + BUSY_SECONDS
    # None of them began while the lease of the attempt before it could be in effect.
    assert again["longest"] > LEASE_SECONDS - 1.0
