"""The journal: the log above the snapshot, in memory as PySyncObj wants it and durable on disk.

Owns one locked directory: ``lock``, ``identity``, ``founding``, ``hard-state``, the segments,
``reserve`` and, after a clean stop, ``clean-stop``.

Rules
1. An entry counts, here or to anybody, up to ``durable_index`` only.  Memory may be ahead of it.
2. Nothing on disk is trusted further than it can be checked: a torn last group is cut, any other
   damage refuses, and the commit index is not stored at all (S7).
3. Segments go once a snapshot made *before the last one* covers them: until then the previous
   snapshot and the journal can still rebuild the state, should the last snapshot be damaged.
4. No room on the disk is a pause.  Any other error, and any error of a sync, is the end: the kernel
   may have thrown the pages away, so a second sync that succeeds would prove nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn, overload

from raftsched.raft import opening
from raftsched.raft.files import DISK_FULL, REMEDY, Disk, JournalDamaged, OsDisk
from raftsched.raft.groups import ENTRY, RECORD, RESET, TRUNCATE, DiskFull
from raftsched.raft.log import SafetyViolation
from raftsched.raft.membership import Configuration, Membership
from raftsched.raft.opening import Opened, make_reserve, mark_clean_stop, remove_reserve
from raftsched.raft.pending import Group, Pending
from raftsched.raft.retention import Retention

logger = logging.getLogger(__name__)

#: What PySyncObj keeps in its log: (data, index, term).
Entry = tuple[bytes, int, int]

#: A segment that has grown to this is followed by a new one.
SEGMENT_BYTES = 64 * 1024 * 1024
#: Kept free for compaction to work with once the disk is full; 0 keeps none.
RESERVE_BYTES = 16 * 1024 * 1024
#: Commands PySyncObj would unpickle: MEMBERSHIP and VERSION.  They never enter the log.
_REFUSED_COMMANDS = frozenset({b"\x02", b"\x03"})
_DISK_FULL = "disk-full"
#: A start reads everything again, checksums and all, so one more is safe.
_DISK_REMEDY = (
    "look at the disk (the kernel's log), and start this peer once when it is well; if it ends "
    "like this again, replace it by one with a new id (docs/operations/damage.md)"
)


class JournalFailed(Exception):
    """An I/O or fsync error: what is on disk is not known any more, so the process must end."""

    exit_code = 70


class Journal:
    """The replicated log of one peer: give it to PySyncObj through ``createJournal``.

    For one thread, except where a method says otherwise.
    """

    #: Called once with the failure before it is raised (PySyncObj swallows some).
    on_failed: Callable[[JournalFailed | SafetyViolation], None]
    #: Why nothing is written (``disk-full``), or empty.
    paused: str
    #: Groups synced since the start.
    syncs: int
    #: Who is in the group, as the entries say.
    membership: Membership

    def __init__(self, opened: Opened, *, reserve_bytes: int, reclaim: bool) -> None:
        self._opened = opened
        self._disk = opened.disk
        self._directory = opened.directory
        self._writer = opened.writer
        self._hard_state = opened.hard_state
        self._reserve_bytes = reserve_bytes
        self._reclaims_itself = reclaim
        self._entries = opened.entries
        #: What the directory was marked with when it was made; empty of an old one.
        self.mark = opened.mark
        self.membership = Membership(opened.peer_id, opened.founding)
        for data, index, _ in self._entries:
            self.membership.appended(index, data)
        self._retention = Retention(opened.disk, opened.directory, opened.writer)
        self._pending = Pending()
        self._group: Group | None = None
        self._durable_index = self.last_index
        #: What the last compaction left as the first index; segments below go at the next (rule 3).
        self._floor = 0
        self._commit_index = 1
        self._failed: JournalFailed | SafetyViolation | None = None
        self._is_closed = False
        self.on_failed = _ignore
        self.paused = ""
        self.syncs = 0

    @classmethod
    def open(
        cls,
        directory: Path,
        *,
        cluster_id: str,
        peer_id: str,
        segment_bytes: int = SEGMENT_BYTES,
        reserve_bytes: int = RESERVE_BYTES,
        sync: bool = True,
        reclaim: bool = True,
        disk: Disk | None = None,
        founding: Configuration | None = None,
        mark: str = "",
        joins: bool = False,
    ) -> Journal:
        """Lock ``directory`` and read it; makes it when it is empty.

        ``mark`` is for a directory that is made now: no other one has it (`acquaintances`).
        ``founding`` is kept at the first start, and is the configuration until an entry or a
        snapshot has one; with ``joins`` the first start of an empty directory keeps an empty one.

        Raises DirectoryLocked, WrongOwner (another cluster or peer), JournalDamaged, JournalFailed.
        With ``reclaim=False`` the caller runs ``reclaim()`` off the loop when ``reclaimable``.
        ``sync=False`` gives up durability (for ``dev`` and benchmarks): no fdatasync of entries.
        """
        disk = disk or OsDisk()
        try:
            opened = opening.open_directory(
                disk,
                directory,
                cluster_id,
                peer_id,
                segment_bytes=segment_bytes,
                sync=sync,
                founding=founding or Configuration(),
                joins=joins,
                mark=mark,
            )
            journal = cls(opened, reserve_bytes=reserve_bytes, reclaim=reclaim)
            if not make_reserve(disk, directory, reserve_bytes):
                journal._pause()
        except (OSError, DiskFull) as error:
            raise JournalFailed(f"{directory} cannot be opened: {error}") from error
        return journal

    def align(
        self,
        previous: Entry,
        last: Entry,
        configuration: Configuration | None = None,
        kept_from: int | None = None,
    ) -> None:
        """Make the log continue the snapshot that ends with these two entries (S4), durably.

        ``configuration`` is the one in force at its end; None: the snapshot does not say.
        ``kept_from``: index of an older snapshot; the segments behind it stay, for the next start.

        To be called once after open, before PySyncObj is made.  A log that holds ``last`` keeps
        its tail; one that ends earlier or conflicts is replaced by the two entries.  Raises
        JournalDamaged when entries between the snapshot and the log are missing.  Afterwards
        ``journal[0] == previous`` and ``journal[1] == last``: hand those to PySyncObj.
        """
        index, term = last[1], last[2]
        if self._hard_state.state.term < term:
            raise self._incomplete(f"term and vote are older than the snapshot of term {term}")
        if self._entries and self.first_index > index + 1:
            raise self._incomplete(
                f"entries {index + 1} to {self.first_index - 1}, "
                "between the snapshot and the log, are missing"
            )
        self.membership.rebase(index, configuration)
        follows = self.first_index == index + 1
        if follows or self.term_at(index) == term:
            if self.term_at(previous[1]) not in (None, previous[2]):
                raise self._incomplete(f"entry {previous[1]} is not the one of the snapshot")
            # What memory lacks of the two is in the snapshot, so the disk need not hold it.
            self._entries[: max(index + 1 - self.first_index, 0)] = [previous, last]
            self._durable_index = max(self._durable_index, index)
        else:
            self.clear()
            self.add(*previous)
            self.add(*last)
            self.sync()
        self._commit_index = max(self._commit_index, index)
        self._floor = previous[1]
        self._release(self._floor if kept_from is None else min(kept_from, self._floor))

    def expect_whole(self) -> None:
        """To be called instead of ``align`` without a snapshot: raises JournalDamaged if the log
        does not begin at 1, that is, if it needs a snapshot that is lost."""
        if self.first_index > 1:
            raise self._incomplete(f"there is no snapshot of the entries before {self.first_index}")

    # What our side asks.

    @property
    def first_index(self) -> int:
        """Index of ``journal[0]``; 0 when empty."""
        return self._entries[0][1] if self._entries else 0

    @property
    def last_index(self) -> int:
        """Index of the last entry, durable or not; 0 when empty."""
        return self._entries[-1][1] if self._entries else 0

    @property
    def last_term(self) -> int:
        """Term of the last entry; 0 when empty."""
        return self._entries[-1][2] if self._entries else 0

    @property
    def durable_index(self) -> int:
        """Everything up to here is on disk and equal to what memory holds."""
        return self._durable_index

    @property
    def dirty(self) -> bool:
        """Something (entries, truncation) is not durable yet."""
        return bool(self._pending) or self._group is not None

    @property
    def pending_bytes(self) -> int:
        """What waits in memory to be written takes so much there, about."""
        return self._pending.memory_bytes

    @property
    def bytes_on_disk(self) -> int:
        """Bytes of all segments still needed."""
        return self._retention.bytes_needed

    @property
    def bytes_behind_snapshot(self) -> int:
        """Bytes of the segments with entries that the newest snapshot does not cover."""
        return self._retention.bytes_from(self.first_index)

    def term_at(self, index: int) -> int | None:
        """Term of the entry at ``index``, None when the log does not hold it."""
        entries = self._entries
        if not entries:
            return None
        position = index - entries[0][1]
        return entries[position][2] if 0 <= position < len(entries) else None

    # Durability.

    def sync(self) -> bool:
        """One write and one fdatasync of everything pending; then durable_index == last_index.

        A full disk does not raise: it sets ``paused``, nothing more is written until
        ``try_resume``, and the answer is False while something is pending.  Raises JournalFailed.
        """
        run = self.begin_sync()
        if run is not None:
            run()
            self.finish_sync()
        return not self.dirty

    def begin_sync(self) -> Callable[[], None] | None:
        """The same in three steps: on the loop take what is pending (None: nothing to do) ...

        ... run the returned function in a thread while the loop goes on adding ...
        """
        self._check()
        assert self._group is None, "one sync at a time"
        if self.paused or not self._pending:
            return None
        group = self._group = self._pending.take(self.last_index)

        def run() -> None:
            try:
                self._writer.append(group.records, group.index_max)
            except DiskFull:
                group.is_full = True
            except OSError as error:
                group.error = error

        return run

    def finish_sync(self) -> None:
        """... and on the loop again account for it.  Raises JournalFailed."""
        self._check()
        group, self._group = self._group, None
        assert group is not None, "no sync was begun"
        if group.error is not None:
            self._fail(f"the journal in {self._directory} cannot be written: {group.error}")
        if group.is_full:
            self._pending.put_back(group)
            self._pause()
            return
        self._durable_index = group.durable_index
        self.syncs += 1
        if group.holds_reset:
            self._retention.release_before_last()
            self._reclaim_now()

    def try_resume(self) -> bool:
        """Try to leave a pause: remake the reserve, write what is pending.  True: not paused.

        The reserve comes first: without room for it the next pause would find nothing to free.
        """
        self._check()
        if not self.paused:
            return True
        try:
            if not make_reserve(self._disk, self._directory, self._reserve_bytes):
                return False
        except OSError as error:
            self._fail(f"the reserve in {self._directory} cannot be made: {error}")
        self.paused = ""
        self.sync()
        if not self.paused:
            logger.warning("%s has room again; writing goes on", self._directory)
        return not self.paused

    @property
    def reclaimable(self) -> bool:
        """Whole segments wait to be unlinked."""
        return bool(self._retention.unlinkable)

    def reclaim(self) -> None:
        """Unlink segments no longer needed.  May run in a thread beside everything else.

        Raises JournalFailed.
        """
        try:
            self._retention.unlink()
        except OSError as error:
            self._fail(f"{self._retention.unlinkable[0]} cannot be removed: {error}")

    def close(self, clean: bool = True) -> None:
        """Stop.  ``clean`` syncs and writes the end mark.  Idempotent.  May raise JournalFailed."""
        if self._is_closed:
            return
        try:
            if clean and self._failed is None:
                if self._group is not None:
                    self.finish_sync()
                self.sync()
                if not self.dirty:
                    self._mark_clean_stop()
        finally:
            self._is_closed = True
            self._opened.close()

    # What PySyncObj asks.

    def add(self, command: bytes, idx: int, term: int) -> None:
        """Append an entry; durable after the next sync.  Raises SafetyViolation."""
        entries = self._entries
        if entries and idx != entries[-1][1] + 1:
            self._end(SafetyViolation(f"entry {idx} was to follow entry {self.last_index}"))
        if term > self.getCurrentTerm() and idx != 1:
            what = f"entry {idx} is of term {term}, the newest known is {self.getCurrentTerm()}"
            self._end(SafetyViolation(what))
        if command[:1] in _REFUSED_COMMANDS:
            raise ValueError("the log takes no MEMBERSHIP and no VERSION command")
        self.membership.appended(idx, command)
        entries.append((command, idx, term))
        self._pending.add(RECORD.pack(ENTRY, len(command), idx, term), command, entry=idx)

    def clear(self) -> None:
        """Drop all entries: those of a snapshot that is durable follow."""
        if self._entries:
            self.membership.cut_from(self.first_index)
        self._entries.clear()
        self._lower_durable_index(0)
        self._pending.add_reset(RECORD.pack(RESET, 0, 0, 0))

    def deleteEntriesFrom(self, entryFrom: int) -> None:
        """Drop the entries at position ``entryFrom`` and behind: the leader has others.

        Raises SafetyViolation if any is committed.
        """
        if entryFrom >= len(self._entries):
            return
        index = self._entries[entryFrom][1]
        if index <= self._commit_index:
            committed = f"entry {index} is committed (up to {self._commit_index})"
            self._end(SafetyViolation(f"{committed} and was to be cut from {self._directory}"))
        del self._entries[entryFrom:]
        self.membership.cut_from(index)
        self._lower_durable_index(index - 1)
        self._pending.add(RECORD.pack(TRUNCATE, 0, index, 0))

    def deleteEntriesTo(self, entryTo: int) -> None:
        """Drop the entries before position ``entryTo``: a durable snapshot covers them."""
        if entryTo <= 0 or not self._entries:
            return
        following = self.last_index + 1
        del self._entries[:entryTo]
        floor = self.first_index or following
        self.membership.compacted(floor)
        self._release(floor if self.paused else self._floor)
        self._floor = floor

    @overload
    def __getitem__(self, item: int) -> Entry: ...
    @overload
    def __getitem__(self, item: slice) -> list[Entry]: ...
    def __getitem__(self, item: int | slice) -> Entry | list[Entry]:
        return self._entries[item]

    def __len__(self) -> int:
        return len(self._entries)

    def _destroy(self) -> None:
        self.close()

    def setRaftCommitIndex(self, raftCommitIndex: int) -> None:
        """Remembered to refuse a truncation below it; never stored."""
        self._commit_index = max(self._commit_index, raftCommitIndex)

    def getRaftCommitIndex(self) -> int:
        """After open: index of the snapshot aligned to, at least 1."""
        return self._commit_index

    def setCurrentTerm(self, term: int, votedForNodeId: str | None) -> None:
        """Durable when it returns.  Raises JournalFailed, or SafetyViolation."""
        self._check()
        try:
            self._hard_state.save(term, votedForNodeId)
        except SafetyViolation as error:
            self._end(error)
        except OSError as error:
            self._fail(f"term and vote in {self._directory} cannot be written: {error}")

    def getCurrentTerm(self) -> int:
        """The term stored last."""
        return self._hard_state.state.term

    def getVotedForNodeId(self) -> str | None:
        """The vote in that term."""
        return self._hard_state.state.vote

    def onOneSecondTimer(self) -> None:
        """Nothing happens by time: who owns the journal calls `try_resume`."""

    # Inside.

    def _lower_durable_index(self, index: int) -> None:
        self._durable_index = min(self._durable_index, index)
        if self._group is not None:
            self._group.durable_index = min(self._group.durable_index, index)

    def _release(self, floor: int) -> None:
        self._retention.release(floor)
        self._reclaim_now()

    def _reclaim_now(self) -> None:
        if self._reclaims_itself and self.reclaimable:
            self.reclaim()

    def _pause(self) -> None:
        logger.error("%s is full; nothing is written until there is room", self._directory)
        self.paused = _DISK_FULL
        try:
            remove_reserve(self._disk, self._directory)
        except OSError as error:
            self._fail(f"the reserve in {self._directory} cannot be removed: {error}")

    def _mark_clean_stop(self) -> None:
        tail, sequence = self._writer.tails[-1], self._hard_state.state.sequence
        try:
            mark_clean_stop(self._disk, self._directory, tail, sequence)
        except OSError as error:
            if error.errno not in DISK_FULL:
                self._fail(f"the end mark in {self._directory} cannot be written: {error}")
            logger.warning("%s is full: stopped without the end mark", self._directory)

    def _check(self) -> None:
        if self._failed is not None:
            raise self._failed
        if self._is_closed:
            raise JournalFailed(f"the journal in {self._directory} is closed")

    def _fail(self, what: str) -> NoReturn:
        """The disk failed."""
        self._end(JournalFailed(f"{what}; {_DISK_REMEDY}"))

    def _end(self, why: JournalFailed | SafetyViolation) -> NoReturn:
        if self._failed is None:
            self._failed = why
            logger.critical("%s", why)
            self.on_failed(why)
        raise self._failed

    def _incomplete(self, what: str) -> JournalDamaged:
        return JournalDamaged(self._writer.path(self._writer.tails[0]), 0, what, REMEDY)


def _ignore(failure: JournalFailed | SafetyViolation) -> None:
    pass
