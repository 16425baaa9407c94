"""Compaction: a snapshot of the state is written beside the loop, then the journal is trimmed.

PySyncObj trims it, once `outcome` says that the snapshot is durable; the segments that hold nothing
needed any more are unlinked in a thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterable

from raftsched.raft.files import SnapshotDamaged
from raftsched.raft.journal import Entry, Journal, JournalFailed
from raftsched.raft.loading import off_loop
from raftsched.raft.log import StateMachine
from raftsched.raft.membership import Configuration
from raftsched.raft.snapshot import Snapshot, SnapshotFailed, SnapshotStore
from raftsched.raft.snapshot_file import SnapshotMeta

logger = logging.getLogger(__name__)

#: A disk that is full stays so: what is tried again and again is told this often.
REPEAT_SECONDS = 60.0


class Compaction:
    """The one snapshot that is being written, if any."""

    def __init__(
        self,
        machine: StateMachine,
        store: SnapshotStore,
        cluster_id: str,
        on_fatal: Callable[[BaseException], None],
    ) -> None:
        self._machine = machine
        self._store = store
        self._cluster_id = cluster_id
        self._on_fatal = on_fatal
        self._task: asyncio.Task[None] | None = None
        self._reclaiming: asyncio.Task[None] | None = None
        self._proving: asyncio.Task[None] | None = None
        #: Called when the newest snapshot proved damaged and was set aside.
        self.on_damaged: Callable[[], None] = lambda: None
        self._outcome: bool | None = None
        #: When a failure was told last, in the loop's seconds; None: the last one succeeded.
        self._told_at: float | None = None

    @property
    def is_writing(self) -> bool:
        """A snapshot is on its way."""
        return self._task is not None

    def begin(self, previous: Entry, last: Entry, configuration: Configuration) -> None:
        """Freeze the state, which ends with these two entries, and write it in a thread.

        ``configuration`` is the one in force at ``last``.
        """
        meta = SnapshotMeta(self._cluster_id, previous, last, configuration=configuration)
        chunks = self._machine.begin_snapshot()
        self._outcome = None
        self._task = asyncio.create_task(self._write(meta, chunks))

    async def _write(self, meta: SnapshotMeta, chunks: Iterable[bytes]) -> None:
        try:
            draft = await off_loop(lambda: self._store.write(meta, chunks))
            self._store.publish(draft)
            self._outcome = True
            self._told_at = None
            logger.info("snapshot at index %d", meta.index)
            await off_loop(self._store.prune)
        except SnapshotFailed as error:
            self._tell(error)
            self._outcome = False
        except Exception as error:
            self._on_fatal(error)
        finally:
            self._machine.end_snapshot()
            self._task = None

    def doubt(self) -> None:
        """A follower says that the newest snapshot is damaged: read it, in a thread."""
        latest = self._store.latest()
        if latest is not None and self._proving is None:
            self._proving = asyncio.create_task(self._prove(latest))

    async def _prove(self, snapshot: Snapshot) -> None:
        try:
            await off_loop(lambda: self._store.verify(snapshot.path))
        except SnapshotDamaged as error:
            logger.error("%s", error)
            self._store.set_aside(snapshot)
            self.on_damaged()
        except OSError as error:
            logger.error("%s cannot be read: %s", snapshot.path, error)
        finally:
            self._proving = None

    def _tell(self, error: SnapshotFailed) -> None:
        now = asyncio.get_running_loop().time()
        if self._told_at is None or now - self._told_at >= REPEAT_SECONDS:
            self._told_at = now
            logger.error("no snapshot: %s", error)

    def outcome(self) -> bool | None:
        """Once after one was written: whether it is durable, so that the journal may go."""
        outcome, self._outcome = self._outcome, None
        return outcome

    def reclaim(self, journal: Journal) -> None:
        """Unlink what the journal gave up, if anything."""
        if journal.reclaimable and self._reclaiming is None:
            self._reclaiming = asyncio.create_task(self._reclaim(journal))

    async def _reclaim(self, journal: Journal) -> None:
        with contextlib.suppress(JournalFailed):  # The journal has told its ``on_failed``.
            await off_loop(journal.reclaim)
        self._reclaiming = None

    async def close(self) -> None:
        """Wait for what is under way."""
        tasks = (self._task, self._reclaiming, self._proving)
        under_way = [task for task in tasks if task is not None]
        await asyncio.gather(*under_way, return_exceptions=True)
