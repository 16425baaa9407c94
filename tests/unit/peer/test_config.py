"""A wrong configuration is one line that names the key and what to do."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from raftsched.peer.config import ConfigError, load_config, parse_bytes, parse_cpu

ROOT = Path(__file__).parents[3]


def write(directory: Path, text: str) -> Path:
    path = directory / "cluster.toml"
    path.write_text(text, encoding="utf-8")
    return path


GOOD = '[cluster]\nid = "c"\n[peers.n1]\nraft = "127.0.0.1:7401"\napi = "127.0.0.1:7400"\n'


def test_example_loads(tmp_path: Path) -> None:
    config = load_config(ROOT / "cluster.toml.example", "n2", tmp_path)
    assert config.address.api == "127.0.0.1:7410"
    assert len(config.token) >= 32


def test_token_file_is_private_and_stays_the_same(tmp_path: Path) -> None:
    first = load_config(write(tmp_path, GOOD), "n1", tmp_path / "d")
    again = load_config(tmp_path / "cluster.toml", "n1", tmp_path / "d")
    assert first.token == again.token
    assert stat.S_IMODE((tmp_path / "d" / "token").stat().st_mode) == 0o600


@pytest.mark.parametrize(
    ("text", "peer", "says"),
    [
        (GOOD, "n9", "--id must be one of: n1"),
        ("[cluster", "n1", "not TOML"),
        (GOOD.replace("raft", "rfat"), "n1", "rfat"),
        (GOOD.replace(":7401", ""), "n1", "host:port"),
        (GOOD.replace("127.0.0.1:7401", "10.0.0.1:7401"), "n1", "insecure = true"),
        (GOOD.replace("7401", "7400"), "n1", "has already"),
        (GOOD + "[node]\nlease_seconds = 0.1\n", "n1", "lease_seconds"),
        (GOOD + '[node]\nmemory = "4 cats"\n', "n1", "node.memory"),
        (GOOD + "[node]\nmemory = -5\n", "n1", "node.memory"),
        (GOOD + '[node]\nmemory = "99999999TiB"\n', "n1", "node.memory"),
        (GOOD + "[node]\nmemory = 9223372036854775808\n", "n1", "node.memory"),
        (GOOD + '[node]\nmemory = "²"\n', "n1", "node.memory"),
        (GOOD.replace(":7401", ":²"), "n1", "host:port"),
        (GOOD + "[node]\nslots = 1" + "0" * 5000 + "\n", "n1", "not TOML"),
        (GOOD + '[node]\ncpu = "many"\n', "n1", "node.cpu"),
        (GOOD + "[nodes]\n", "n1", "nodes"),
        ('[cluster]\nid = ""\n' + GOOD[18:], "n1", "cluster.id"),
    ],
)
def test_complaint_names_the_key(tmp_path: Path, text: str, peer: str, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(write(tmp_path, text), peer, tmp_path)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_file_says_what_to_copy(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cluster\.toml\.example"):
        load_config(tmp_path / "none.toml", "n1", tmp_path)


@pytest.mark.parametrize(
    ("text", "size"), [("4GiB", 4 << 30), ("512", 512), (7, 7), (0, 0), (2**63 - 1, 2**63 - 1)]
)
def test_sizes(text: str | int, size: int) -> None:
    assert parse_bytes(text) == size


@pytest.mark.parametrize("text", ["-1", "nan", "inf", "x"])
def test_impossible_cpus(text: str) -> None:
    with pytest.raises(ValueError, match="number of cores"):
        parse_cpu(text)
