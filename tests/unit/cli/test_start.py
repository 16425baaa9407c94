"""What starting costs, and what commands that need no cluster do."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner

from raftsched.cli import serve, witness
from raftsched.cli.exits import Exit, Failure
from raftsched.cli.local import PEER_LOCK, LocalCluster
from raftsched.cli.main import COMMANDS, cli
from raftsched.peer.config import PeerAddress, PeerConfig, load_config
from raftsched.peer.errors import UpgradeNeeded
from tests.ports import base_port, free_port

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


def test_serve_of_a_program_that_is_too_old_is_exit_11_with_a_line(
    alone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(config: PeerConfig) -> int:
        raise UpgradeNeeded("upgrade this peer: the cluster runs version 9, this one 3")

    monkeypatch.setattr("raftsched.embed.serve", refuse)
    monkeypatch.setattr("gc.set_threshold", lambda *thresholds: None)
    monkeypatch.setattr("logging.basicConfig", lambda **options: None)
    peers = {"n1": PeerAddress("127.0.0.1:7001", "127.0.0.1:7002")}
    config = PeerConfig(cluster_id="c", peer_id="n1", peers=peers, data_dir=alone)
    with pytest.raises(Failure, match="peer n1 cannot run: upgrade this peer: ") as caught:
        serve._run(config, "critical")
    assert caught.value.code is Exit.UPGRADE_NEEDED


def test_serve_without_configuration_is_exit_10(alone: Path) -> None:
    result = CliRunner().invoke(cli, ["serve", "--id", "n1", "--data-dir", str(alone / "d")])
    assert result.exit_code == Exit.CHECK_FAILED
    assert "no such file" in result.stderr


def test_dev_with_a_taken_port_is_one_line_and_exit_10(alone: Path) -> None:
    with socket.socket() as taken:
        port = free_port()
        taken.bind(("127.0.0.1", port))
        taken.listen()
        result = CliRunner().invoke(cli, ["dev", "--peers", "1", "--base-port", str(port)])
    assert result.exit_code == Exit.CHECK_FAILED
    assert result.stderr.count("\n") == 1
    assert f"port {port}" in result.stderr
    assert not (alone / "raftsched-data").exists()


def test_prepared_directory_is_private_and_loads(alone: Path) -> None:
    cluster = LocalCluster(alone / "d", peers=3, base_port=base_port(), lease_seconds=5)
    cluster.prepare()
    assert cluster.token_path.stat().st_mode & 0o777 == 0o600
    configs = [load_config(cluster.config_path, i, alone / i) for i in cluster.peers]
    assert len({config.token for config in configs}) == 1
    assert configs[0].lease_seconds == 5
    token = cluster.token_path.read_text()
    cluster.stop()
    LocalCluster(alone / "d", peers=3, base_port=base_port()).prepare()
    assert cluster.token_path.read_text() == token


def test_directory_of_another_size_is_refused(alone: Path) -> None:
    first = LocalCluster(alone / "d", peers=3, base_port=base_port())
    first.prepare()
    first.stop()
    other = LocalCluster(alone / "d", peers=5, base_port=base_port(5))
    with pytest.raises(Failure, match="holds a cluster of 3 peers"):
        other.prepare()


def test_directory_in_use_is_refused_and_nothing_is_touched(alone: Path) -> None:
    first = LocalCluster(alone / "raftsched-data", peers=3, base_port=base_port())
    first.prepare()
    node = alone / "raftsched-data" / "n1" / "node"
    node.mkdir(parents=True)
    with pretended_runner(node) as runner:
        before = contents(alone)
        result = CliRunner().invoke(cli, ["dev", "--base-port", str(base_port())])
        assert result.exit_code == Exit.CHECK_FAILED
        assert result.stderr.count("\n") == 1
        assert f"in use by another 'raftsched dev' (process {os.getpid()})" in result.stderr
        assert contents(alone) == before
        # Not even an owner of the directory ends the runner of a peer it never started.
        first.stop()
        assert runner.poll() is None


def test_runner_is_ended_unless_another_peer_uses_the_data(alone: Path) -> None:
    cluster = LocalCluster(alone / "d", peers=1, base_port=base_port())
    peer = cluster.peers["n1"]
    lock = peer.data_dir / PEER_LOCK
    lock.parent.mkdir(parents=True)
    (peer.data_dir / "node").mkdir()
    with pretended_runner(peer.data_dir / "node") as runner:
        peer.process = subprocess.Popen([sys.executable, "-c", ""])
        peer.process.wait()
        with lock.open("w") as held:
            fcntl.flock(held, fcntl.LOCK_EX)
            cluster.stop()
            assert runner.poll() is None
        cluster.stop()
        assert runner.wait(5) == -signal.SIGTERM


@contextmanager
def pretended_runner(directory: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process that looks like a node's runner."""
    words = [sys.executable, "-c", "input()", "raftsched.executor.keeper", str(directory)]
    with subprocess.Popen(words, stdin=subprocess.PIPE) as process:
        (directory / "runner.pid").write_text(str(process.pid))
        try:
            yield process
        finally:
            process.kill()


def contents(directory: Path) -> dict[Path, bytes]:
    return {p: p.read_bytes() for p in directory.rglob("*") if p.is_file()}


def test_ready_is_asked_of_the_named_peers_only(
    alone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = LocalCluster(alone / "d", peers=3, base_port=7400)
    for peer_id in ("n1", "n2"):
        cluster.peers[peer_id].process = subprocess.Popen(
            [sys.executable, "-c", "input()"], stdin=subprocess.PIPE
        )
    gone = cluster.peers["n1"].process
    back = cluster.peers["n2"].process
    assert gone is not None
    assert back is not None
    gone.communicate(b"\n")
    monkeypatch.setattr(cluster, "_is_ready", lambda peer: peer.id == "n2")
    cluster.wait_ready(only=["n2"], seconds=1)
    with pytest.raises(Failure, match="n1 ended"):
        cluster.wait_ready(seconds=1)
    back.communicate(b"\n")


@pytest.mark.parametrize("arguments", [[], ["node"]], ids=["alone", "group"])
def test_bare_group_prints_its_help_as_it_is(arguments: list[str]) -> None:
    result = CliRunner().invoke(cli, arguments)
    helped = CliRunner().invoke(cli, [*arguments, "--help"])
    assert (result.stdout or result.stderr) == helped.stdout
    assert not result.output.startswith("raftsched:")


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["--config", "c.toml", "--id", "n1"], 0),
        (["--config", "c.toml"], 0),
        (["c.toml", "--id", "n3"], 0),
        (["--config", "c.toml", "--id", "n9"], Exit.CHECK_FAILED),
        (["c.toml", "--config", "c.toml"], Exit.USAGE),
    ],
    ids=str,
)
def test_check_config_takes_what_serve_takes(alone: Path, arguments: list[str], code: int) -> None:
    (alone / "c.toml").write_bytes((ROOT / "cluster.toml.example").read_bytes())
    result = CliRunner().invoke(cli, ["check-config", *arguments])
    assert result.exit_code == code, result.output


@pytest.mark.parametrize("key", ["raft", "api"])
def test_taken_port_is_one_line_with_its_key(alone: Path, key: str) -> None:
    with socket.socket() as taken:
        port = free_port()
        taken.bind(("127.0.0.1", port))
        taken.listen()
        other = "api" if key == "raft" else "raft"
        (alone / "cluster.toml").write_text(
            f'[cluster]\nid = "c"\n[peers.n1]\n{key} = "127.0.0.1:{port}"\n'
            f'{other} = "127.0.0.1:{free_port()}"\n'
        )
        config = load_config(alone / "cluster.toml", "n1", alone)
        error = OSError(errno.EADDRINUSE, "error while attempting to bind")
        line = serve._refused_address(config, ExceptionGroup("", [error]))
    assert line.startswith(f"peers.n1.{key} is 127.0.0.1:{port}: Address already")
    assert "configure another address" in line
    assert serve._refused_address(config, OSError(errno.EIO, "disk")) == ""


@pytest.mark.parametrize("key", ["raft", "api"])
def test_own_host_that_is_unknown_is_one_line_with_its_key(
    alone: Path, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = PeerAddress("127.0.0.1:1", "127.0.0.1:2")
    address = msgspec.structs.replace(address, **{key: "nowhere.example:7401"})
    config = PeerConfig(cluster_id="c", peer_id="n1", peers={"n1": address}, data_dir=alone)
    refusal = socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    def create_server(target: tuple[str, int], **_: object) -> socket.socket:
        if target[0] == "nowhere.example":
            raise refusal
        return socket.socket()

    monkeypatch.setattr(socket, "create_server", create_server)
    line = serve._refused_address(config, ExceptionGroup("", [refusal]))
    assert line == (
        f"peers.n1.{key} is nowhere.example:7401: nowhere.example: Name or service not known; "
        "correct the host, or have it resolved here"
    )


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
