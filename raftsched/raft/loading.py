"""Loading: how a snapshot becomes the state, with the loop held up as little as can be.

Decoding a million rows takes seconds.  A machine that is `LoadsAside` does it in a thread, into a
state of its own; the loop swaps it in.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from raftsched.raft.log import LoadsAside, StateMachine

T = TypeVar("T")
#: Puts a loaded state in place; returns the parts of the one that stood there.
Placing = Callable[[], Iterable[object] | None]


class Abandoned(Exception):
    """The log was stopped while a state was loaded."""


async def off_loop(work: Callable[[], T]) -> T:
    """Run in a thread; whoever is cancelled meanwhile still waits for its end."""
    thread = asyncio.ensure_future(asyncio.to_thread(work))
    try:
        return await asyncio.shield(thread)
    except asyncio.CancelledError:
        await asyncio.wait({thread})
        if not thread.cancelled():
            thread.exception()
        raise


class Loader:
    """Loads snapshots into one state machine."""

    def __init__(self, machine: StateMachine, settle: Callable[[], None]) -> None:
        """``settle``: what is done with the heap after a swap (`Host.settle`)."""
        self._machine = machine
        self._settle = settle
        self._is_closed = False
        self._tasks: set[asyncio.Task[None]] = set()

    async def load(self, index: int, chunks: Iterable[bytes]) -> Placing:
        """What puts the state in place and returns what stood there; raises what the machine does.

        To be called on the loop, at once or not at all; then `let_go` has what it returned.
        Raises Abandoned after `close` was called.
        """
        machine = self._machine
        if isinstance(machine, LoadsAside):
            load, watched = machine.load, self._watched(chunks)
            return await off_loop(lambda: load(index, watched))
        return lambda: machine.restore(index, chunks)

    def _watched(self, chunks: Iterable[bytes]) -> Iterator[bytes]:
        for chunk in chunks:
            if self._is_closed:
                raise Abandoned
            yield chunk

    def let_go(self, remains: Iterable[object] | None) -> None:
        """After a swap, in a thread: let go of what stood there, and of garbage.

        The rows stay for long, so the collector is then spared them (``gc.freeze``).
        """
        task = asyncio.create_task(off_loop(lambda: self._free(remains)))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _free(self, remains: Iterable[object] | None) -> None:
        if remains is not None:
            for part in remains:
                del part
        self._settle()

    async def close(self) -> None:
        """Have a load under way end soon; wait until all is let go of."""
        self._is_closed = True
        await asyncio.gather(*self._tasks, return_exceptions=True)
