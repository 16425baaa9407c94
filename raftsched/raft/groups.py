"""The journal's files: how groups of records lie in segments, how they are read back and appended.

Layout (little endian)::

    segment-<sequence>.log   header, group, group, ...
    header   magic, version, sequence, CRC and size of the previous segment's end, owner, CRC-32
    group    magic, flags, own offset, body bytes, CRC-32 of the body, CRC-32 of this; then the body
    body     records: kind, data bytes, index, term, data

Rules
1. One ``sync`` writes one group and syncs it, before anything of the next group is written.  So at
   most the last group of the last segment can be torn; nobody was told of it, and it is cut whole.
   Damage anywhere else was durable once, and refuses.
2. Body CRCs are chained (each starts from the one before, across segments), so a block that is
   old, moved or missing does not fit, even where it is whole in itself.
3. A segment is made beside its name and renamed, so its header is never torn.
4. A segment is only appended to, cut back at its end, or unlinked.

The checksum is ``zlib.crc32``: CRC-32C finds no more of the damage disks do, and Python has it only
in packages to compile; zlib's is in the standard library and takes about 1 µs for a kilobyte.
"""

from __future__ import annotations

import logging
import os
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import msgspec

from raftsched.raft.files import DISK_FULL, REMEDY, Disk, JournalDamaged, read_file, write_all

logger = logging.getLogger(__name__)

_VERSION = 1
_SEGMENT_MAGIC = b"RSJS"
_GROUP_MAGIC = b"RSJG"
#: magic, version, sequence, chain before, bytes of the previous segment, owner; CRC-32 follows.
_HEADER = struct.Struct("<4sIQIQI")
#: magic, flags, own offset, body bytes, chain after the body; CRC-32 follows.
_GROUP = struct.Struct("<4sIQQI")
_CRC = struct.Struct("<I")
HEADER_BYTES = _HEADER.size + _CRC.size
GROUP_BYTES = _GROUP.size + _CRC.size
#: Flag: the writer syncs every group before the next (it does not with ``sync=False``).
_SYNCED = 1

#: kind, data bytes, index, term.
RECORD = struct.Struct("<BIQQ")
ENTRY = 1
#: Entries from this index on are gone.
TRUNCATE = 2
#: All entries are gone; the next one may have any index.
RESET = 3

#: After a roll failed for want of room, the segment may grow by this before the next try.
_ROLL_RETRY_BYTES = 1024 * 1024


class DiskFull(Exception):
    """No room for a write; the file was cut back to what it held before."""


class Tail(msgspec.Struct):
    """Where a segment ends, which is all that is needed to go on from there."""

    sequence: int
    #: Bytes of header and whole groups.
    end: int
    #: CRC of the last body, over the whole journal.
    chain: int
    #: CRC of the segment's header: ties its groups to it.
    seed: int
    #: Where the last group starts; the header's end when there is none.
    last_group: int
    #: Highest index of an entry ever written to it.
    index_max: int = 0


def segment_name(sequence: int) -> str:
    """The file of a segment."""
    return f"segment-{sequence:012d}.log"


def segment_sequences(names: list[str]) -> list[int]:
    """The sequence numbers of the segments among ``names``, rising."""
    return sorted(
        int(name[8:-4]) for name in names if name.startswith("segment-") and name.endswith(".log")
    )


def _encode_header(sequence: int, previous: Tail | None, owner: int) -> bytes:
    chain, size = (0, 0) if previous is None else (previous.chain, previous.end)
    body = _HEADER.pack(_SEGMENT_MAGIC, _VERSION, sequence, chain, size, owner)
    return body + _CRC.pack(zlib.crc32(body))


def _crc_at(data: bytes, offset: int) -> int:
    value: int = _CRC.unpack_from(data, offset)[0]
    return value


class SegmentReader:
    """One segment read back: iterate its groups' bodies, then look at ``tail`` and ``torn``."""

    tail: Tail
    #: Bytes behind ``tail.end`` that a crash left; to be cut.
    torn: int

    def __init__(
        self, disk: Disk, path: Path, sequence: int, previous: Tail | None, owner: int
    ) -> None:
        """Raises JournalDamaged when the header is not the one that follows ``previous``."""
        self._path = path
        self._data = data = read_file(disk, path)
        head = data[:HEADER_BYTES]
        if len(head) < HEADER_BYTES or _crc_at(head, _HEADER.size) != zlib.crc32(head[:-4]):
            raise self._damaged(0, "the segment's header is damaged")
        magic, version, found, chain, previous_bytes, found_owner = _HEADER.unpack_from(head)
        if (magic, version, found, found_owner) != (_SEGMENT_MAGIC, _VERSION, sequence, owner):
            raise self._damaged(0, "the segment is not of this journal, or of another version")
        if previous is not None and (chain, previous_bytes) != (previous.chain, previous.end):
            raise self._damaged(0, "the end of the segment before it is missing or another one")
        self.tail = Tail(sequence, HEADER_BYTES, chain, zlib.crc32(head), HEADER_BYTES)
        self.torn = 0

    def groups(self, *, may_be_torn: bool) -> Iterator[tuple[int, memoryview]]:
        """(offset, body) of every group.  Raises JournalDamaged; see rule 1 for a torn end."""
        data, tail = self._data, self.tail
        view = memoryview(data)
        while tail.end < len(data):
            start = tail.end
            group = self._group_at(start)
            if group is None:
                self._cut(start, may_be_torn and not self._is_followed(start + 1), "group header")
                return
            flags, size, crc = group
            end = start + GROUP_BYTES + size
            body = view[start + GROUP_BYTES : end]
            if len(body) < size or zlib.crc32(body, tail.chain) != crc:
                is_last = end >= len(data) or not flags & _SYNCED
                self._cut(start, may_be_torn and is_last, "group of records")
                return
            tail.last_group, tail.end, tail.chain = start, end, crc
            yield start, body

    def last_group_bytes(self) -> bytes:
        """The last whole group, header included; empty when there is none."""
        return self._data[self.tail.last_group : self.tail.end]

    def _group_at(self, offset: int) -> tuple[int, int, int] | None:
        """(flags, body bytes, CRC) of a group that starts at ``offset``, or None."""
        data = self._data
        if len(data) - offset < GROUP_BYTES:
            return None
        magic, flags, own_offset, size, crc = _GROUP.unpack_from(data, offset)
        if magic != _GROUP_MAGIC or own_offset != offset:
            return None
        head = data[offset : offset + _GROUP.size]
        if _crc_at(data, offset + _GROUP.size) != zlib.crc32(head, self.tail.seed):
            return None
        return flags, size, crc

    def _is_followed(self, offset: int) -> bool:
        """A later group was begun, so what lies before it had been synced."""
        while (offset := self._data.find(_GROUP_MAGIC, offset)) >= 0:
            group = self._group_at(offset)
            if group is not None:
                return bool(group[0] & _SYNCED)
            offset += 1
        return False

    def _cut(self, offset: int, is_torn: bool, what: str) -> None:
        if not is_torn:
            raise self._damaged(offset, f"a {what} is damaged")
        self.torn = len(self._data) - offset

    def _damaged(self, offset: int, what: str) -> JournalDamaged:
        return JournalDamaged(self._path, offset, what, REMEDY)


class SegmentWriter:
    """Appends groups to the last segment and begins new ones.  Used by one thread at a time.

    OSError passes through, except that a write without room raises DiskFull.
    """

    #: All segments, oldest first; the last one is written to.
    tails: list[Tail]

    def __init__(
        self,
        disk: Disk,
        directory: Path,
        tails: list[Tail],
        *,
        owner: int,
        segment_bytes: int,
        sync: bool,
    ) -> None:
        self._disk = disk
        self._directory = directory
        self._owner = owner
        self._segment_bytes = segment_bytes
        self._roll_at = segment_bytes
        self._flags = _SYNCED if sync else 0
        self.tails = tails
        self._fd = disk.open(self.path(tails[-1]), os.O_RDWR)

    @staticmethod
    def create(
        disk: Disk, directory: Path, sequence: int, previous: Tail | None, owner: int
    ) -> Tail:
        """Make an empty segment that follows ``previous``, durably.  Raises DiskFull."""
        header = _encode_header(sequence, previous, owner)
        path = directory / segment_name(sequence)
        temporary = path.with_name(path.name + ".tmp")
        try:
            fd = disk.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            try:
                write_all(disk, fd, header, 0)
            except BaseException:
                disk.close(fd)
                raise
        except OSError as error:
            if error.errno in DISK_FULL:
                raise DiskFull(f"no room for {path}") from error
            raise
        try:
            disk.datasync(fd)
        finally:
            disk.close(fd)
        disk.rename(temporary, path)
        disk.sync_directory(directory)
        chain = 0 if previous is None else previous.chain
        return Tail(sequence, HEADER_BYTES, chain, zlib.crc32(header), HEADER_BYTES)

    def path(self, tail: Tail) -> Path:
        """Where a segment lies."""
        return self._directory / segment_name(tail.sequence)

    def mend(self, reader: SegmentReader) -> None:
        """Cut what a crash left, and make sure that what was read is on the disk, not only cached.

        The last group is written again (the same bytes): if its sync failed, the kernel may hold
        its pages for clean though the disk has not got them.
        """
        tail = self.tails[-1]
        if reader.torn:
            logger.warning(
                "%s: cut %d bytes of an unfinished write at byte %d",
                self.path(tail),
                reader.torn,
                tail.end,
            )
            self._disk.truncate(self._fd, tail.end)
        write_all(self._disk, self._fd, reader.last_group_bytes(), tail.last_group)
        self._disk.datasync(self._fd)

    def append(self, records: list[bytes], index_max: int) -> None:
        """Write ``records`` as one group and sync it.  ``index_max``: of the entries among them."""
        if self.tails[-1].end >= self._roll_at:
            self._roll()
        tail = self.tails[-1]
        group = bytearray().join((bytes(GROUP_BYTES), *records))
        size = len(group) - GROUP_BYTES
        with memoryview(group) as view:
            chain = zlib.crc32(view[GROUP_BYTES:], tail.chain)
            _GROUP.pack_into(group, 0, _GROUP_MAGIC, self._flags, tail.end, size, chain)
            _CRC.pack_into(group, _GROUP.size, zlib.crc32(view[: _GROUP.size], tail.seed))
            end = self._write(tail, view)
        if self._flags & _SYNCED:
            self._disk.datasync(self._fd)
        tail.last_group, tail.end, tail.chain = tail.end, end, chain
        tail.index_max = max(tail.index_max, index_max)

    def close(self) -> None:
        """Close the last segment; nothing is synced."""
        self._disk.close(self._fd)

    def _write(self, tail: Tail, group: memoryview) -> int:
        try:
            return write_all(self._disk, self._fd, group, tail.end)
        except OSError as error:
            if error.errno not in DISK_FULL:
                raise
            self._disk.truncate(self._fd, tail.end)
            raise DiskFull(f"no room in {self.path(tail)}") from error

    def _roll(self) -> None:
        """Begin the next segment; without room for one the present one goes on."""
        tail = self.tails[-1]
        if not self._flags & _SYNCED:
            self._disk.datasync(self._fd)
        try:
            new = self.create(self._disk, self._directory, tail.sequence + 1, tail, self._owner)
        except DiskFull:
            self._roll_at = tail.end + _ROLL_RETRY_BYTES
            return
        self._disk.close(self._fd)
        self._fd = self._disk.open(self.path(new), os.O_RDWR)
        self.tails.append(new)
        self._roll_at = self._segment_bytes
