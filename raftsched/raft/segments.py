"""The log on disk: append-only segments, one ``fdatasync`` per group, nothing rewritten in place.

A record is a header (length, CRC-32, kind, index, term) and its data; the CRC covers everything
behind itself.  CRC-32 is zlib's: the standard library has no CRC-32C; both catch torn writes.
Removing a tail appends a TRUNCATE record, a restart from a snapshot a RESET record; compaction
unlinks whole segments.  A torn tail is cut at start.  A damaged record before a sound one was
not torn: `Damaged`.

Kept in memory as well, as the ``(data, index, term)`` tuples PySyncObj works on.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import struct
import zlib
from pathlib import Path
from typing import Any, overload

from raftsched.raft.directory import Damaged, sync_directory, write_durably

logger = logging.getLogger(__name__)

_HEADER = struct.Struct("<IIBQQ")
_ENTRY, _TRUNCATE, _RESET, _END = 1, 2, 3, 4
#: Longest data of a record; a length above it is damage.
RECORD_BYTES_MAX = 64 * 1024 * 1024
#: Given back to the file system when the disk is full, so that compaction can work.
RESERVE_BYTES = 4 * 1024 * 1024
_FULL = {errno.ENOSPC, errno.EDQUOT}

LogEntry = tuple[bytes, int, int]


class JournalFailed(Exception):
    """The disk refused a write or a sync in a way that cannot be survived; end the process."""


class _Segment:
    def __init__(self, path: Path, number: int) -> None:
        self.path = path
        self.number = number
        #: Highest index any of its entries ever had.
        self.index_max = 0


class Journal:
    """The durable log of one peer; PySyncObj's journal interface, plus `sync` and `close`."""

    def __init__(self, directory: Path, segment_bytes: int) -> None:
        self._directory = directory
        self._segment_bytes = segment_bytes
        self._entries: list[LogEntry] = []
        self._segments: list[_Segment] = []
        self._descriptor = -1
        #: Bytes in the current segment's file, and in all of them.
        self._size = 0
        self.bytes_total = 0
        #: Records not yet written.
        self._pending: list[bytes] = []
        self._pending_bytes = 0
        #: Written or pending, but not synced.
        self.dirty = False
        self.durable_index = 0
        #: ``disk-full`` while the journal takes nothing in.
        self.paused = ""
        self.syncs = 0
        self._term = 0
        self._voted_for: str | None = None
        self._commit_index = 1
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._load_hard_state()
        self._load_segments()
        self._make_reserve()

    # What PySyncObj calls ------------------------------------------------------------------------

    def add(self, command: bytes, idx: int, term: int) -> None:
        """Append an entry in memory; durable after the next `sync`."""
        self._entries.append((command, idx, term))
        self._record(_ENTRY, idx, term, command)
        segment = self._segments[-1]
        segment.index_max = max(segment.index_max, idx)

    def clear(self) -> None:
        """Drop all entries: a snapshot takes their place."""
        self._entries = []
        self.durable_index = 0
        self._record(_RESET, 0, 0, b"")

    def deleteEntriesFrom(self, entryFrom: int) -> None:
        """Drop the entries from a position on."""
        if entryFrom >= len(self._entries):
            return
        index = self._entries[entryFrom][1]
        del self._entries[entryFrom:]
        self.durable_index = min(self.durable_index, index - 1)
        self._record(_TRUNCATE, index, 0, b"")

    def deleteEntriesTo(self, entryTo: int) -> None:
        """Drop the entries before a position: a durable snapshot covers them."""
        if entryTo <= 0:
            return
        self._entries = self._entries[entryTo:]
        self._drop_segments()

    @overload
    def __getitem__(self, item: int) -> LogEntry: ...
    @overload
    def __getitem__(self, item: slice) -> list[LogEntry]: ...
    def __getitem__(self, item: int | slice) -> LogEntry | list[LogEntry]:
        return self._entries[item]

    def __len__(self) -> int:
        return len(self._entries)

    def _destroy(self) -> None:
        """PySyncObj's farewell; `close` does the work."""

    def setRaftCommitIndex(self, raftCommitIndex: int) -> None:
        """Kept in memory only: the commit index of an earlier life is not trusted."""
        self._commit_index = raftCommitIndex

    def getRaftCommitIndex(self) -> int:
        """1 after a start: what is committed is learnt from the leader (S7)."""
        return self._commit_index

    def setCurrentTerm(self, term: int, votedForNodeId: str | None) -> None:
        """Term and vote, durable when this returns."""
        self._term, self._voted_for = term, votedForNodeId
        state = json.dumps({"term": term, "voted_for": votedForNodeId}).encode()
        try:
            write_durably(self._directory / "hard-state", b"%08x %s\n" % (zlib.crc32(state), state))
        except OSError as error:
            raise JournalFailed(f"term and vote cannot be stored: {error}") from error

    def getCurrentTerm(self) -> int:
        """The term stored last."""
        return self._term

    def getVotedForNodeId(self) -> str | None:
        """Whom this peer voted for in that term."""
        return self._voted_for

    def onOneSecondTimer(self) -> None:
        """Try again when the disk was full."""
        if self.paused:
            self.sync()

    # What our side calls -------------------------------------------------------------------------

    @property
    def first_index(self) -> int:
        """Index of the oldest entry; 0 for none."""
        return self._entries[0][1] if self._entries else 0

    @property
    def last_index(self) -> int:
        """Index of the newest entry; 0 for none."""
        return self._entries[-1][1] if self._entries else 0

    @property
    def last_term(self) -> int:
        """Term of the newest entry; 0 for none."""
        return self._entries[-1][2] if self._entries else 0

    def term_at(self, index: int) -> int | None:
        """The term of an entry; None if it is not here."""
        position = index - self.first_index
        if not self._entries or not 0 <= position < len(self._entries):
            return None
        return self._entries[position][2]

    def align(self, previous: LogEntry, last: LogEntry) -> None:
        """Make the log begin at a snapshot's last two entries, keeping what follows them (S4)."""
        matches = self.term_at(previous[1]) == previous[2] and self.term_at(last[1]) == last[2]
        if matches:
            self.deleteEntriesTo(previous[1] - self.first_index)
        else:
            self.clear()
            self.add(*previous)
            self.add(*last)
            self.sync()
            self._drop_segments()

    def sync(self) -> bool:
        """Write and sync everything pending; False while the disk is full.

        Raises JournalFailed for any other trouble, and for any trouble of a sync.
        """
        if not self.dirty:
            return True
        if self._pending:
            data = b"".join(self._pending)
            try:
                written = 0
                while written < len(data):
                    written += os.write(self._descriptor, memoryview(data)[written:])
            except OSError as error:
                self._write_failed(error)
                return False
            self._size += len(data)
            self.bytes_total += len(data)
            self._pending.clear()
            self._pending_bytes = 0
        try:
            os.fdatasync(self._descriptor)
        except OSError as error:
            raise JournalFailed(f"journal cannot be synced: {error}") from error
        self.syncs += 1
        self.dirty = False
        self.durable_index = self.last_index
        if self.paused:
            logger.warning("the disk has space again; going on")
            self.paused = ""
            self._make_reserve()
        if self._size >= self._segment_bytes:
            self._begin_segment(self._segments[-1].number + 1)
        return True

    def close(self) -> None:
        """Sync and leave an end mark: whatever is damaged after it was not torn."""
        if self._descriptor < 0:
            return
        self._record(_END, self.last_index, 0, b"")
        self.sync()
        os.close(self._descriptor)
        self._descriptor = -1

    # Inside --------------------------------------------------------------------------------------

    def _record(self, kind: int, index: int, term: int, data: bytes) -> None:
        header = _HEADER.pack(len(data), 0, kind, index, term)
        crc = zlib.crc32(data, zlib.crc32(header[8:]))
        self._pending.append(_HEADER.pack(len(data), crc, kind, index, term) + data)
        self._pending_bytes += _HEADER.size + len(data)
        self.dirty = True

    def _write_failed(self, error: OSError) -> None:
        """A full disk pauses; the partial record is cut.  Anything else ends the process."""
        if error.errno not in _FULL:
            raise JournalFailed(f"journal cannot be written: {error}") from error
        try:
            os.ftruncate(self._descriptor, self._size)
            os.lseek(self._descriptor, self._size, os.SEEK_SET)
            (self._directory / "reserve").unlink(missing_ok=True)
        except OSError as second:
            raise JournalFailed(f"journal cannot be cut after {error}: {second}") from second
        if not self.paused:
            logger.error("the disk of %s is full: nothing is acknowledged", self._directory)
        self.paused = "disk-full"

    def _make_reserve(self) -> None:
        path = self._directory / "reserve"
        if path.exists():
            return
        try:
            with path.open("wb") as file:
                os.posix_fallocate(file.fileno(), 0, RESERVE_BYTES)
        except OSError as error:
            path.unlink(missing_ok=True)
            logger.warning("no reserve beside the journal: %s", error)

    def _begin_segment(self, number: int) -> None:
        path = self._directory / f"journal-{number:012d}.log"
        try:
            if self._descriptor >= 0:
                os.close(self._descriptor)
            flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            self._descriptor = os.open(path, flags, 0o600)
            sync_directory(self._directory)
        except OSError as error:
            raise JournalFailed(f"journal segment {path} cannot be made: {error}") from error
        self._segments.append(_Segment(path, number))
        self._size = 0

    def _drop_segments(self) -> None:
        """Unlink leading segments that hold nothing newer than the log's first entry."""
        while len(self._segments) > 1 and self._segments[0].index_max < self.first_index:
            path = self._segments.pop(0).path
            self.bytes_total -= path.stat().st_size
            path.unlink()

    def _load_hard_state(self) -> None:
        path = self._directory / "hard-state"
        if not path.exists():
            return
        data = path.read_bytes()
        try:
            crc, state = data.rstrip(b"\n").split(b" ", 1)
            if int(crc, 16) != zlib.crc32(state):
                raise ValueError("checksum")
            parsed: dict[str, Any] = json.loads(state)
            self._term, self._voted_for = int(parsed["term"]), parsed["voted_for"]
        except (ValueError, KeyError):
            raise Damaged(path, 0, "term and vote do not match their checksum") from None

    def _load_segments(self) -> None:
        paths = sorted(self._directory.glob("journal-*.log"))
        for path in paths:
            segment = _Segment(path, int(path.stem.removeprefix("journal-")))
            self._segments.append(segment)
            self.bytes_total += self._load_segment(segment, is_last=path == paths[-1])
        if not self._segments:
            self._begin_segment(1)
        else:
            self._descriptor = os.open(self._segments[-1].path, os.O_RDWR | os.O_CLOEXEC)
            self._size = os.lseek(self._descriptor, 0, os.SEEK_END)
        self.durable_index = self.last_index

    def _load_segment(self, segment: _Segment, *, is_last: bool) -> int:
        data = segment.path.read_bytes()
        offset = 0
        while offset < len(data):
            found = _parse(data, offset)
            if found is None:
                if not is_last or _sound_after(data, offset):
                    raise Damaged(segment.path, offset, "a record does not match its checksum")
                logger.warning(
                    "%s: cutting a torn tail of %d bytes at offset %d",
                    segment.path,
                    len(data) - offset,
                    offset,
                )
                with segment.path.open("r+b") as file:
                    file.truncate(offset)
                    os.fsync(file.fileno())
                return offset
            kind, index, term, body = found
            if kind == _ENTRY:
                if self._entries and index != self.last_index + 1:
                    raise Damaged(
                        segment.path, offset, f"entry {index} follows entry {self.last_index}"
                    )
                self._entries.append((body, index, term))
                segment.index_max = max(segment.index_max, index)
            elif kind == _TRUNCATE:
                if self._entries:
                    del self._entries[max(0, index - self.first_index) :]
            elif kind == _RESET:
                self._entries = []
            offset += _HEADER.size + len(body)
        return offset


def _parse(data: bytes, offset: int) -> tuple[int, int, int, bytes] | None:
    """The record at an offset as (kind, index, term, data); None if it is not sound."""
    start = offset + _HEADER.size
    if start > len(data):
        return None
    length, crc, kind, index, term = _HEADER.unpack_from(data, offset)
    if length > RECORD_BYTES_MAX or start + length > len(data) or not _ENTRY <= kind <= _END:
        return None
    body = data[start : start + length]
    if zlib.crc32(body, zlib.crc32(data[offset + 8 : start])) != crc:
        return None
    return kind, index, term, body


def _sound_after(data: bytes, offset: int) -> bool:
    """Is there a sound record anywhere behind a bad one?"""
    return any(
        _ENTRY <= data[at + 8] <= _END and _parse(data, at) is not None
        for at in range(offset + 1, len(data) - _HEADER.size + 1)
    )
