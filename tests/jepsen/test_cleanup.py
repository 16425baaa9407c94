"""Nothing stays behind: not after Ctrl-C, not after SIGKILL while a machine stands still."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from jepsen_like.disk import mounting
from jepsen_like.net import netns

pytestmark = pytest.mark.timeout(120)
ROOT = Path(__file__).parents[2]
MARK = "JEPSEN_LIKE_TRIAL"


@contextlib.contextmanager
def harness(directory: Path, *words: str) -> Iterator[subprocess.Popen[bytes]]:
    """A run that breaks a cluster once it is ready, until the end of the block at most."""
    with directory.with_suffix(".log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "jepsen-like", "--workload", "tasks", "--seed", "1", "--single",
             "--time-limit", "60", "--report", str(directory), *words],
            cwd=ROOT, stdout=log, stderr=log, env={**os.environ, MARK: str(directory)},
        )  # fmt: skip
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def until(holds: Callable[[], bool], seconds: float, what: Callable[[], object]) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, what()
        time.sleep(0.05)


def left(directory: Path) -> list[str]:
    """Processes that were started by that run, or name its directory."""
    found = []
    for path in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if path.name.isdecimal():
                words, mark = (path / "cmdline").read_bytes(), f"{MARK}={directory}".encode()
                if bytes(directory) in words or mark in (path / "environ").read_bytes():
                    found.append(words.replace(b"\0", b" ").decode(errors="replace"))
    return found


def said(directory: Path) -> str:
    return directory.with_suffix(".log").read_text(errors="replace")


def test_nothing_is_left_of_a_harness_that_is_killed_while_a_machine_stands_still(
    tmp_path: Path,
) -> None:
    directory = tmp_path / "run"
    disks = [] if mounting.why_not() else ["--disks"]
    with harness(directory, "--nemesis", "pause-machine", *disks) as process:
        until(lambda: "pause-machine:" in said(directory), 60, lambda: said(directory))
        assert len(left(directory)) > 6
        process.kill()
        process.wait()
        until(lambda: not left(directory), 30, lambda: left(directory))
    assert str(directory) not in Path("/proc/mounts").read_text()
    # What a killed program cannot remove, the next start does.
    netns.sweep()
    temporary = Path(tempfile.gettempdir())
    assert list(temporary.glob(f"jepsen-like-net-{process.pid}-*")) == []


def test_a_run_that_is_interrupted_ends_everything_and_says_so(tmp_path: Path) -> None:
    directory = tmp_path / "run"
    with harness(directory, "--nemesis", "kill-one", "--backend", "plain") as process:
        until(lambda: "kill-one:" in said(directory), 60, lambda: said(directory))
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130, said(directory)
        assert left(directory) == []
    assert json.loads((directory / "run.json").read_text())["trouble"] == "interrupted"
    words = [sys.executable, "jepsen-like", "recheck", str(directory)]
    again = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (again.returncode, "did not come to its end: interrupted" in again.stdout) == (1, True)
