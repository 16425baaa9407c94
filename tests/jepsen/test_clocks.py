"""The shim that gives a program another wall clock, and leaves its monotonic one alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from jepsen_like.clocks import CannotBuild, Clocks, build

_TELL = """
import ctypes, datetime, json, time
seconds = ctypes.CDLL(None).time
seconds.restype = ctypes.c_long
class Pair(ctypes.Structure):
    _fields_ = [("seconds", ctypes.c_long), ("fraction", ctypes.c_long)]
day = Pair()
ctypes.CDLL(None).gettimeofday(ctypes.byref(day), None)
print(json.dumps({
    "clock_gettime": time.time(), "time": seconds(None), "gettimeofday": day.seconds,
    "datetime": datetime.datetime.now().timestamp(), "monotonic": time.monotonic(),
}))
"""


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shim; skips, naming the package, where it cannot be built."""
    try:
        return build(tmp_path_factory.mktemp("shims"))
    except CannotBuild as error:
        pytest.skip(str(error))


def _told(clocks: Clocks, home: Path) -> dict[str, float]:
    """What a program says that goes by the clock of a machine."""
    done = subprocess.run(
        [sys.executable, "-c", _TELL], env={**os.environ, **clocks.environment(home)},
        capture_output=True, text=True, check=True, timeout=20,
    )  # fmt: skip
    found: dict[str, float] = json.loads(done.stdout)
    return found


def _ahead(found: dict[str, float], name: str) -> float:
    return found[name] - time.time()


@pytest.mark.parametrize("offset_ms", [0, 300_000, -60_000])
def test_every_way_to_ask_for_the_wall_clock_is_shifted_and_the_monotonic_is_not(
    library: Path, tmp_path: Path, offset_ms: int
) -> None:
    clocks = Clocks(library)
    clocks.environment(tmp_path)
    clocks.set(tmp_path, offset_ms)
    found = _told(clocks, tmp_path)
    for name in ("clock_gettime", "time", "gettimeofday", "datetime"):
        assert abs(_ahead(found, name) - offset_ms / 1000) < 5, name
    assert abs(found["monotonic"] - time.monotonic()) < 5


def test_drift_grows_with_the_time_that_passes(library: Path, tmp_path: Path) -> None:
    clocks = Clocks(library)
    clocks.environment(tmp_path)
    clocks.set(tmp_path, 0, drift=1_000.0)
    began = time.monotonic()
    time.sleep(0.05)
    found = _told(clocks, tmp_path)
    assert 50 < _ahead(found, "clock_gettime") < 1_000 * (time.monotonic() - began) + 1


def test_change_is_seen_by_a_program_that_runs(library: Path, tmp_path: Path) -> None:
    clocks = Clocks(library)
    program = subprocess.Popen(
        [sys.executable, "-c", "import time\nwhile input(): print(time.time(), flush=True)"],
        env={**os.environ, **clocks.environment(tmp_path)},
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert program.stdin is not None
    assert program.stdout is not None
    try:
        for offset_ms in (0, 60_000, -60_000, 0):
            clocks.set(tmp_path, offset_ms)
            program.stdin.write("now\n")
            program.stdin.flush()
            ahead = float(program.stdout.readline()) - time.time()
            assert abs(ahead - offset_ms / 1000) < 5
    finally:
        program.kill()
        program.communicate()


def test_missing_compiler_is_named_with_its_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(CannotBuild, match="apt-get install gcc"):
        build(tmp_path / "shims")
