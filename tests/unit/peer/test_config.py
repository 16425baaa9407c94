"""A wrong configuration is one line that names the key and what to do."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Any

import pytest

from raftsched.peer.config import (
    CLUSTER_ID_BYTES_MAX,
    PEER_ID_BYTES_MAX,
    ConfigError,
    PeerAddress,
    PeerConfig,
    check,
    check_cluster_id,
    check_peer_id,
    load_config,
    parse_bytes,
    parse_cpu,
    warn_of_what_is_open,
)
from raftsched.raft import frames
from raftsched.raft.config import TlsFiles

ROOT = Path(__file__).parents[3]


def write(directory: Path, text: str) -> Path:
    path = directory / "cluster.toml"
    path.write_text(text, encoding="utf-8")
    return path


TLS = '[tls]\nca = "ca.crt"\ncert = "n1.crt"\nkey = "/keys/n1.key"\n'
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
        (GOOD + '[executor]\ncgroup = "here"\n', "n1", "executor.cgroup"),
        (GOOD + '[executor]\nhttp_private = "no"\n', "n1", "executor.http_private"),
        (GOOD + '[node]\nmemory = "4 cats"\n', "n1", "node.memory"),
        (GOOD + "[node]\nmemory = -5\n", "n1", "node.memory"),
        (GOOD + '[node]\nmemory = "99999999TiB"\n', "n1", "node.memory"),
        (GOOD + "[node]\nmemory = 9223372036854775808\n", "n1", "node.memory"),
        (GOOD + '[node]\nmemory = "²"\n', "n1", "node.memory"),
        (GOOD.replace(":7401", ":²"), "n1", "host:port"),
        (GOOD + '[node]\napps = ["images"]\n', "n1", "node.apps has 'images'; write package"),
        (GOOD + '[node]\napps = ["a b:c"]\n', "n1", "node.apps has 'a b:c'"),
        (GOOD + '[node]\napps = ["a:b", "a:b"]\n', "n1", "names an application twice"),
        (GOOD + "[node]\nworkers = 1000\n", "n1", "node.workers is 1000; allowed are 0 to 256"),
        (GOOD + "[node]\nslots = 1" + "0" * 5000 + "\n", "n1", "not TOML"),
        (GOOD + '[node]\ncpu = "many"\n', "n1", "node.cpu"),
        (GOOD + "[nodes]\n", "n1", "nodes"),
        (GOOD.replace("127.0.0.1:7400", "10.0.0.1:7400"), "n1", "insecure_http = true"),
        (GOOD + TLS.replace("ca =", "# ca ="), "n1", "tls.ca is missing"),
        (GOOD + TLS + 'password = "x"\n', "n1", "password"),
        (GOOD.replace("127.0.0.1:7400", "10.0.0.1:7400") + TLS, "n1", "insecure_http = true"),
        (GOOD.replace('"c"', f'"{"é" * 33}"'), "n1", "cluster.id"),
        (GOOD.replace('"c"', '"a\\nb"'), "n1", "cluster.id"),
        (GOOD.replace("n1", '"é"'), "é", "peers.é: an id has"),
        ('[cluster]\nid = ""\n' + GOOD[18:], "n1", "cluster.id"),
    ],
)
def test_complaint_names_the_key(tmp_path: Path, text: str, peer: str, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(write(tmp_path, text), peer, tmp_path)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_tls_files_are_relative_to_the_file_and_a_peer_may_have_its_own(tmp_path: Path) -> None:
    text = GOOD.replace("127.0.0.1:7401", "10.0.0.1:7401") + TLS
    text += GOOD[GOOD.index("[peers") :].replace("n1", "n2").replace("740", "741")
    text += '[peers.n2.tls]\ncert = "n2.crt"\n'
    path = write(tmp_path, text)
    common = load_config(path, "n1", tmp_path).tls
    assert common == TlsFiles(
        ca=tmp_path / "ca.crt", cert=tmp_path / "n1.crt", key=Path("/keys/n1.key")
    )
    own = load_config(path, "n2", tmp_path).tls
    assert own == TlsFiles(
        ca=tmp_path / "ca.crt", cert=tmp_path / "n2.crt", key=Path("/keys/n1.key")
    )
    assert load_config(write(tmp_path, GOOD), "n1", tmp_path).tls is None


def test_longest_ids_fit_a_handshake() -> None:
    cluster, peer = "é" * (CLUSTER_ID_BYTES_MAX // 2), "n" * PEER_ID_BYTES_MAX
    check_cluster_id(cluster)
    check_peer_id(peer)
    frame = frames.encode(frames.Handshake(frames.MAGIC, 2**64 - 1, cluster, peer, peer))
    assert len(frame) - frames.LENGTH.size <= frames.HANDSHAKE_BYTES_MAX
    refused = frames.encode_refusal("é" * 1000)
    assert len(refused) - frames.LENGTH.size <= frames.HANDSHAKE_BYTES_MAX


def test_loopback_of_two_machines_is_two_places(tmp_path: Path) -> None:
    text = GOOD.replace("127.0.0.1:7401", "10.0.0.1:7401") + TLS
    other = text[text.index("[peers") : text.index("[tls")].replace("n1", "n2")
    load_config(write(tmp_path, text + other.replace("10.0.0.1", "10.0.0.2")), "n1", tmp_path)
    with pytest.raises(ConfigError, match="has already"):
        load_config(write(tmp_path, text + other), "n1", tmp_path)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({}, ""),
        ({"insecure": True}, "insecure = true: traffic of this cluster is not encrypted"),
        ({"tls": True}, ""),
        ({"tls": True, "insecure_http": True, "api": "10.0.0.1:7400"}, "insecure_http = true"),
        ({"tls": True, "insecure": True, "api": "10.0.0.1:7400"}, "insecure = true: HTTP on 10."),
    ],
    ids=str,
)
def test_what_is_open_is_told_at_every_start(
    change: dict[str, Any], says: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    files = TlsFiles(ca=Path("a"), cert=Path("b"), key=Path("c"))
    config = PeerConfig(
        cluster_id="c",
        peer_id="n1",
        peers={"n1": PeerAddress("127.0.0.1:7401", change.get("api", "127.0.0.1:7400"))},
        data_dir=tmp_path,
        tls=files if change.get("tls") else None,
        insecure=change.get("insecure", False),
        insecure_http=change.get("insecure_http", False),
    )
    check(config)
    warn_of_what_is_open(config)
    assert [says in line for line in caplog.messages] == ([True] if says else [])


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
