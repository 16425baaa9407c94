"""Snapshots on disk: written beside, proven, then renamed; the previous one is kept.

A file is a sequence of chunks (length, CRC-32, data), ended by an empty one.  The first chunk is
the header: cluster id and the log's last two entries under the snapshot.  The same bytes travel to
a peer that is too far behind.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

import msgspec

from raftsched.raft.directory import Damaged, sync_directory
from raftsched.raft.segments import LogEntry

_CHUNK = struct.Struct("<II")
#: Version of the file format.
FORMAT_VERSION = 1
#: Longest chunk; a length above it is damage.
CHUNK_BYTES_MAX = 64 * 1024 * 1024


class SnapshotMeta(msgspec.Struct, frozen=True, array_like=True):
    """What a snapshot covers: everything up to ``last``."""

    format_version: int
    cluster_id: str
    previous: LogEntry
    last: LogEntry

    @property
    def index(self) -> int:
        """Index of the last entry under the snapshot."""
        return self.last[1]


_decoder = msgspec.msgpack.Decoder(SnapshotMeta)


class SnapshotStore:
    """The snapshots of one peer in one directory."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.path = directory / "snapshot"
        self._directory = directory
        self._number = 0
        for leftover in directory.glob("snapshot.*.tmp"):
            leftover.unlink()

    def temporary(self) -> Path:
        """A fresh name to write to."""
        self._number += 1
        return self._directory / f"snapshot.{os.getpid()}-{self._number}.tmp"

    def write(self, path: Path, meta: SnapshotMeta, chunks: Iterable[bytes]) -> None:
        """Write and sync a whole snapshot; for a thread.  Raises OSError."""
        with path.open("wb") as file:
            _put(file, msgspec.msgpack.encode(meta))
            for chunk in chunks:
                _put(file, chunk)
            _put(file, b"")
            file.flush()
            os.fsync(file.fileno())

    def publish(self, path: Path) -> None:
        """Make a written and proven file the current snapshot, durably; the old one is kept."""
        if self.path.exists():
            kept = self._directory / "snapshot.previous"
            spare = self._directory / "snapshot.previous.tmp"
            spare.unlink(missing_ok=True)
            os.link(self.path, spare)
            spare.replace(kept)
        path.replace(self.path)
        sync_directory(self._directory)

    def meta(self) -> SnapshotMeta | None:
        """What the current snapshot covers; None if there is none.  Raises Damaged."""
        if not self.path.exists():
            return None
        return _meta(self.path, next(read_chunks(self.path)))

    def load(self) -> Iterator[bytes]:
        """The state's chunks of the current snapshot.  Raises Damaged at the first bad one."""
        chunks = read_chunks(self.path)
        next(chunks)
        return chunks


def verify(path: Path, cluster_id: str) -> SnapshotMeta:
    """Read a file through; what it covers.  Raises Damaged."""
    chunks = read_chunks(path)
    meta = _meta(path, next(chunks))
    if meta.cluster_id != cluster_id:
        raise Damaged(path, 0, f"it is of cluster {meta.cluster_id!r}")
    for _ in chunks:
        pass
    return meta


def read_chunks(path: Path) -> Iterator[bytes]:
    """All chunks of a file, checked.  Raises Damaged."""
    offset = 0
    with path.open("rb") as file:
        while True:
            header = file.read(_CHUNK.size)
            if len(header) < _CHUNK.size:
                raise Damaged(path, offset, "it ends too early")
            length, crc = _CHUNK.unpack(header)
            data = file.read(length) if length <= CHUNK_BYTES_MAX else b""
            if len(data) != length or zlib.crc32(data) != crc:
                raise Damaged(path, offset, "a chunk does not match its checksum")
            if not length:
                return
            yield data
            offset += _CHUNK.size + length


def _put(file: BinaryIO, data: bytes) -> None:
    file.write(_CHUNK.pack(len(data), zlib.crc32(data)) + data)


def _meta(path: Path, data: bytes) -> SnapshotMeta:
    try:
        meta: SnapshotMeta = _decoder.decode(data)
    except msgspec.DecodeError as error:
        raise Damaged(path, 0, f"no snapshot header: {error}") from None
    if meta.format_version > FORMAT_VERSION:
        raise Damaged(path, 0, f"format {meta.format_version} is newer than this version knows")
    return meta
