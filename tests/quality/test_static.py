"""Lint, format and types are part of the gate."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.timeout(180)
@pytest.mark.parametrize(
    "command",
    [
        ["ruff", "check", "raftsched", "tests", "jepsen-like"],
        ["ruff", "format", "--check", "raftsched", "tests", "jepsen-like"],
        ["mypy"],
    ],
    ids=["lint", "format", "types"],
)
def test_tool_is_content(command: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", *command], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
