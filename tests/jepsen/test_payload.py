"""What tasks of the harness write down of themselves."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import msgspec

import jepsen_like.payload
from jepsen_like.history import Effect

PAYLOAD = Path(jepsen_like.payload.__file__)
#: Its ticks are so long, and its answer is rounded up.
TICK_NS = 10_000_000


def test_start_says_when_the_process_was_made(tmp_path: Path) -> None:
    path = tmp_path / "effects.jsonl"
    names = {
        "RAFTSCHED_TASK_ID": "t",
        "RAFTSCHED_ATTEMPT": "2",
        "RAFTSCHED_FENCING_TOKEN": "7",
    }
    before = time.monotonic_ns()
    words = [sys.executable, "-I", "-S", str(PAYLOAD), str(path), "--runs-ms", "120"]
    subprocess.run(words, env=names, check=True, timeout=20)
    first, *beats, last = [
        msgspec.json.decode(line, type=Effect) for line in path.read_bytes().splitlines()
    ]
    assert first.event == "start" and first.born is not None
    assert before <= first.born <= first.at + TICK_NS
    assert all(beat.born is None and beat.event == "beat" for beat in beats) and beats
    assert (last.event, last.exit) == ("end", 0)
