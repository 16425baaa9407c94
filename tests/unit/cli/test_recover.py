"""`raftsched recover`: what it refuses, and what it says before and after."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner, Result

from raftsched.cli.main import cli
from raftsched.peer.evidence import DIRECTORY, OVERRULED, REPORT, Evidence
from raftsched.raft import endings
from raftsched.raft.config import LogConfig
from raftsched.raft.files import OsDisk
from raftsched.raft.journal import Journal
from raftsched.raft.log import RemovedFromCluster
from raftsched.raft.membership import founding

PEERS = {f"n{n}": f"127.0.0.1:{7400 + n}" for n in (1, 2, 3)}


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """That of n1, stopped, beside a configuration."""
    sections = [
        f'[peers.{p}]\nraft = "{raft}"\napi = "127.0.0.1:{8400 + n}"\n'
        for n, (p, raft) in enumerate(PEERS.items())
    ]
    (tmp_path / "cluster.toml").write_text('[cluster]\nid = "c"\n' + "".join(sections))
    data_dir = tmp_path / "n1"
    (data_dir / "raft").mkdir(parents=True)
    config = LogConfig(cluster_id="c", peer_id="n1", peers=PEERS, data_dir=data_dir / "raft")
    journal = Journal.open(
        data_dir / "raft" / "journal",
        cluster_id="c",
        peer_id="n1",
        reserve_bytes=0,
        founding=founding(config),
    )
    journal.setCurrentTerm(4, "n2")
    journal.add(b"\1", 1, 4)
    journal.close()
    return data_dir


def recover(directory: Path, *more: str) -> Result:
    config = str(directory.parent / "cluster.toml")
    words = ["recover", "--config", config, "--id", "n1", "--data-dir", str(directory)]
    return CliRunner().invoke(cli, [*words, *more])


def test_what_lives_still_is_warned_of_before_anything_is_done(directory: Path) -> None:
    looked = recover(directory)
    assert looked.exit_code == 10
    assert "whichever of n2, n3 still lives stops for good" in looked.output
    done = recover(directory, "--yes-i-accept-data-loss")
    assert done.exit_code == 0 and "n1 is the whole cluster now" in done.output


def test_removed_peer_is_refused_before_anything_is_shown(directory: Path) -> None:
    removed = RemovedFromCluster("peer 'n1' was removed from cluster 'c'")
    endings.remember(OsDisk(), directory / "raft", removed)
    refused = recover(directory, "--yes-i-accept-data-loss", "--even-diverged")
    assert refused.exit_code != 0
    assert "was removed from cluster 'c'" in refused.output
    assert "last index" not in refused.output


def test_diverged_peer_is_refused_unless_somebody_insists_and_is_told_loudly(
    directory: Path,
) -> None:
    found = Evidence("this replica differs", "c", "n1", 7, "aa", {"n1": "bb"}, 1, 9, "bb", 8, 0)
    (directory / DIRECTORY).mkdir()
    (directory / DIRECTORY / REPORT).write_bytes(msgspec.json.encode(found))
    refused = recover(directory, "--yes-i-accept-data-loss")
    assert refused.exit_code != 0 and "last index" not in refused.output
    assert "--even-diverged" in refused.output
    looked = recover(directory, "--even-diverged")
    assert "NOT WHAT THE MAJORITY HAD" in looked.output
    assert (directory / DIRECTORY / REPORT).exists()
    done = recover(directory, "--even-diverged", "--yes-i-accept-data-loss")
    assert done.exit_code == 0 and done.output.count("NOT WHAT THE MAJORITY HAD") == 2
    assert not (directory / DIRECTORY / REPORT).exists()
    assert (directory / DIRECTORY / OVERRULED).exists()
