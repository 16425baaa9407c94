"""Installing a snapshot of the leader: collected, proven, loaded, and swapped in at one stroke.

While it is on its way this peer is a follower like any other: it answers heartbeats and votes, and
serves the state it has.  Nothing of the log changes before the swap, and at the swap:

1. A snapshot whose last entry the log holds is not needed: what follows that entry here may have
   been acknowledged, and counts (S9).
2. The state, the published file and the log change in one turn of the loop.
3. Only then, and once the log is durable, is the leader told.

A snapshot that does not prove right is refused, and asked for again.  Of one whose connection broke
what has arrived is kept: should the same begin to come again, its sender is told to go on from
there.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from raftsched.raft.engine import Engine
from raftsched.raft.files import SnapshotDamaged, StorageError
from raftsched.raft.filter import keep_alive, position
from raftsched.raft.journal import Journal
from raftsched.raft.loading import Abandoned, Loader, Placing, off_loop
from raftsched.raft.log import SafetyViolation
from raftsched.raft.snapshot import Incoming, SnapshotFailed, SnapshotStore
from raftsched.raft.snapshot_file import SnapshotMeta

logger = logging.getLogger(__name__)

#: What arrived of a transfer that was broken off takes room on the disk for no longer than this.
KEPT_SECONDS = 300.0
#: A transfer of which nothing came for so long is not under way, as far as others are told.
STALLED_SECONDS = 2.0


class _Source(NamedTuple):
    """Where a snapshot comes from: one transfer."""

    peer_id: str
    term: int
    number: int


class _Gap(Exception):
    """A piece does not follow what is here."""


class Installer:
    """The follower's side of a transfer (`laggards` has the leader's)."""

    def __init__(
        self,
        engine: Engine,
        journal: Journal,
        store: SnapshotStore,
        loader: Loader,
        send: Callable[[str, dict[str, Any]], bool],
        on_fatal: Callable[[BaseException], None],
        now: Callable[[], float],
    ) -> None:
        """``now``: monotonic seconds."""
        self._engine = engine
        self._journal = journal
        self._store = store
        self._loader = loader
        self._send = send
        self._on_fatal = on_fatal
        self._now = now
        self._piece_at = 0.0
        self._source = _Source("", 0, 0)
        self._incoming: Incoming | None = None
        #: Up to where, in bytes, pieces of this transfer have come; those that are in `_incoming`
        #: already, from the transfer before, are passed over.
        self._position = 0
        #: What arrived of a transfer whose connection broke, and whose it was.
        self._kept: tuple[str, Incoming] | None = None
        self._forget: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None
        self._closed = False
        #: A whole snapshot is proven or loaded: the leader should wait rather than begin anew.
        self.is_busy = False

    @property
    def is_under_way(self) -> bool:
        """A snapshot is on its way here, or being loaded."""
        is_coming = self._incoming is not None and self._is_leaders(self._source)
        # A leader that sends the log after all leaves behind what has arrived.
        return self.is_busy or (is_coming and self._now() - self._piece_at < STALLED_SECONDS)

    def piece(self, peer_id: str, message: dict[str, Any]) -> None:
        """A piece arrived, with the news that its sender leads."""
        engine, term = self._engine, message["term"]
        if term < engine.term:
            self._send(peer_id, {"type": "term_hint", "term": engine.term})
            return
        engine.follow(peer_id, term, min(message["commit_index"], engine.commit_index))
        self._send(peer_id, keep_alive(engine.term))
        if len(message["serialized"]) != 4:
            raise TypeError("a piece of a snapshot has four parts")
        data, where, is_last, number = message["serialized"]
        source, is_first = _Source(peer_id, term, number), where is True
        if self.is_busy:
            if is_first:
                self._end(source)
            return
        if is_first:
            self._begin(source, data)
        if self._incoming is None or self._source != source:
            if not is_first:
                self._end(source)
            return
        try:
            self._add(self._incoming, data, self._position if isinstance(where, bool) else where)
        except SnapshotFailed as error:
            self._incoming = None
            self._refuse(source, error)
            return
        except _Gap as error:
            self._drop()
            self._refuse(source, error)
            return
        if is_last:
            incoming, self._incoming = self._incoming, None
            self.is_busy = True
            self._task = asyncio.create_task(self._install(source, incoming))

    def _begin(self, source: _Source, data: bytes) -> None:
        """A transfer begins with ``data``; perhaps it is one that was broken off."""
        kept, self._kept = self._kept, None
        self._drop()
        self._source, self._position = source, 0
        try:
            if kept is not None and kept[0] == source.peer_id and kept[1].begins_with(data):
                self._incoming = kept[1]
                offset = self._incoming.offset
                logger.info("the snapshot of %s goes on at byte %d", source.peer_id, offset)
                have = {"type": "snapshot_have", "number": source.number, "offset": offset}
                self._send(source.peer_id, have)
                return
            if kept is not None:
                _remove(kept[1])
            self._incoming = self._store.receive()
        except SnapshotFailed as error:
            self._refuse(source, error)

    def _add(self, incoming: Incoming, data: bytes, position: int) -> None:
        """Bytes from ``position`` on.  Raises SnapshotFailed or _Gap."""
        if not 0 <= position <= incoming.offset:
            raise _Gap(f"a piece at byte {position} came behind byte {incoming.offset}")
        incoming.add(data[incoming.offset - position :])
        self._position = position + len(data)
        self._piece_at = self._now()

    def _refuse(self, source: _Source, error: Exception) -> None:
        logger.error("no snapshot from %s: %s", source.peer_id, error)
        self._end(source, damaged=isinstance(error, SnapshotDamaged))

    def _end(self, source: _Source, *, damaged: bool = False) -> None:
        """The leader need not wait for us any more; if we still lack entries, it will hear so.

        ``damaged``: what came does not prove right; it should look at its own.
        """
        end = {"type": "snapshot_end", "number": source.number, "damaged": damaged}
        self._send(source.peer_id, end)

    def _drop(self) -> None:
        """Forget what has arrived."""
        incoming, self._incoming = self._incoming, None
        if incoming is not None:
            _remove(incoming)
        self._drop_kept()

    async def _install(self, source: _Source, incoming: Incoming) -> None:
        try:
            await self._prove_and_load(source, incoming)
        except (StorageError, SnapshotFailed) as error:
            self._refuse(source, error)
        except Abandoned:
            logger.info("stopped while a snapshot was loaded")
        except Exception as error:
            self._on_fatal(error)
        finally:
            self._engine.is_held = False
            self.is_busy = False

    async def _prove_and_load(self, source: _Source, incoming: Incoming) -> None:
        draft, meta = await off_loop(incoming.finish)
        try:
            if self._is_wanted(source, meta):
                self._engine.is_held = True
                put_in_place = await self._loader.load(meta.index, self._store.read_draft(draft))
                if self._is_wanted(source, meta):
                    self._swap(source, draft, meta, put_in_place)
                    return
        except StorageError:
            await off_loop(lambda: self._store.discard(draft))
            raise
        await off_loop(lambda: self._store.discard(draft))

    def _swap(
        self, source: _Source, draft: Path, meta: SnapshotMeta, put_in_place: Placing
    ) -> None:
        """From here on this peer is at the snapshot.  What fails in between must end the process.

        A machine that is not `LoadsAside` reads the file only now, so it is published after.
        """
        try:
            remains = put_in_place()
            if not self._store.publish(draft):
                raise RuntimeError(f"a snapshot newer than {meta.index} is here, not its state")
            self._engine.adopt(meta)
        except StorageError as error:
            raise RuntimeError(f"a snapshot that was proven cannot be read: {error}") from error
        logger.info("loaded a snapshot of %s at index %d", source.peer_id, meta.index)
        self._answer(source, position(self._engine.term, meta.index + 1, success=True))
        self._loader.let_go(remains)

    def _is_wanted(self, source: _Source, meta: SnapshotMeta) -> bool:
        """This peer lacks what is in a snapshot; if it does not, the leader is told so."""
        engine = self._engine
        if self._closed:
            return False
        if meta.index <= engine.applied_index:
            self._answer(source, position(engine.term, engine.applied_index + 1, success=False))
            return False
        if engine.term_at(meta.index) == meta.term:
            if self._is_leaders(source):
                engine.follow(source.peer_id, source.term, meta.index)
            self._answer(source, position(engine.term, meta.index + 1, success=True))
            return False
        if meta.index <= engine.commit_index:
            raise SafetyViolation(f"a snapshot conflicts with committed entry {meta.index}")
        return True

    def _is_leaders(self, source: _Source) -> bool:
        """Its sender still leads, and this is still its term."""
        engine = self._engine
        return source.term == engine.term and source.peer_id == engine.leader

    def _answer(self, source: _Source, message: dict[str, Any]) -> None:
        self._end(source)
        if self._is_leaders(source) and self._journal.sync():
            self._send(source.peer_id, message)

    def link_lost(self, peer_id: str) -> None:
        """The rest will not come; not over this connection."""
        if self._source.peer_id == peer_id and self._incoming is not None:
            self._kept, self._incoming = (peer_id, self._incoming), None
            if self._forget is not None:
                self._forget.cancel()
            self._forget = asyncio.get_running_loop().call_later(KEPT_SECONDS, self._drop_kept)

    def _drop_kept(self) -> None:
        kept, self._kept = self._kept, None
        if kept is not None:
            _remove(kept[1])

    async def close(self) -> None:
        """Stop: what has arrived is forgotten, a load under way ends soon.  Idempotent."""
        self._closed = True
        self._drop()
        await self._loader.close()
        if self._task is not None:
            await asyncio.gather(self._task, return_exceptions=True)


def _remove(incoming: Incoming) -> None:
    """The file is removed in a thread."""
    asyncio.get_running_loop().run_in_executor(None, incoming.abort)
