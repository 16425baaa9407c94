"""The journal: the log above the snapshot, in memory as PySyncObj wants it and durable on disk.

Signatures first; the body follows.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import overload

from raftsched.raft.files import Disk, OsDisk

#: What PySyncObj keeps in its log: (data, index, term).
Entry = tuple[bytes, int, int]

SEGMENT_BYTES = 64 * 1024 * 1024
RESERVE_BYTES = 16 * 1024 * 1024


class JournalFailed(Exception):
    """An I/O or fsync error: what is on disk is not known any more, so the process must end."""


class Journal:
    """The replicated log of one peer: give it to PySyncObj through ``createJournal``."""

    #: Called once with the failure before ``JournalFailed`` is raised (PySyncObj swallows some).
    on_failed: Callable[[JournalFailed], None]
    #: Why nothing is written (``disk-full``), or empty.
    paused: str

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
    ) -> Journal:
        """Lock ``directory`` and read it; makes it when it is empty.

        Raises DirectoryLocked, WrongOwner (another cluster or peer), JournalDamaged, JournalFailed.
        With ``reclaim=False`` the caller runs ``reclaim()`` off the loop when ``reclaimable``.
        """
        raise NotImplementedError(disk or OsDisk())

    def align(self, previous: Entry, last: Entry) -> None:
        """Make the log continue the snapshot that ends with these two entries (S4), durably.

        To be called once after open, before PySyncObj is made.  A log that holds ``last`` keeps
        its tail; one that ends earlier or conflicts is replaced by the two entries.  Raises
        JournalDamaged when entries between the snapshot and the log are missing.  Afterwards
        ``journal[0] == previous`` and ``journal[1] == last``: hand those to PySyncObj.
        """

    # What LOG asks.
    @property
    def first_index(self) -> int:
        """Index of ``journal[0]``; 0 when empty."""
        raise NotImplementedError

    @property
    def last_index(self) -> int:
        """Index of the last entry, durable or not; 0 when empty."""
        raise NotImplementedError

    @property
    def last_term(self) -> int:
        raise NotImplementedError

    @property
    def durable_index(self) -> int:
        """Everything up to here is on disk and equal to what memory holds."""
        raise NotImplementedError

    @property
    def dirty(self) -> bool:
        """Something (entries, truncation) is not durable yet."""
        raise NotImplementedError

    @property
    def bytes_in_memory(self) -> int:
        """Bytes of the entries held, for snapshot thresholds."""
        raise NotImplementedError

    def term_at(self, index: int) -> int | None:
        """Term of the entry at ``index``, None when the log does not hold it."""
        raise NotImplementedError

    # Durability.
    def sync(self) -> None:
        """One write and one fdatasync of everything pending; then durable_index == last_index.

        A full disk does not raise: it sets ``paused``, and nothing more is written until
        ``try_resume``.  Raises JournalFailed.
        """

    def begin_sync(self) -> Callable[[], None] | None:
        """The same in three steps: on the loop take what is pending (None: nothing to do) ...

        ... run the returned function in a thread while the loop goes on adding ...
        """
        raise NotImplementedError

    def finish_sync(self) -> None:
        """... and on the loop again account for it.  One sync at a time."""

    def try_resume(self) -> bool:
        """Try to leave a pause: remake the reserve, write what is pending.  True: not paused."""
        raise NotImplementedError

    @property
    def reclaimable(self) -> bool:
        """Whole segments wait to be unlinked."""
        raise NotImplementedError

    def reclaim(self) -> None:
        """Unlink segments no longer needed.  May run in a thread beside everything else."""

    def close(self, clean: bool = True) -> None:
        """Stop.  ``clean`` syncs and writes the end mark.  Idempotent."""

    # What PySyncObj asks.
    def add(self, command: bytes, idx: int, term: int) -> None: ...
    def clear(self) -> None: ...
    def deleteEntriesFrom(self, entryFrom: int) -> None: ...
    def deleteEntriesTo(self, entryTo: int) -> None: ...
    @overload
    def __getitem__(self, item: int) -> Entry: ...
    @overload
    def __getitem__(self, item: slice) -> list[Entry]: ...
    def __getitem__(self, item: int | slice) -> Entry | list[Entry]:
        raise NotImplementedError

    def __len__(self) -> int:
        raise NotImplementedError

    def _destroy(self) -> None: ...
    def setRaftCommitIndex(self, raftCommitIndex: int) -> None: ...
    def getRaftCommitIndex(self) -> int:
        """Index of the snapshot aligned to, at least 1: a commit index on disk is not trusted."""
        raise NotImplementedError

    def setCurrentTerm(self, term: int, votedForNodeId: str | None) -> None:
        """Durable when it returns."""

    def getCurrentTerm(self) -> int:
        raise NotImplementedError

    def getVotedForNodeId(self) -> str | None:
        raise NotImplementedError

    def onOneSecondTimer(self) -> None: ...
