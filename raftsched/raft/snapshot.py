"""Snapshots on disk: written beside the log, proven before they count, the last two kept.

Signatures first; the body follows.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec

from raftsched.raft.files import Disk


class SnapshotFailed(Exception):
    """Writing failed; the draft is gone.  ``is_disk_full`` says whether to go on without."""

    is_disk_full: bool


class SnapshotMeta(msgspec.Struct, frozen=True, array_like=True):
    """What a snapshot says of itself."""

    cluster_id: str
    #: The entries at ``index - 1`` and ``index`` as (data, index, term): PySyncObj's log begins so.
    previous: tuple[bytes, int, int]
    last: tuple[bytes, int, int]

    @property
    def index(self) -> int:
        """Index of the last entry the state contains."""
        return self.last[1]

    @property
    def term(self) -> int:
        return self.last[2]


class Snapshot(msgspec.Struct, frozen=True):
    """A published snapshot."""

    path: Path
    meta: SnapshotMeta
    file_bytes: int


class SnapshotStore:
    """The snapshots of one peer, in a directory of their own (of a locked journal)."""

    @classmethod
    def open(cls, directory: Path, *, cluster_id: str, disk: Disk | None = None) -> SnapshotStore:
        """Remove drafts, read headers.  Raises SnapshotDamaged, WrongOwner."""
        raise NotImplementedError

    def latest(self) -> Snapshot | None:
        raise NotImplementedError

    def usable(self, first_index: int) -> Snapshot | None:
        """The newest snapshot that verifies wholly; None when there is none at all.  Reads it all.

        Falls back to the previous one if the newest is damaged and the journal (``first_index``)
        reaches back to it; the damaged file is set aside.  Raises SnapshotDamaged otherwise.
        """
        raise NotImplementedError

    def write(self, meta: SnapshotMeta, chunks: Iterable[bytes]) -> Path:
        """Write and fsync a draft; for a thread.  Raises SnapshotFailed."""
        raise NotImplementedError

    def publish(self, draft: Path) -> bool:
        """Rename the draft into place and fsync the directory; False (draft removed) if not newer.

        The journal may be trimmed after it returned True.
        """
        raise NotImplementedError

    def discard(self, draft: Path) -> None:
        """Remove a draft that is not wanted any more."""

    def read(self, snapshot: Snapshot) -> Iterator[bytes]:
        """The chunks as they were given to ``write``, each verified, the whole at the end.

        Raises SnapshotDamaged.
        """
        raise NotImplementedError

    def open_raw(self, snapshot: Snapshot) -> RawReader:
        """The file as it is, to be sent; stays readable when the snapshot is replaced."""
        raise NotImplementedError

    def receive(self) -> Incoming:
        """Begin to take in a snapshot from another peer."""
        raise NotImplementedError


class RawReader:
    """Sends a snapshot: read it by offset, close it."""

    meta: SnapshotMeta
    total_bytes: int

    def read(self, offset: int, size: int) -> bytes:
        raise NotImplementedError

    def close(self) -> None: ...


class Incoming:
    """A snapshot being received.  ``offset`` bytes have arrived."""

    offset: int

    def add(self, data: bytes) -> None:
        """Append the next bytes.  Raises SnapshotFailed."""

    def finish(self) -> tuple[Path, SnapshotMeta]:
        """fsync and verify all of it; then ``publish`` the path.  Raises SnapshotDamaged/Failed."""
        raise NotImplementedError

    def abort(self) -> None: ...
