"""What starting costs, and what commands that need no cluster do."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from raftsched.cli import witness
from raftsched.cli.exits import Exit, Failure
from raftsched.cli.local import LocalCluster, _check_port
from raftsched.cli.main import COMMANDS, cli

ROOT = Path(__file__).parents[3]
HEAVY = {"aiohttp", "pysyncobj", "asyncio", "msgspec", "orjson", "raftsched.client.sync"}


def imported_by(*arguments: str) -> tuple[set[str], int]:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "raftsched.cli.main", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "RAFTSCHED_ADDR": "127.0.0.1:1"},
    )
    lines = [line for line in done.stderr.splitlines() if line.startswith("import time:")]
    return {line.rpartition("|")[2].strip() for line in lines}, done.returncode


def test_help_imports_nothing_heavy() -> None:
    modules, code = imported_by("ls", "--help")
    assert code == 0
    assert not modules & HEAVY


def test_ls_imports_no_server_and_no_event_loop() -> None:
    modules, code = imported_by("ls")
    assert code == Exit.NO_LEADER
    assert not modules & (HEAVY - {"raftsched.client.sync"})
    assert not {m for m in modules if m.startswith(("raftsched.core", "raftsched.peer"))}


@pytest.mark.parametrize("name", list(COMMANDS))
def test_every_command_of_the_table_has_help(name: str) -> None:
    result = CliRunner().invoke(cli, [name, "--help"])
    assert result.exit_code == 0, result.output
    assert "Usage:" in result.stdout


def test_version() -> None:
    assert CliRunner().invoke(cli, ["version"]).stdout.startswith("raftsched ")


def test_check_config_accepts_the_example_and_writes_nothing(alone: Path) -> None:
    example = ROOT / "cluster.toml.example"
    result = CliRunner().invoke(cli, ["check-config", str(example)])
    assert result.exit_code == 0, result.output
    assert "3 peers (n1, n2, n3), goes on without any 1 of them" in result.stdout
    assert list(alone.iterdir()) == []


@pytest.mark.parametrize("text", ["", "nonsense", '[cluster]\nid = "x"\n[peers.n1]\nraft = "a"'])
def test_check_config_refuses_with_one_line_and_exit_10(alone: Path, text: str) -> None:
    (alone / "cluster.toml").write_text(text)
    result = CliRunner().invoke(cli, ["check-config"])
    assert result.exit_code == Exit.CHECK_FAILED
    assert result.stderr.count("\n") == 1


def test_serve_without_configuration_is_exit_10(alone: Path) -> None:
    result = CliRunner().invoke(cli, ["serve", "--id", "n1", "--data-dir", str(alone / "d")])
    assert result.exit_code == Exit.CHECK_FAILED
    assert "no such file" in result.stderr


def test_dev_with_a_taken_port_is_one_line_and_exit_10(alone: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        if port > 65_400:
            pytest.skip("the port is beyond what --base-port takes")
        result = CliRunner().invoke(cli, ["dev", "--peers", "1", "--base-port", str(port)])
    assert result.exit_code == Exit.CHECK_FAILED
    assert result.stderr.count("\n") == 1
    assert f"port {port}" in result.stderr
    assert not (alone / "raftsched-data").exists()


def free_base_port() -> int:
    """A base below the ephemeral range whose ports are all free just now."""
    for base in range(20_000 + os.getpid() % 100 * 100, 32_000, 100):
        cluster = LocalCluster(Path("never-made"), peers=5, base_port=base)
        try:
            for peer in cluster.peers.values():
                _check_port(peer.api)
                _check_port(peer.raft)
        except Failure:
            continue
        return base
    pytest.skip("no free ports")


def test_prepared_directory_is_private_and_loads(alone: Path) -> None:
    from raftsched.peer.config import load_config

    cluster = LocalCluster(alone / "d", peers=3, base_port=free_base_port(), lease_seconds=5)
    cluster.prepare()
    assert cluster.token_path.stat().st_mode & 0o777 == 0o600
    configs = [load_config(cluster.config_path, i, alone / i) for i in cluster.peers]
    assert len({config.token for config in configs}) == 1
    assert configs[0].lease_seconds == 5
    token = cluster.token_path.read_text()
    LocalCluster(alone / "d", peers=3, base_port=free_base_port()).prepare()
    assert cluster.token_path.read_text() == token


def test_directory_of_another_size_is_refused(alone: Path) -> None:
    LocalCluster(alone / "d", peers=3, base_port=free_base_port()).prepare()
    other = LocalCluster(alone / "d", peers=5, base_port=free_base_port())
    with pytest.raises(Failure, match="holds a cluster of 3 peers"):
        other.prepare()


@pytest.mark.parametrize(
    ("attempts", "expected"),
    [
        ([], False),
        ([{"number": 1, "started_at": "1", "finished_at": "2", "status": "lost"}], False),
        (
            [
                {"number": 1, "started_at": "1", "finished_at": "3", "status": "lost"},
                {"number": 2, "started_at": "3", "finished_at": None, "status": "running"},
            ],
            False,
        ),
        (
            [
                {"number": 1, "started_at": "1", "finished_at": "3", "status": "lost"},
                {"number": 2, "started_at": "2", "finished_at": "4", "status": "succeeded"},
            ],
            True,
        ),
        (
            [
                {"number": 1, "started_at": "1", "finished_at": "2", "status": "succeeded"},
                {"number": 2, "started_at": "3", "finished_at": "4", "status": "succeeded"},
            ],
            True,
        ),
    ],
)
def test_overlap_of_attempts_is_seen(attempts: list[dict[str, object]], expected: bool) -> None:
    assert witness.overlaps(attempts) is expected
