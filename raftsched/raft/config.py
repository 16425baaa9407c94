"""What one peer's log needs to know."""

from __future__ import annotations

from pathlib import Path

import msgspec


class TlsFiles(msgspec.Struct, frozen=True, kw_only=True):
    """PEM files for connections between peers; see `raft.credentials`."""

    #: Certificates of the authorities whose peers are believed.
    ca: Path
    #: This peer's certificate, and its private key.
    cert: Path
    key: Path


class LogConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Settings of one peer's log; times in seconds."""

    cluster_id: str
    peer_id: str
    #: Where each peer listens for the others, ``host:port``, this one included.
    peers: dict[str, str]
    data_dir: Path
    #: Where each answers its users; told to all when the cluster is founded.
    api: dict[str, str] = {}
    #: An empty directory is that of a peer that is to be added to a cluster there is: it founds
    #: none with ``peers``, which only tell it whom to dial.
    joins: bool = False
    #: Allows addresses other than loopback although nothing is encrypted.
    insecure: bool = False
    #: With these every connection is encrypted, and any address is allowed.
    tls: TlsFiles | None = None
    election_min_seconds: float = 0.5
    election_max_seconds: float = 1.0
    append_period_seconds: float = 0.1
    #: A leader that hears from no majority for so long steps down.
    quorum_timeout_seconds: float = 2.0
    reconnect_seconds: float = 0.3
    connect_timeout_seconds: float = 0.5
    #: The journal is compacted when it holds this much.
    journal_bytes_max: int = 64 * 1024 * 1024
    segment_bytes: int = 8 * 1024 * 1024
    #: Kept free on the disk for compaction to work with once it is full.
    reserve_bytes: int = 16 * 1024 * 1024
    #: While the disk is full, a follower takes entries into memory until they take this much there.
    paused_bytes_max: int = 64 * 1024 * 1024

    @property
    def others(self) -> tuple[str, ...]:
        """All peers but this one, sorted."""
        return tuple(sorted(peer_id for peer_id in self.peers if peer_id != self.peer_id))
