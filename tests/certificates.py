"""Certificates of peers for tests, each made once."""

from __future__ import annotations

import datetime
from pathlib import Path

from raftsched.peer.certificates import make_authority, make_peer
from raftsched.raft.config import TlsFiles

NOW = datetime.datetime.now(datetime.UTC)


class TestAuthority:
    """One cluster's authority and the files of its peers."""

    __test__ = False

    def __init__(self, directory: Path, cluster_id: str) -> None:
        self.directory = directory
        self.pair = make_authority(cluster_id, NOW)
        self.ca = directory / "ca.crt"
        self.ca.write_bytes(self.pair.cert)

    def files(self, peer_id: str, days: int = 60, *, ca: Path | None = None) -> TlsFiles:
        """A peer's files; ``days`` below 0: expired so long ago; ``ca``: believes another one."""
        directory = self.directory / f"{peer_id}{days:+}"
        if not directory.exists():
            write_peer(directory, self, peer_id, days)
        return TlsFiles(ca=ca or self.ca, cert=directory / "peer.crt", key=directory / "peer.key")


def write_peer(directory: Path, authority: TestAuthority, peer_id: str, days: int = 60) -> None:
    """Make, or replace, ``peer.crt`` and ``peer.key``."""
    made = make_peer(
        authority.pair,
        peer_id,
        NOW + datetime.timedelta(days=min(days, 1) - 1),
        days=max(days, 1),
    )
    directory.mkdir(exist_ok=True)
    key = directory / "peer.key"
    key.touch(mode=0o600)
    key.write_bytes(made.key)
    (directory / "peer.crt").write_bytes(made.cert)
