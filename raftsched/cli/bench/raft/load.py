"""Load in a leader's own process: callers that each wait for what they proposed, then go on.

Commands are gathered as `peer.proposer` and `peer.intake` gather them: all that came in one pass of
the loop make one entry, of at most `ENTRY_ITEMS_MAX`, and a few entries are in flight.  There is
one future per caller, as a bulk request has one however many tasks it carries.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from raftsched.peer.intake import ENTRIES_IN_FLIGHT_MAX
from raftsched.peer.sizes import ENTRY_ITEMS_MAX
from raftsched.raft.log import LogClosed, LogFull, NotLeader

#: A log that takes nothing in is asked again after this.
AGAIN_SECONDS = 0.01


class Shape(NamedTuple):
    """What the callers do."""

    #: Callers, each with one request under way.
    callers: int
    #: Commands of one request.
    burst: int
    #: Commands of all callers share entries; else each command is an entry of its own.
    is_grouped: bool


class Lost(Exception):
    """This peer does not lead any more: whether the command counts is not known."""


class _Request:
    """A caller's commands that are not applied yet."""

    __slots__ = ("future", "unapplied", "unsent")

    def __init__(self, future: asyncio.Future[None], commands: int) -> None:
        self.future = future
        #: Commands that are in no entry yet, and those that are not applied.
        self.unsent = self.unapplied = commands


#: One entry: which requests have how many commands in it.
_Parts = list[tuple[_Request, int]]


class Gatherer:
    """Makes entries of what waits, and tells callers when theirs are applied.  Lives on the loop.

    ``propose`` appends one entry of so many commands; `applied` is to be called with every one of
    those entries, in order.
    """

    def __init__(
        self, propose: Callable[[int], None], is_grouped: bool, items_max: int = ENTRY_ITEMS_MAX
    ) -> None:
        self._propose = propose
        self._loop = asyncio.get_running_loop()
        self._items_max = items_max if is_grouped else 1
        self._entries_max = ENTRIES_IN_FLIGHT_MAX if is_grouped else 1 << 60
        self._waiting: deque[_Request] = deque()
        #: In flight, oldest first.
        self._entries: deque[_Parts] = deque()
        self._is_scheduled = False
        #: Commands applied.
        self.done = 0

    async def commit(self, commands: int) -> None:
        """Return once they are applied here.  Raises Lost."""
        request = _Request(self._loop.create_future(), commands)
        self._waiting.append(request)
        self._schedule()
        await request.future

    def applied(self) -> None:
        """The oldest entry in flight was applied."""
        for request, count in self._entries.popleft():
            self.done += count
            request.unapplied -= count
            if not request.unapplied and not request.future.done():
                request.future.set_result(None)
        self._schedule()

    def lose(self) -> None:
        """Fail every caller."""
        requests = [*self._waiting, *[r for entry in self._entries for r, _ in entry]]
        self._waiting.clear()
        self._entries.clear()
        for request in requests:
            if not request.future.done():
                request.future.set_exception(Lost())

    def _schedule(self) -> None:
        if self._waiting and not self._is_scheduled:
            self._is_scheduled = True
            self._loop.call_soon(self._pump)

    def _pump(self) -> None:
        self._is_scheduled = False
        while self._waiting and len(self._entries) < self._entries_max:
            entry = self._next()
            try:
                self._propose(sum([count for _, count in entry]))
            except (NotLeader, LogClosed):
                self._entries.append(entry)
                self.lose()
                return
            except LogFull:
                self._put_back(entry)
                self._loop.call_later(AGAIN_SECONDS, self._schedule)
                return
            self._entries.append(entry)

    def _next(self) -> _Parts:
        """The oldest commands that go into one entry."""
        entry: _Parts = []
        room = self._items_max
        while room and self._waiting:
            request = self._waiting[0]
            count = min(request.unsent, room)
            entry.append((request, count))
            request.unsent -= count
            room -= count
            if not request.unsent:
                self._waiting.popleft()
        return entry

    def _put_back(self, entry: _Parts) -> None:
        """The log took it not: its commands are the next."""
        for request, count in reversed(entry):
            if not request.unsent:
                self._waiting.appendleft(request)
            request.unsent += count


async def run_callers(
    gatherer: Gatherer, shape: Shape, until: float, latencies: list[float]
) -> None:
    """Callers that propose one request after the other until ``time.monotonic()`` is past a time.

    ``latencies`` gets each request's, in milliseconds.  Ends early when leadership is lost.
    """

    async def call() -> None:
        while (begin := time.monotonic()) < until:
            try:
                await gatherer.commit(shape.burst)
            except Lost:
                return
            latencies.append((time.monotonic() - begin) * 1e3)

    async with asyncio.TaskGroup() as group:
        for _ in range(shape.callers):
            group.create_task(call())
