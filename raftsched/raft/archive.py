"""The log of a stopped peer, read as a start reads it, and nothing on the disk changed.

Rules
1. Nothing is written: a torn last write is passed over and not cut, a draft or a damaged copy of
   the hard state stays as it is.  Only the lock is held, if the directory has one.
2. What a start would refuse is refused, and so is a snapshot that is damaged, though a start may
   do without it.
3. It begins with the oldest snapshot that the journal reaches back to, or with nothing at all:
   that is the most of the log there is (`journal`, rule 3).
4. Entries that the newest snapshot contradicts, or that lie before a gap below it, were never
   committed, or nobody knows: the archive then begins with that snapshot.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from pathlib import Path

import msgspec

from raftsched.raft.files import (
    REMEDY,
    Disk,
    Identity,
    JournalDamaged,
    OsDisk,
    StorageError,
    lock_existing,
    read_identity,
)
from raftsched.raft.hard_state import read_hard_state
from raftsched.raft.membership import CONFIGURATION, Configuration, decode
from raftsched.raft.opening import (
    CLEAN_STOP,
    HARD_STATE,
    check_clean_stop,
    check_term,
    read_clean_stop,
    read_segments,
)
from raftsched.raft.snapshot import Snapshot, SnapshotStore

#: First byte of an entry for the state machine.
_COMMAND = b"\0"


class NoArchive(StorageError):
    """This directory is not that of a peer that ever ran."""


class Archived(msgspec.Struct, frozen=True):
    """An entry of the log; with neither of the two a leader began its term with it."""

    index: int
    term: int
    #: What the state machine is given.
    command: bytes | None
    #: The members from here on.
    configuration: Configuration | None


class Archive:
    """An open directory; `close` it."""

    identity: Identity
    #: The latest term that the peer knows of.
    term: int
    #: Bytes of an unfinished write at the end of the journal.
    torn_bytes: int
    #: What it begins with; None: with nothing.
    base: Snapshot | None
    #: Index of the newest snapshot: up to there everything is committed; 0: there is none.
    committed_index: int
    #: Index of the last entry, or of the base when there is none behind it.
    last_index: int

    def __init__(self, data_dir: Path, disk: Disk | None = None) -> None:
        """``data_dir`` has the journal and the snapshots.  Takes the memory that a start takes.

        Raises StorageError (NoArchive, DirectoryLocked and Damaged among them) and OSError.
        """
        self._disk = disk or OsDisk()
        self._directory = data_dir / "journal"
        try:
            names = self._disk.list_directory(self._directory)
        except OSError as error:
            raise NoArchive(f"{self._directory} cannot be read: {error.strerror}") from None
        if "identity" not in names:
            raise NoArchive(f"{self._directory} is not that of a peer that ever ran")
        self._lock = lock_existing(self._disk, self._directory)
        try:
            identity = read_identity(self._disk, self._directory)
            assert identity is not None
            self.identity = identity
            self._entries = self._read_journal(names)
            self._begin(data_dir / "snapshots")
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Let go of the directory.  Idempotent."""
        if self._lock is not None:
            self._disk.close(self._lock)
            self._lock = None

    @property
    def base_index(self) -> int:
        """Index of the snapshot it begins with; 0: it begins with nothing."""
        return 0 if self.base is None else self.base.meta.index

    def snapshot_chunks(self) -> Iterator[bytes]:
        """The state to begin with; none when it begins with nothing.  Raises SnapshotDamaged."""
        if self.base is not None:
            yield from self._store.read(self.base)

    def entries(self) -> Iterator[Archived]:
        """The entries behind the base, in order.  They are let go of as they are drawn."""
        self._entries.reverse()
        while self._entries:
            data, index, term = self._entries.pop()
            kind = data[:1]
            command = data[1:] if kind == _COMMAND else None
            yield Archived(index, term, command, decode(data) if kind == CONFIGURATION else None)

    def _read_journal(self, names: list[str]) -> list[tuple[bytes, int, int]]:
        disk, directory = self._disk, self._directory
        if HARD_STATE not in names:
            raise JournalDamaged(directory / HARD_STATE, 0, "the file is missing", REMEDY)
        hard_state = read_hard_state(disk, directory / HARD_STATE)
        mark = read_clean_stop(disk, directory) if CLEAN_STOP in names else None
        owner = zlib.crc32(msgspec.msgpack.encode(self.identity))
        tails, reader, replay = read_segments(disk, directory, names, owner, mark is None)
        check_term(directory, hard_state, replay.entries)
        if mark is not None:
            check_clean_stop(mark, directory, tails[-1], hard_state)
        self.term, self.torn_bytes = hard_state.term, reader.torn
        return replay.entries

    def _begin(self, directory: Path) -> None:
        """Choose the base, and leave only the entries behind it."""
        snapshots = self._read_snapshots(directory)
        self.committed_index = snapshots[-1].meta.index if snapshots else 0
        self.base = self._oldest_base(snapshots)
        keep_from = self.base_index + 1
        first = self._entries[0][1] if self._entries else keep_from
        if first > keep_from:
            what = f"entries {keep_from} to {first - 1} are missing, and no snapshot has them"
            raise JournalDamaged(self._directory, 0, what, REMEDY)
        if snapshots and not self._agrees_with(snapshots[-1]):
            self._entries.clear()
        del self._entries[: keep_from - first]
        self.last_index = self._entries[-1][1] if self._entries else self.base_index

    def _read_snapshots(self, directory: Path) -> tuple[Snapshot, ...]:
        """All of them, oldest first, each read through."""
        self._store = SnapshotStore.look(
            directory, cluster_id=self.identity.cluster_id, disk=self._disk
        )
        snapshots = self._store.published
        for snapshot in snapshots:
            self._store.verify(snapshot.path)
        if snapshots and self.term < snapshots[-1].meta.term:
            what = f"term and vote are older than the snapshot of term {snapshots[-1].meta.term}"
            raise JournalDamaged(self._directory / HARD_STATE, 0, what, REMEDY)
        return snapshots

    def _oldest_base(self, snapshots: tuple[Snapshot, ...]) -> Snapshot | None:
        if not snapshots:
            return None
        newest = snapshots[-1]
        if not self._agrees_with(newest):
            return newest
        if self._entries[0][1] == 1:
            return None
        return next(snapshot for snapshot in snapshots if self._agrees_with(snapshot))

    def _agrees_with(self, snapshot: Snapshot) -> bool:
        """The journal goes on from the snapshot's end, or holds its last entry."""
        if not self._entries:
            return False
        index, first = snapshot.meta.index, self._entries[0][1]
        if first == index + 1:
            return True
        position = index - first
        is_there = 0 <= position < len(self._entries)
        return is_there and self._entries[position][2] == snapshot.meta.term
