"""Installing a snapshot of the leader: collected, proven, loaded, and swapped in at one stroke.

While it is on its way this peer is a follower like any other: it answers heartbeats and votes, and
serves the state it has.  Nothing of the log changes before the swap, and at the swap:

1. A snapshot whose last entry the log holds is not needed: what follows that entry here may have
   been acknowledged, and counts (S9).
2. The state, the published file and the log change in one turn of the loop.
3. Only then, and once the log is durable, is the leader told.

A snapshot that does not prove right is refused, and asked for again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from raftsched.raft.engine import Engine
from raftsched.raft.files import StorageError
from raftsched.raft.filter import SafetyViolation, keep_alive, position
from raftsched.raft.journal import Journal
from raftsched.raft.loading import Abandoned, Loader, Placing, off_loop
from raftsched.raft.snapshot import Incoming, SnapshotFailed, SnapshotStore
from raftsched.raft.snapshot_file import SnapshotMeta

logger = logging.getLogger(__name__)


class _Source(NamedTuple):
    """Where a snapshot comes from: one transfer."""

    peer_id: str
    term: int
    number: int


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
    ) -> None:
        self._engine = engine
        self._journal = journal
        self._store = store
        self._loader = loader
        self._send = send
        self._on_fatal = on_fatal
        self._source = _Source("", 0, 0)
        self._incoming: Incoming | None = None
        self._task: asyncio.Task[None] | None = None
        self._closed = False
        #: A whole snapshot is proven or loaded: the leader should wait rather than begin anew.
        self.is_busy = False

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
        data, is_first, is_last, number = message["serialized"]
        source = _Source(peer_id, term, number)
        if self.is_busy:
            if is_first:
                self._end(source)
            return
        if is_first:
            self._begin(source)
        if self._incoming is None or self._source != source:
            if not is_first:
                self._end(source)
            return
        try:
            self._incoming.add(data)
        except SnapshotFailed as error:
            self._incoming = None
            self._refuse(source, error)
            return
        if is_last:
            incoming, self._incoming = self._incoming, None
            self.is_busy = True
            self._task = asyncio.create_task(self._install(source, incoming))

    def _begin(self, source: _Source) -> None:
        self._drop()
        self._source = source
        try:
            self._incoming = self._store.receive()
        except SnapshotFailed as error:
            self._refuse(source, error)

    def _refuse(self, source: _Source, error: Exception) -> None:
        logger.error("no snapshot from %s: %s", source.peer_id, error)
        self._end(source)

    def _end(self, source: _Source) -> None:
        """The leader need not wait for us any more; if we still lack entries, it will hear so."""
        self._send(source.peer_id, {"type": "snapshot_end", "number": source.number})

    def _drop(self) -> None:
        """Forget what has arrived; the file is removed in a thread."""
        incoming, self._incoming = self._incoming, None
        if incoming is not None:
            asyncio.get_running_loop().run_in_executor(None, incoming.abort)

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
        """The rest will not come."""
        if self._source.peer_id == peer_id:
            self._drop()

    async def close(self) -> None:
        """Stop: what has arrived is forgotten, a load under way ends soon.  Idempotent."""
        self._closed = True
        self._drop()
        await self._loader.close()
        if self._task is not None:
            await asyncio.gather(self._task, return_exceptions=True)
