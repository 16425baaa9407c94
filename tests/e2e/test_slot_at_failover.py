"""The leader is killed half a second before a slot: the measure that anyone can run, in small."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from raftsched.cli.bench.command import bench
from tests.ports import base_port

pytestmark = pytest.mark.timeout(120)

KILLS = 3
#: The bar is 3 s; a busy machine takes longer to elect and to start.
LAG_MS_MAX = 9_000


def test_slots_behind_killed_leaders_start_once_and_in_time() -> None:
    arguments = ["schedules", "--only", "failover", "--kills", str(KILLS)]
    result = CliRunner().invoke(bench, [*arguments, "--base-port", str(base_port())])
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)["failover"]
    assert found["is_exact"], found
    # At least the slot behind each kill, of each of its schedules.
    assert found["started"] >= KILLS * found["schedules"]
    assert found["lag_behind_a_kill_ms"]["samples"] == KILLS
    assert found["lag_behind_a_kill_ms"]["longest"] < LAG_MS_MAX
