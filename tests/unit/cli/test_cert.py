"""``raftsched cert`` and ``raftsched init``: what they write can be used, and nothing is lost."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from raftsched.cli import cert as cert_module
from raftsched.cli.exits import Exit
from raftsched.cli.main import cli
from raftsched.peer.config import load_config


def run(*arguments: Any) -> Result:
    return CliRunner().invoke(cli, [str(a) for a in arguments])


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def contents(directory: Path) -> dict[Path, bytes]:
    return {p: p.read_bytes() for p in directory.rglob("*") if p.is_file()}


def test_authority_and_peer_as_info_shows_them(alone: Path) -> None:
    assert run("cert", "ca", "--cluster", "prod", "--out", "ca").exit_code == 0
    made = run(
        *("cert", "create", "--ca", "ca", "--peer", "n1", "--host", "h1", "--host", "10.0.0.1"),
        *("--days", 20, "--out", "n1"),
    )
    assert made.exit_code == 0, made.output
    assert [mode(alone / p) for p in ("ca/ca.key", "n1/peer.key")] == [0o600, 0o600]
    assert (alone / "n1/ca.crt").read_bytes() == (alone / "ca/ca.crt").read_bytes()
    shown = run("cert", "info", "n1/peer.crt")
    assert shown.exit_code == 0
    rows = dict(line.split(None, 1) for line in shown.output.splitlines() if "valid" not in line)
    assert (rows["cluster"], rows["peer"], rows["hosts"]) == ("prod", "n1", "h1, 10.0.0.1")
    assert len(rows["sha256"].replace(":", "")) == 64
    assert "(19 days left)" in shown.output
    assert "(authority)" in run("cert", "info", "ca/ca.crt").output


def test_expired_certificate_has_an_exit_code(monkeypatch: pytest.MonkeyPatch) -> None:
    run("cert", "ca", "--cluster", "c", "--days", 2, "--out", "ca")
    run("cert", "create", "--ca", "ca", "--peer", "n1", "--out", "n1")
    later = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=3)
    monkeypatch.setattr(cert_module, "_now", lambda: later)
    shown = run("cert", "info", "n1/peer.crt")  # Ends with its authority, not after a year.
    assert shown.exit_code == Exit.CHECK_FAILED
    assert "EXPIRED" in shown.output


@pytest.mark.parametrize(
    "again",
    [
        ("cert", "ca", "--cluster", "c", "--out", "ca"),
        ("cert", "create", "--ca", "ca", "--peer", "n1", "--out", "n1"),
        ("init", "--peers", "h1,h2,h3"),
    ],
)
def test_nothing_is_overwritten(alone: Path, again: tuple[str, ...]) -> None:
    run("cert", "ca", "--cluster", "c", "--out", "ca")
    run("cert", "create", "--ca", "ca", "--peer", "n1", "--out", "n1")
    before = contents(alone)
    result = run(*again)
    assert result.exit_code == Exit.CONFLICT
    assert "exists; nothing is overwritten" in result.stderr
    assert contents(alone) == before


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("cert", "ca", "--cluster", "x" * 65, "--out", "o"), Exit.USAGE, "cluster.id"),
        (
            ("cert", "create", "--ca", "ca", "--peer", "n 1", "--out", "o"),
            Exit.USAGE,
            "an id has",
        ),
        (
            ("cert", "create", "--ca", "ca", "--peer", "n1", "--host", "é", "--out", "o"),
            Exit.CHECK_FAILED,
            "no host name",
        ),
        (("cert", "create", "--ca", "no", "--peer", "n1", "--out", "o"), Exit.ERROR, "No such"),
        (
            ("cert", "create", "--ca", "swapped", "--peer", "n1", "--out", "o"),
            Exit.CHECK_FAILED,
            "not that of the authority's",
        ),
        (("cert", "info", "ca/ca.key"), Exit.CHECK_FAILED, "not a certificate"),
        (("init", "--peers", ""), Exit.USAGE, "names none"),
        (("init", "--peers", "h1:x"), Exit.USAGE, "neither HOST nor"),
        (("init", "--peers", "h1:99999"), Exit.USAGE, "host:port"),
        (("init", "--peers", "h1,h1:7401"), Exit.USAGE, "has already"),
        (("init", "--peers", "h1,é", "--out", "o"), Exit.USAGE, "no host name"),
        (("init", "--peers", "h", "--cluster", ""), Exit.USAGE, "cluster.id"),
    ],
)
def test_mistake_is_one_line_and_nothing_is_written(
    alone: Path, arguments: tuple[str, ...], code: int, says: str
) -> None:
    run("cert", "ca", "--cluster", "c", "--out", "ca")
    run("cert", "ca", "--cluster", "c", "--out", "swapped")
    (alone / "swapped/ca.key").write_bytes((alone / "ca/ca.key").read_bytes())
    before = contents(alone)
    result = run(*arguments)
    assert (result.exit_code, result.stderr.count("\n")) == (code, 1), result.output
    assert says in result.stderr
    assert contents(alone) == before


@pytest.mark.parametrize(
    ("peers", "options", "raft", "api"),
    [
        ("h1,h2,h3", [], ["h1:7401", "h2:7401", "h3:7401"], ["127.0.0.1:7400"] * 3),
        ("h1:9,h2,::1", [], ["h1:9", "h2:7401", "[::1]:7401"], ["127.0.0.1:7400"] * 3),
        (
            "localhost,127.0.0.1",
            ["--raft-port", "8001", "--http-port", "8000"],
            ["localhost:8001", "127.0.0.1:8011"],
            ["127.0.0.1:8000", "127.0.0.1:8010"],
        ),
        ("h1,[fd00::2]:8", ["--insecure-http"], ["h1:7401", "[fd00::2]:8"],
         ["h1:7400", "[fd00::2]:7400"]),
    ],
)  # fmt: skip
def test_init_writes_what_every_peer_can_start_with(
    alone: Path, peers: str, options: list[str], raft: list[str], api: list[str]
) -> None:
    result = run("init", "--peers", peers, "--cluster", "prod", "--out", "new", *options)
    assert result.exit_code == 0, result.output
    ids = [f"n{i + 1}" for i in range(len(raft))]
    configs = [load_config(alone / "new" / i / "cluster.toml", i, alone / "data") for i in ids]
    assert [c.address.raft for c in configs] == raft
    assert [c.address.api for c in configs] == api
    assert len({c.token for c in configs}) == 1
    assert len({(alone / "new" / i / "cluster.toml").read_bytes() for i in ids}) == 1
    for peer_id in ids:
        directory = alone / "new" / peer_id
        assert [mode(directory / name) for name in ("peer.key", "token")] == [0o600, 0o600]
        assert mode(directory) == 0o700
        checked = run("check-config", directory / "cluster.toml", "--id", peer_id)
        assert checked.exit_code == 0, checked.output
        assert (
            f"raftsched serve --config {peer_id}/cluster.toml" in (directory / "README").read_text()
        )
    assert not (alone / "new/n1/ca.key").exists()
    assert mode(alone / "new/ca/ca.key") == 0o600


def test_check_config_of_a_peer_reads_its_tls_files(alone: Path) -> None:
    run("init", "--peers", "h1,h2,h3")
    assert run("check-config", "n1/cluster.toml").exit_code == 0
    wrong = run("check-config", "n1/cluster.toml", "--id", "n2")
    assert wrong.exit_code == Exit.CHECK_FAILED
    assert "is that of peer 'n1'" in wrong.stderr


@pytest.mark.parametrize(
    ("peers", "warnings"),
    [
        ("h1,h2,h3", []),
        ("h1", []),
        (
            "h1,h2",
            ["raftsched: 2 peers survive the failure of none of them; take 3"],
        ),
        (
            "h1,h2,h3,h4",
            ["raftsched: 4 peers survive the failure of only 1 of them; take 5"],
        ),
        (
            "h1,H1:9,h3",
            ["raftsched: n1, n2 are on one machine (h1) and fail together; take one each"],
        ),
    ],
)
def test_init_says_what_a_cluster_will_not_survive(
    alone: Path, peers: str, warnings: list[str]
) -> None:
    result = run("init", "--peers", peers)
    assert result.exit_code == 0, result.output
    assert result.stderr.splitlines() == warnings
