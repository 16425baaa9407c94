"""Opening a journal's directory: make it, or read it back and decide what can be trusted.

A directory is made in the order hard state, first segment, founding configuration, mark, identity;
so without an identity it was never used, and with one everything else must be there.  (Directories
of versions before there was membership have no founding configuration; it is added at the next
start, and no mark.)
"""

from __future__ import annotations

import os
import zlib
from pathlib import Path

import msgspec

from raftsched.raft.files import (
    DISK_FULL,
    REMEDY,
    Disk,
    Identity,
    JournalDamaged,
    WrongOwner,
    lock_directory,
    read_file,
    read_identity,
    remove_temporary,
    write_atomic,
    write_identity,
)
from raftsched.raft.groups import (
    ENTRY,
    HEADER_BYTES,
    RECORD,
    RESET,
    TRUNCATE,
    SegmentReader,
    SegmentWriter,
    Tail,
    segment_name,
    segment_sequences,
)
from raftsched.raft.hard_state import HardState, HardStateFile
from raftsched.raft.membership import Configuration, decode, encode

HARD_STATE = "hard-state"
CLEAN_STOP = "clean-stop"
_RESERVE = "reserve"
_MARK = "mark"
_FOUNDING = "founding"


class CleanStop(msgspec.Struct, frozen=True, array_like=True):
    """The end mark: where the journal ended when it was stopped cleanly."""

    sequence: int
    end: int
    chain: int
    hard_state_sequence: int


class Opened:
    """An open directory and what it held."""

    def __init__(self, disk: Disk, directory: Path, lock: int, peer_id: str) -> None:
        self.disk = disk
        self.peer_id = peer_id
        self.directory = directory
        self._lock = lock
        self.hard_state: HardStateFile
        self.writer: SegmentWriter
        self.entries: list[tuple[bytes, int, int]] = []
        #: The configuration before the first entry.
        self.founding = Configuration()
        #: What the directory was marked with when it was made; empty of an old one.
        self.mark = ""

    def close(self) -> None:
        """Close what was opened, the lock last."""
        for name in ("writer", "hard_state"):
            if hasattr(self, name):
                getattr(self, name).close()
        self.disk.close(self._lock)


def open_directory(
    disk: Disk,
    directory: Path,
    cluster_id: str,
    peer_id: str,
    *,
    segment_bytes: int,
    sync: bool,
    founding: Configuration,
    joins: bool,
    mark: str = "",
) -> Opened:
    """``mark``: for a directory that is made now.

    Raises DirectoryLocked, WrongOwner, JournalDamaged, OSError, DiskFull."""
    opened = Opened(disk, directory, lock_directory(disk, directory), peer_id)
    try:
        owner = Identity(cluster_id, peer_id)
        found = read_identity(disk, directory)
        if found is not None and found != owner:
            raise WrongOwner(directory, str(found), str(owner))
        remove_temporary(disk, directory)
        checksum = zlib.crc32(msgspec.msgpack.encode(owner))
        if found is None:
            _make(disk, directory, checksum)
            _write_founding(disk, directory, Configuration() if joins else founding)
            _write_checked(disk, directory / _MARK, mark.encode())
            write_identity(disk, directory, owner)
        opened.mark = _read_mark(disk, directory)
        opened.founding = _read_founding(disk, directory, founding)
        _read(opened, checksum, segment_bytes, sync)
    except BaseException:
        opened.close()
        raise
    return opened


def _make(disk: Disk, directory: Path, owner: int) -> None:
    """Make what a peer that never voted and holds nothing has; replaces an unfinished attempt."""
    names = disk.list_directory(directory)
    lost = JournalDamaged(directory / "identity", 0, "the file is missing", REMEDY)
    if HARD_STATE in names:
        hard_state = HardStateFile(disk, directory / HARD_STATE)
        hard_state.close()
        if hard_state.state.sequence > 0:
            raise lost
    for sequence in segment_sequences(names):
        path = directory / segment_name(sequence)
        if len(read_file(disk, path)) > HEADER_BYTES:
            raise lost
        disk.unlink(path)
    disk.sync_directory(directory.parent)
    HardStateFile.create(disk, directory / HARD_STATE)
    SegmentWriter.create(disk, directory, 1, None, owner)


def _read_mark(disk: Disk, directory: Path) -> str:
    if _MARK not in disk.list_directory(directory):
        return ""
    data = read_file(disk, directory / _MARK)
    if len(data) < 4 or zlib.crc32(data[4:]) != int.from_bytes(data[:4], "little"):
        raise JournalDamaged(directory / _MARK, 0, "the checksum is wrong", REMEDY)
    return data[4:].decode()


def _write_checked(disk: Disk, path: Path, body: bytes) -> None:
    write_atomic(disk, path, zlib.crc32(body).to_bytes(4, "little") + body)


def _write_founding(disk: Disk, directory: Path, configuration: Configuration) -> None:
    body = encode(configuration)
    write_atomic(disk, directory / _FOUNDING, zlib.crc32(body).to_bytes(4, "little") + body)


def _read_founding(disk: Disk, directory: Path, founding: Configuration) -> Configuration:
    """What was kept at the first start: a configuration file changed since then changes nothing."""
    path = directory / _FOUNDING
    if _FOUNDING not in disk.list_directory(directory):
        _write_founding(disk, directory, founding)
    data = read_file(disk, path)
    if len(data) < 4 or zlib.crc32(data[4:]) != int.from_bytes(data[:4], "little"):
        raise JournalDamaged(path, 0, "the checksum is wrong", REMEDY)
    return decode(data[4:])


def _read(opened: Opened, owner: int, segment_bytes: int, sync: bool) -> None:
    disk, directory = opened.disk, opened.directory
    names = disk.list_directory(directory)
    if HARD_STATE not in names:
        raise JournalDamaged(directory / HARD_STATE, 0, "the file is missing", REMEDY)
    opened.hard_state = HardStateFile(disk, directory / HARD_STATE)
    mark = read_clean_stop(disk, directory) if CLEAN_STOP in names else None
    tails, reader, replay = read_segments(disk, directory, names, owner, mark is None)
    opened.entries = replay.entries
    check_term(directory, opened.hard_state.state, replay.entries)
    if mark is not None:
        check_clean_stop(mark, directory, tails[-1], opened.hard_state.state)
    opened.writer = SegmentWriter(
        disk, directory, tails, owner=owner, segment_bytes=segment_bytes, sync=sync
    )
    opened.writer.mend(reader)
    if mark is not None:
        disk.unlink(directory / CLEAN_STOP)
        disk.sync_directory(directory)


def check_term(directory: Path, hard: HardState, entries: list[tuple[bytes, int, int]]) -> None:
    """Raises JournalDamaged if the log has a term that the hard state has not heard of."""
    last_term = max((entry[2] for entry in entries), default=0)
    if last_term > hard.term:
        raise JournalDamaged(
            directory / HARD_STATE, 0, f"term and vote are older than the log ({last_term})", REMEDY
        )


def read_segments(
    disk: Disk, directory: Path, names: list[str], owner: int, may_be_torn: bool
) -> tuple[list[Tail], SegmentReader, Replay]:
    """All segments: where each ends, the last one's reader, and the entries.

    Changes nothing.  Raises JournalDamaged; ``may_be_torn``: the end may be an unfinished write.
    """
    sequences = segment_sequences(names)
    if not sequences:
        raise JournalDamaged(directory / segment_name(1), 0, "there is no segment", REMEDY)
    tails: list[Tail] = []
    replay = Replay()
    for sequence in sequences:
        previous = tails[-1] if tails else None
        if previous is not None and sequence != previous.sequence + 1:
            missing = directory / segment_name(previous.sequence + 1)
            raise JournalDamaged(missing, 0, "the file is missing", REMEDY)
        path = directory / segment_name(sequence)
        reader = SegmentReader(disk, path, sequence, previous, owner)
        replay.index_max = 0
        for offset, body in reader.groups(may_be_torn=may_be_torn and sequence == sequences[-1]):
            if not replay.take(body):
                raise JournalDamaged(path, offset, "a group makes no sense here", REMEDY)
        reader.tail.index_max = replay.index_max
        tails.append(reader.tail)
    return tails, reader, replay


class Replay:
    """Makes the list of entries out of records."""

    def __init__(self) -> None:
        self.entries: list[tuple[bytes, int, int]] = []
        #: Highest index of an entry seen since it was last set to 0.
        self.index_max = 0
        #: Index the next entry must have; None when any will do.
        self._next: int | None = None

    def take(self, body: memoryview) -> bool:
        """One group; False if it cannot follow what came before."""
        position, size = 0, len(body)
        while position < size:
            if size - position < RECORD.size:
                return False
            kind, length, index, term = RECORD.unpack_from(body, position)
            position += RECORD.size
            if kind == ENTRY:
                if self._next not in (None, index) or position + length > size:
                    return False
                self.entries.append((bytes(body[position : position + length]), index, term))
                self._next = index + 1
                self.index_max = max(self.index_max, index)
                position += length
            elif kind == TRUNCATE:
                self._truncate(index)
            elif kind == RESET:
                self.entries.clear()
                self._next = None
            else:
                return False
        return True

    def _truncate(self, index: int) -> None:
        if self.entries:
            del self.entries[max(index - self.entries[0][1], 0) :]
        self._next = index


def read_clean_stop(disk: Disk, directory: Path) -> CleanStop:
    """The end mark, which is there.  Raises JournalDamaged."""
    path = directory / CLEAN_STOP
    data = read_file(disk, path)
    if len(data) < 4 or zlib.crc32(data[4:]) != int.from_bytes(data[:4], "little"):
        raise JournalDamaged(path, 0, "the checksum is wrong", REMEDY)
    return msgspec.msgpack.decode(data[4:], type=CleanStop)


def check_clean_stop(mark: CleanStop, directory: Path, tail: Tail, hard: HardState) -> None:
    """Raises JournalDamaged unless journal and hard state end where the mark says."""
    if mark.hard_state_sequence != hard.sequence:
        raise JournalDamaged(
            directory / HARD_STATE, 0, "term and vote are not those of the clean stop", REMEDY
        )
    if mark != CleanStop(tail.sequence, tail.end, tail.chain, hard.sequence):
        path = directory / segment_name(mark.sequence)
        raise JournalDamaged(path, mark.end, "the end is not that of the clean stop", REMEDY)


def mark_clean_stop(disk: Disk, directory: Path, tail: Tail, hard_state_sequence: int) -> None:
    """Write the end mark of a journal that ends so.  Raises OSError."""
    mark = CleanStop(tail.sequence, tail.end, tail.chain, hard_state_sequence)
    body = msgspec.msgpack.encode(mark)
    write_atomic(disk, directory / CLEAN_STOP, zlib.crc32(body).to_bytes(4, "little") + body)


def make_reserve(disk: Disk, directory: Path, size: int) -> bool:
    """Set room aside; False when the disk has not got it.  OSError of other kinds passes."""
    if size == 0:
        return True
    try:
        _allocate(disk, directory / _RESERVE, size)
    except OSError as error:
        if error.errno not in DISK_FULL:
            raise
        # A disk may be too full for the name alone.
        remove_reserve(disk, directory)
        return False
    return True


def _allocate(disk: Disk, path: Path, size: int) -> None:
    fd = disk.open(path, os.O_RDWR | os.O_CREAT)
    try:
        if disk.size(fd) < size:
            disk.allocate(fd, size)
    finally:
        disk.close(fd)


def remove_reserve(disk: Disk, directory: Path) -> None:
    """Give the room back."""
    if _RESERVE in disk.list_directory(directory):
        disk.unlink(directory / _RESERVE)
