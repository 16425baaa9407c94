"""What ``raftsched init`` writes, started as its README says: three peers over TLS."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.cluster import Cluster
from tests.ports import free_ports

pytestmark = pytest.mark.timeout(120)


class InitCluster(Cluster):
    """Peers in the directories that ``init`` made."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        raft = free_ports(len(self.ids))
        peers = ",".join(f"127.0.0.1:{port}" for port in raft)
        subprocess.run(
            [sys.executable, "-m", "raftsched.cli.main", "init", "--peers", peers],
            cwd=directory,
            check=True,
        )
        for peer in self.ids:
            # Free ports instead of 7400, 7410 and 7420, which may be taken here; a known token.
            path = directory / peer / "cluster.toml"
            path.write_text(self.with_free_ports(path.read_text()))
            (directory / peer / "token").write_bytes((directory / "token").read_bytes())

    def with_free_ports(self, text: str) -> str:
        ports = iter(self.api.values())
        return re.sub(r'(api = "127.0.0.1:)\d+', lambda m: f"{m[1]}{next(ports)}", text)

    def command(self, peer: str) -> list[str]:
        command = super().command(peer)
        command[command.index(str(self.config))] = str(self.directory / peer / "cluster.toml")
        return command


def test_init_serve_and_the_death_of_the_leader(tmp_path: Path) -> None:
    with InitCluster(tmp_path) as cluster:
        leader = cluster.leader()
        first = cluster.submit(leader, ["true"])
        rest = [peer for peer in cluster.ids if peer != leader]
        assert cluster.finished(rest[0], first)["state"] == "succeeded"
        cluster.kill(leader)
        cluster.leader(among=rest)
        second = cluster.submit(rest[0], ["true"])
        cluster.start(leader)
        cluster.ready(leader)
        assert cluster.finished(leader, second)["state"] == "succeeded"
        assert "refused" not in cluster.logs()
        assert "insecure" not in cluster.logs()
