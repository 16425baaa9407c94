"""A peer that must stop ends its process with one line and a code of its own."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import logging
from raftsched.raft.journal import JournalFailed
from raftsched.raft.log import SafetyViolation
from raftsched.raft.pysyncobj_log import _end_process
logging.basicConfig(format="%(message)s")
_end_process({})
"""


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        ("SafetyViolation('entry 3 conflicts')", 15, "entry 3 conflicts; do not start this peer"),
        ("JournalFailed('it cannot be written')", 70, "it cannot be written; this peer stops"),
    ],
)
@pytest.mark.parametrize("options", [[], ["-O"]], ids=["", "optimized"])
def test_one_line_and_a_code(options: list[str], error: str, code: int, line: str) -> None:
    words = [sys.executable, *options, "-c", PROGRAM.format(error)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == code
    assert done.stderr.count("\n") == 1 and done.stderr.startswith(line)
