"""Linearizable reads: an index that reflects every write that ended before the question.

The leader's is its commit index, once a majority confirmed its term in a round of probes begun
after the question came; a follower asks the leader.  One round answers all that wait for it; those
that come later wait for the next.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from raftsched.raft.engine import Engine
from raftsched.raft.host import Clock
from raftsched.raft.log import LogClosed, NoQuorum
from raftsched.raft.quorum import Prober

#: Questions to a leader that may be open at once; older ones are asked again.
ASKED_MAX = 100
#: A question is asked again after this: a leader that dies takes it with it.
ASK_AGAIN_SECONDS = 0.25


class Reads:
    """The reads that wait on this peer: for an index, or for it to be applied."""

    def __init__(
        self,
        engine: Engine,
        prober: Prober,
        send: Callable[[str, dict[str, Any]], bool],
        clock: Clock,
        first_number: int,
    ) -> None:
        """``first_number``: of this process's questions; no other one's are near.

        A round of the leader outlives the connection that asked for it: were its answer taken for
        one to a question of a later process, that one would read what was before it asked.
        """
        self._engine = engine
        self._clock = clock
        self._prober = prober
        self._send = send
        self._loop = asyncio.get_running_loop()
        self._waiting: list[asyncio.Future[int]] = []
        self._is_open = False
        #: Questions to the leader by number, with who waits for the answer.
        self._asked: dict[int, list[asyncio.Future[int]]] = {}
        self._number = first_number
        self._unapplied: list[tuple[int, asyncio.Future[None]]] = []

    async def index(self, timeout_seconds: float) -> int:
        """A read index.  Raises NoQuorum at the deadline."""
        future: asyncio.Future[int] = self._loop.create_future()
        try:
            async with asyncio.timeout(timeout_seconds):
                self._waiting.append(future)
                self.begin()
                while True:
                    done, _ = await asyncio.wait({future}, timeout=ASK_AGAIN_SECONDS)
                    if done:
                        return future.result()
                    if future not in self._waiting:
                        self._waiting.append(future)
                    self._is_open = False
                    self.begin()
        except TimeoutError:
            leader = self._engine.leader or "none"
            raise NoQuorum(
                f"no majority answered within {timeout_seconds:.1f} s (leader: {leader})"
            ) from None
        finally:
            if future in self._waiting:
                self._waiting.remove(future)
            future.cancel()

    def begin(self) -> None:
        """Start a round for all that wait, unless one is open; also when the leader changed."""
        if not self._waiting or self._is_open:
            return
        if self._engine.is_leader:
            if self._engine.is_current:
                self._begin_round()
        elif self._engine.leader is not None:
            self._ask(self._engine.leader)

    def _begin_round(self) -> None:
        waiting, self._waiting = self._waiting, []
        self._is_open = True
        index = self._engine.commit_index
        self._prober.begin(self._clock.monotonic(), lambda: self._settle(waiting, index))

    def _ask(self, leader: str) -> None:
        self._number += 1
        if self._send(leader, {"type": "read", "number": self._number}):
            self._asked[self._number], self._waiting = self._waiting, []
            self._is_open = True
            if len(self._asked) > ASKED_MAX:
                del self._asked[next(iter(self._asked))]

    def asked(self, peer_id: str, message: dict[str, Any]) -> None:
        """A follower asks for a read index."""
        if not self._engine.is_leader or not self._engine.is_current:
            return
        index = self._engine.commit_index
        answer = {"type": "read_ok", "number": message["number"], "index": index}

        def confirmed() -> None:
            self._send(peer_id, answer)

        self._prober.begin(self._clock.monotonic(), confirmed)

    def answered(self, message: dict[str, Any]) -> None:
        """The leader answered."""
        self._settle(self._asked.pop(message["number"], []), message["index"])

    def _settle(self, waiting: list[asyncio.Future[int]], index: int) -> None:
        self._is_open = False
        for future in waiting:
            if not future.done():
                future.set_result(index)
        self.begin()

    def term_changed(self) -> None:
        """What was asked may never be answered."""
        self._is_open = False

    async def applied(self, index: int, timeout_seconds: float) -> None:
        """Return once ``index`` is applied here.  Raises NoQuorum at the deadline."""
        if self._engine.applied_index >= index:
            return
        future: asyncio.Future[None] = self._loop.create_future()
        waiter = (index, future)
        self._unapplied.append(waiter)
        try:
            async with asyncio.timeout(timeout_seconds):
                await future
        except TimeoutError:
            applied = self._engine.applied_index
            raise NoQuorum(
                f"index {index} was not applied here within {timeout_seconds:.1f} s (at {applied})"
            ) from None
        finally:
            if waiter in self._unapplied:
                self._unapplied.remove(waiter)

    def wake(self) -> None:
        """After each pass: answer those whose index is applied."""
        if not self._unapplied:
            return
        still = []
        for index, future in self._unapplied:
            if self._engine.applied_index < index:
                still.append((index, future))
            elif not future.done():
                future.set_result(None)
        self._unapplied = still

    def close(self) -> None:
        """Nobody will be answered any more."""
        closed = LogClosed("the log was stopped")
        futures: list[asyncio.Future[Any]] = list(self._waiting)
        futures += [future for asked in self._asked.values() for future in asked]
        futures += [future for _, future in self._unapplied]
        for future in futures:
            if not future.done():
                future.set_exception(closed)
