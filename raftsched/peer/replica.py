"""The replicated state on this peer: where the log's entries become rows and events.

Implements the log's ``StateMachine``.  An entry that stands in the log under another term than the
one its leader stamped was appended by nobody's will and is skipped whole, on every peer alike.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterable

from raftsched.core import codec, invariants, machine
from raftsched.core.commands import Entry
from raftsched.core.model import TERMINAL, Task
from raftsched.core.outcomes import Applied, Event
from raftsched.core.state import State
from raftsched.core.versions import SUPPORTED, Supports, UnknownVersion
from raftsched.peer.audit import log_changes
from raftsched.peer.errors import UpgradeNeeded

logger = logging.getLogger(__name__)

#: Events one subscriber may be behind before it is told of a gap.
SUBSCRIPTION_EVENTS_MAX = 20_000
#: Events after which a task is terminal or gone.
_ENDS = frozenset({"task_finished", "task_deleted"})


#: Who waits, by task.
_Waiters = dict[str, set[asyncio.Future[None]]]


class Subscription:
    """The events of applied entries, in order, from the moment of subscribing."""

    def __init__(self, replica: Replica) -> None:
        self._replica = replica
        self._queue: asyncio.Queue[tuple[int, list[Event]]] = asyncio.Queue()
        self._behind = 0
        #: Events were dropped because nobody read them: look at the state again.
        self.lost = False

    def put(self, index: int, events: list[Event]) -> None:
        """Hand over the events of one entry."""
        if self._behind + len(events) > SUBSCRIPTION_EVENTS_MAX:
            self.lost = True
            return
        self._behind += len(events)
        self._queue.put_nowait((index, events))

    def __aiter__(self) -> Subscription:
        return self

    async def __anext__(self) -> tuple[int, list[Event]]:
        index, events = await self._queue.get()
        self._behind -= len(events)
        return index, events

    def close(self) -> None:
        """Stop receiving."""
        self._replica.subscriptions.discard(self)


class Replica:
    """Owns the `State` of this peer; the only caller of ``machine.apply``.

    ``supports``: the versions that it applies; another one ends it with `UpgradeNeeded`, before
    anything of it is applied.
    """

    def __init__(
        self, cluster_id: str, *, paranoid: bool = False, supports: Supports = SUPPORTED
    ) -> None:
        self.supports = supports
        self.state = State(cluster_id=cluster_id)
        self._paranoid = paranoid
        #: Called after every applied entry (and with an empty one after a restore).
        self.listeners: list[Callable[[Entry, Applied], None]] = []
        #: Called after a snapshot replaced the state.
        self.restore_listeners: list[Callable[[], None]] = []
        self.subscriptions: set[Subscription] = set()
        self._waiters: list[tuple[int, asyncio.Future[None]]] = []
        #: Who waits for the end of a task, or for any change of it, by its id: an entry wakes only
        #: those it is about.
        self._end_waiters: _Waiters = {}
        self._change_waiters: _Waiters = {}
        self.entries_applied = 0

    def apply(self, index: int, term: int, entry: bytes) -> None:
        """Apply one committed entry and tell whoever listens."""
        try:
            decoded = codec.decode_entry(entry, self.supports)
        except UnknownVersion as error:
            raise UpgradeNeeded(str(error)) from None
        if decoded.term != term:
            logger.warning("entry %d stands in term %d, meant for %d", index, term, decoded.term)
            self.state.index = index
            self._wake(index)
            return
        before = (self.state.version, self.state.clock_resets)
        applied = machine.apply(self.state, index, decoded)
        if before != (self.state.version, self.state.clock_resets):
            log_changes(index, decoded, applied)
        self.entries_applied += 1
        if self._paranoid:
            found = invariants.check(self.state)
            if found:
                raise AssertionError(f"after entry {index}: {'; '.join(found)}")
        for listener in self.listeners:
            listener(decoded, applied)
        if applied.events:
            if self._end_waiters:
                ended = [event.task_id for event in applied.events if event.kind in _ENDS]
                _wake_those(self._end_waiters, ended)
            if self._change_waiters:
                _wake_those(self._change_waiters, [event.task_id for event in applied.events])
            for subscription in self.subscriptions:
                subscription.put(index, applied.events)
        self._wake(index)

    def begin_snapshot(self) -> Iterable[bytes]:
        """A frozen view of the state, as chunks."""
        return codec.snapshot_chunks(self.state)

    def end_snapshot(self) -> None:
        """The view is not needed any more."""
        self.state.end_snapshot()

    def restore(self, index: int, chunks: Iterable[bytes]) -> None:
        """Replace the state by a snapshot taken at ``index``."""
        self.load(index, chunks)()

    def load(self, index: int, chunks: Iterable[bytes]) -> Callable[[], Iterable[object]]:
        """Make the state of a snapshot beside the one in place; in any thread.

        What is returned puts it in place, on the loop, and returns the old one in pieces.
        """
        try:
            state = codec.restore_state(chunks, self.supports)
        except UnknownVersion as error:
            raise UpgradeNeeded(str(error)) from None
        state.index = index

        def put_in_place() -> Iterable[object]:
            old, self.state = self.state, state
            for subscription in self.subscriptions:
                subscription.lost = True
                subscription.put(index, [])
            for listener in self.restore_listeners:
                listener()
            self._wake(index)
            for waiters in (self._end_waiters, self._change_waiters):
                _wake_those(waiters, list(waiters))
            return old.take_apart()

        return put_in_place

    def subscribe(self) -> Subscription:
        """The events from here on."""
        subscription = Subscription(self)
        self.subscriptions.add(subscription)
        return subscription

    async def wait_index(self, index: int, timeout_seconds: float) -> None:
        """Return once the state's index is above ``index``, or at the timeout."""
        if self.state.index > index:
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waiter = (index, future)
        self._waiters.append(waiter)
        try:
            async with asyncio.timeout(timeout_seconds):
                await future
        except TimeoutError:
            pass
        finally:
            if waiter in self._waiters:
                self._waiters.remove(waiter)

    async def wait_finished(self, task_id: str, timeout_seconds: float) -> Task | None:
        """The task once it is terminal, or as it is at the timeout; None when it is not there."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_seconds):
                while (task := self.state.tasks.get(task_id)) and task.status not in TERMINAL:
                    await _woken(self._end_waiters, task_id)
        return self.state.tasks.get(task_id)

    async def wait_changed(self, task_id: str, index: int, timeout_seconds: float) -> Task | None:
        """The task once its row is newer than ``index``, or as it is at the timeout; or None."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_seconds):
                while (task := self.state.tasks.get(task_id)) and task.modify_index <= index:
                    await _woken(self._change_waiters, task_id)
        return self.state.tasks.get(task_id)

    def _wake(self, index: int) -> None:
        if not self._waiters:
            return
        still = []
        for waiter in self._waiters:
            if waiter[0] >= index:
                still.append(waiter)
            elif not waiter[1].done():
                waiter[1].set_result(None)
        self._waiters = still


async def _woken(waiters: _Waiters, task_id: str) -> None:
    """Return once somebody wakes those who wait for this task."""
    future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    those = waiters.setdefault(task_id, set())
    those.add(future)
    try:
        await future
    finally:
        those.discard(future)
        if not those and waiters.get(task_id) is those:
            del waiters[task_id]


def _wake_those(waiters: _Waiters, task_ids: Iterable[str]) -> None:
    for task_id in task_ids:
        for future in waiters.pop(task_id, ()):
            if not future.done():
                future.set_result(None)
