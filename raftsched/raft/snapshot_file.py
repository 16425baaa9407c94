"""The file of a snapshot: framed, with checksums over every part and over the whole.

Layout (little endian): magic, then frames of (bytes, CRC-32, payload).  The first frame is the
header (``SnapshotMeta``, msgpack), then one per chunk, then an empty frame, then the trailer:
number of chunks, bytes of all payloads, CRC-32 of all payloads, CRC-32 of the trailer.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import msgspec

from raftsched.raft.files import Disk, SnapshotDamaged, read_exactly, write_all
from raftsched.raft.membership import Configuration

#: A chunk longer than this is damage, not data.
CHUNK_BYTES_MAX = 64 * 1024 * 1024
#: A draft is made durable as it grows, in steps of this much: one sync of a hundred megabytes in
#: the end holds up the journal's, and with it the loop, for more than a tenth of a second.
FLUSH_BYTES = 2 * 1024 * 1024
_FORMAT_VERSION = 2
#: Format 1 has no configuration.
_FORMATS = (1, 2)
_MAGIC = b"RSSNAP1\n"
#: Payload bytes, CRC-32 of the payload.
_FRAME = struct.Struct("<II")
#: Chunks, bytes of all payloads, CRC-32 of all payloads; CRC-32 of the trailer follows.
_TRAILER = struct.Struct("<QQI")
_TRAILER_BYTES = _TRAILER.size + 4
_REMEDY = (
    "remove this peer from the cluster and add it again under a new peer id with an empty "
    "directory, or restore the file from a copy"
)


class SnapshotMeta(msgspec.Struct, frozen=True, array_like=True):
    """What a snapshot says of itself."""

    cluster_id: str
    #: The entries at ``index - 1`` and ``index`` as (data, index, term): PySyncObj's log begins so.
    previous: tuple[bytes, int, int]
    last: tuple[bytes, int, int]
    format_version: int = _FORMAT_VERSION
    #: The members of the group once ``last`` was appended; None in format 1.
    configuration: Configuration | None = None

    @property
    def index(self) -> int:
        """Index of the last entry the state contains."""
        return self.last[1]

    @property
    def term(self) -> int:
        """Term of that entry."""
        return self.last[2]


class Draft:
    """A file being written; not there any more after ``abort``."""

    def __init__(self, disk: Disk, path: Path) -> None:
        self._disk = disk
        self._path = path
        self._fd = disk.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
        self._is_there = True
        self.size = 0

    def append(self, data: bytes) -> None:
        """Raises OSError."""
        self.size = write_all(self._disk, self._fd, data, self.size)

    def read(self, size: int) -> bytes:
        """The first ``size`` bytes.  Raises OSError."""
        return read_exactly(self._disk, self._fd, size, 0)

    def flush(self) -> None:
        """What was appended so far is durable; for a thread.  Raises OSError."""
        self._disk.datasync(self._fd)

    def seal(self) -> None:
        """Durable, but for its name."""
        self._disk.datasync(self._fd)
        self._close()

    def abort(self) -> None:
        """Remove it.  Idempotent."""
        if self._is_there:
            self._is_there = False
            self._close()
            self._disk.unlink(self._path)

    def _close(self) -> None:
        if self._fd >= 0:
            self._disk.close(self._fd)
            self._fd = -1


class SnapshotWriter:
    """Puts header, chunks and trailer into a draft."""

    def __init__(self, draft: Draft, meta: SnapshotMeta) -> None:
        self._draft = draft
        self._chunks = -1
        self._bytes = 0
        self._crc = 0
        self._flushed = 0
        draft.append(_MAGIC)
        self.add(msgspec.msgpack.encode(meta))

    def add(self, payload: bytes) -> None:
        """One chunk; an empty one is left out."""
        if not payload:
            return
        assert len(payload) <= CHUNK_BYTES_MAX, "chunk too long"
        self._chunks += 1
        self._bytes += len(payload)
        self._crc = zlib.crc32(payload, self._crc)
        self._draft.append(_FRAME.pack(len(payload), zlib.crc32(payload)) + payload)
        if self._draft.size - self._flushed >= FLUSH_BYTES:
            self._flushed = self._draft.size
            self._draft.flush()

    def end(self) -> None:
        """The trailer: the file is whole."""
        trailer = _TRAILER.pack(self._chunks, self._bytes, self._crc)
        frame = _FRAME.pack(0, 0)
        self._draft.append(frame + trailer + zlib.crc32(trailer).to_bytes(4, "little"))


class SnapshotReader:
    """Reads a file frame by frame and checks everything."""

    def __init__(self, disk: Disk, path: Path) -> None:
        self._disk = disk
        self._path = path
        self._fd = disk.open(path, os.O_RDONLY)
        self._offset = 0
        self.file_bytes = disk.size(self._fd)

    def close(self) -> None:
        """Nothing more is read."""
        self._disk.close(self._fd)

    @property
    def meta(self) -> SnapshotMeta:
        """The header.  Raises SnapshotDamaged."""
        return self._header()[0]

    def chunks(self) -> Iterator[bytes]:
        """All chunks; the last one only once the trailer was right.  Raises SnapshotDamaged."""
        header = self._header()[1]
        count, size, crc = 0, len(header), zlib.crc32(header)
        held: bytes | None = None
        while payload := self._frame():
            if held is not None:
                yield held
            held = payload
            count, size, crc = count + 1, size + len(payload), zlib.crc32(payload, crc)
        start = self._offset
        trailer = self._take(_TRAILER_BYTES)
        if (
            zlib.crc32(trailer[:-4]) != int.from_bytes(trailer[-4:], "little")
            or _TRAILER.unpack_from(trailer) != (count, size, crc)
            or self._offset != self.file_bytes
        ):
            raise self._damaged(start, "the end does not match what comes before")
        if held is not None:
            yield held

    def _header(self) -> tuple[SnapshotMeta, bytes]:
        self._offset = 0
        if self._take(len(_MAGIC)) != _MAGIC:
            raise self._damaged(0, "it is not a snapshot of a format known here")
        header = self._frame()
        try:
            meta = msgspec.msgpack.decode(header, type=SnapshotMeta)
        except msgspec.DecodeError as error:
            raise self._damaged(len(_MAGIC), f"the header cannot be read ({error})") from None
        if meta.format_version not in _FORMATS:
            raise self._damaged(len(_MAGIC), f"format {meta.format_version} is not known here")
        return meta, header

    def _frame(self) -> bytes:
        start = self._offset
        size, crc = _FRAME.unpack(self._take(_FRAME.size))
        if size > CHUNK_BYTES_MAX:
            raise self._damaged(start, "a length is impossible")
        payload = self._take(size, start)
        if zlib.crc32(payload) != crc:
            raise self._damaged(start, "a checksum is wrong")
        return payload

    def _take(self, size: int, start: int | None = None) -> bytes:
        data = read_exactly(self._disk, self._fd, size, self._offset)
        if len(data) < size:
            where = self._offset if start is None else start
            raise self._damaged(where, "the file ends too early")
        self._offset += size
        return data

    def _damaged(self, offset: int, what: str) -> SnapshotDamaged:
        return SnapshotDamaged(self._path, offset, what, _REMEDY)
