"""What a machine lacks, and what to install for it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from jepsen_like.cli import main

NETWORKS, DISKS, CLOCKS = (
    "networks (partition, link)",
    "disks (power, disk, torn)",
    "clocks (clock)",
)
ALL = ("processes (kill, crash, runner, pause, restart)", NETWORKS, DISKS, CLOCKS)


def doctor() -> tuple[int, dict[str, str]]:
    """Exit code, and what is said of each thing: empty if it is there."""
    done = CliRunner().invoke(main, ["doctor"])
    told: dict[str, str] = {}
    for line in done.stdout.splitlines():
        word, _, rest = line.partition(" ")
        what, _, why_not = rest.strip().partition(": ")
        assert (word == "MISSING") == bool(why_not), line
        assert word in ("ok", "MISSING"), line
        told[what] = why_not
    return done.exit_code, told


def programs(directory: Path, *names: str) -> None:
    """Programs of these names, none of which does anything but fail."""
    directory.mkdir()
    for name in names:
        (directory / name).write_text("#!/bin/sh\necho not allowed >&2\nexit 1\n")
        (directory / name).chmod(0o755)


@pytest.mark.parametrize(
    ("there", "lacks"),
    [
        (
            (),
            {
                NETWORKS: "unshare is missing: apt-get install util-linux",
                DISKS: "unshare is missing: apt-get install util-linux",
                CLOCKS: "gcc is missing: apt-get install gcc libc6-dev",
            },
        ),
        (
            ("unshare", "gcc"),
            {
                NETWORKS: "ip is missing: apt-get install iproute2",
                CLOCKS: "gcc cannot build the shim (apt-get install libc6-dev)",
            },
        ),
    ],
)
def test_what_is_not_there_is_named_with_its_package(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    there: tuple[str, ...],
    lacks: dict[str, str],
) -> None:
    programs(tmp_path / "bin", *there)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    code, told = doctor()
    assert (code, tuple(told)) == (1, ALL)
    assert told[ALL[0]] == "", "peers are killed without any program"
    for what, why_not in lacks.items():
        assert told[what].startswith(why_not), told


def test_what_is_there_and_does_not_work_is_named_with_what_it_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    programs(tmp_path / "bin", "unshare", "ip", "gcc")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    code, told = doctor()
    assert code == 1
    for what, device in ((NETWORKS, Path("/dev/net/tun")), (DISKS, Path("/dev/fuse"))):
        said = "not allowed" if device.exists() else f"{device} is missing: modprobe"
        assert said in told[what], told


def test_the_exit_code_says_whether_anything_is_missing_here() -> None:
    done = subprocess.run(
        [sys.executable, "jepsen-like", "doctor"],
        cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert len(done.stdout.splitlines()) == len(ALL), done.stderr
    assert done.returncode == int("MISSING" in done.stdout), done.stdout
