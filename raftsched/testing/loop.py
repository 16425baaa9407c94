"""The event loop of one simulated process: asyncio's interface over virtual time.

What runs on it is the product's own code.  A turn of it takes as long as what it does is said to
take (a sync of a disk, for example), and nothing else happens on this loop meanwhile.
"""

from __future__ import annotations

import asyncio
import logging
from asyncio import events
from collections import deque
from collections.abc import Callable, Coroutine
from contextvars import Context
from typing import Any, Protocol

from raftsched.testing.clocks import SimulatedClock
from raftsched.testing.world import World

#: What a turn takes at least, so that a loop that is busy with itself lets time pass.
TURN_SECONDS = 30e-6
#: A thread's work begins within this.
THREAD_SECONDS = 0.003
#: How often a dead coroutine is closed that waits for one thing more while it is.
_LAST_WORDS = 32


#: Nearly all of asyncio's interface is left out: what a peer does not use, nobody has simulated.
_Base: Any = asyncio.AbstractEventLoop


class Killed(BaseException):
    """Raised where a simulated process dies: nothing after it happens."""


class Wires(Protocol):
    """What a loop's sockets are connected to."""

    def listen(self, loop: PeerLoop, factory: Callable[[], Any], port: int) -> Any:
        """A server on a port of this loop's machine."""

    async def connect(self, loop: PeerLoop, factory: Callable[[], Any], port: int) -> Any:
        """(transport, protocol) of a new connection."""


class _Future(asyncio.Future):  # type: ignore[type-arg]
    """A future whose place in a set is the same in every run."""

    def __init__(self, *, loop: PeerLoop) -> None:
        super().__init__(loop=loop)
        self._number = loop.world.serial()

    def __hash__(self) -> int:
        return self._number


class _Task(asyncio.Task):  # type: ignore[type-arg]
    """A task whose place in a set is the same in every run."""

    def __init__(self, coroutine: Any, loop: PeerLoop, **options: Any) -> None:
        # Before the rest, which asks for the hash.
        self._number = loop.world.serial()
        super().__init__(coroutine, loop=loop, **options)
        self._log_destroy_pending = False

    def __hash__(self) -> int:
        return self._number


class PeerLoop(_Base):  # type: ignore[misc]
    """See the module."""

    def __init__(self, world: World, name: str, clock: SimulatedClock, wires: Wires) -> None:
        self.world = world
        self.name = name
        self.clock = clock
        self.wires = wires
        self.is_dead = False
        #: Called with what nobody caught; the default ends the simulation.
        self.on_error: Callable[[str, BaseException | None], None] = _raise
        self._chance = world.chance(f"threads/{name}")
        self._ready: deque[asyncio.Handle] = deque()
        self._turn_is_due = False
        self._free_at = 0.0
        self._paused_until = 0.0

    # Turns ---------------------------------------------------------------------------------------

    def _wake(self) -> None:
        if not self._turn_is_due and not self.is_dead:
            self._turn_is_due = True
            world = self.world
            self.world.at(max(world.now, self._free_at, self._paused_until), self._turn)

    def _turn(self) -> None:
        self._turn_is_due = False
        world, ready = self.world, self._ready
        if self.is_dead:
            return
        if world.now < self._paused_until:
            self._wake()
            return
        events._set_running_loop(self)
        try:
            for _ in range(len(ready)):
                handle = ready.popleft()
                if not handle._cancelled:
                    handle._run()
                if self.is_dead:
                    return
        finally:
            events._set_running_loop(None)
            self._free_at = world.now + world.lag + TURN_SECONDS
            world.lag = 0.0
        if ready:
            self._wake()

    def pause(self, seconds: float) -> None:
        """Do nothing for a while, as a process that was stopped."""
        self._paused_until = max(self._paused_until, self.world.now + seconds)

    def kill(self) -> None:
        """Nothing more happens here."""
        self.is_dead = True
        self._ready.clear()

    def bury(self) -> None:
        """Let the coroutines that died here say their last words now, with nobody listening.

        Otherwise they say them when they are collected, in the middle of whatever runs then.
        """
        level = logging.root.manager.disable
        logging.disable()
        try:
            for task in asyncio.all_tasks(self):
                _close(task.get_coro())
        finally:
            logging.disable(level)

    # What asyncio asks for -----------------------------------------------------------------------

    def time(self) -> float:
        return self.clock.monotonic()

    def call_soon(
        self, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self, context)
        if not self.is_dead:
            self._ready.append(handle)
            self._wake()
        return handle

    call_soon_threadsafe = call_soon

    def call_later(
        self,
        delay: float,
        callback: Callable[..., object],
        *args: Any,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        return self.call_at(self.time() + delay, callback, *args, context=context)

    def call_at(
        self,
        when: float,
        callback: Callable[..., object],
        *args: Any,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        handle = asyncio.TimerHandle(when, callback, args, self, context)
        self.world.at(self.clock.when(when), self._due, handle)
        return handle

    def _due(self, handle: asyncio.TimerHandle) -> None:
        if handle._cancelled or self.is_dead:
            return
        if self.clock.monotonic() < handle.when() - 1e-9:
            # The clock runs slower than it did when this was asked for.
            self.world.at(self.clock.when(handle.when()), self._due, handle)
            return
        self._ready.append(handle)
        self._wake()

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        pass

    def create_future(self) -> asyncio.Future[Any]:
        return _Future(loop=self)

    def create_task(
        self, coro: Any, *, name: str | None = None, context: Context | None = None
    ) -> asyncio.Task[Any]:
        return _Task(coro, loop=self, name=name, context=context)

    def run_in_executor(
        self, executor: object, func: Callable[..., Any], *args: Any
    ) -> asyncio.Future[Any]:
        """Done at a stroke, a little later: what a thread does is not cut into pieces."""
        future = self.create_future()
        delay = self._chance.random() * THREAD_SECONDS
        self.world.after(delay, self._in_thread, future, func, args)
        return future

    def _in_thread(
        self, future: asyncio.Future[Any], func: Callable[..., Any], args: tuple[Any, ...]
    ) -> None:
        world = self.world
        if self.is_dead:
            return
        if world.now < self._paused_until:
            world.at(self._paused_until, self._in_thread, future, func, args)
            return
        try:
            settle, value = future.set_result, func(*args)
        except Killed:
            return
        except Exception as error:
            settle, value = future.set_exception, error
        finally:
            taken, world.lag = world.lag, 0.0

        def tell() -> None:
            if not future.done():
                settle(value)

        world.after(taken, self.call_soon, tell)

    async def create_server(
        self, factory: Any, host: Any = None, port: Any = None, **_: Any
    ) -> Any:
        return self.wires.listen(self, factory, int(port))

    async def create_connection(
        self, factory: Any, host: Any = None, port: Any = None, **_: Any
    ) -> Any:
        return await self.wires.connect(self, factory, int(port))

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        if not self.is_dead:
            self.on_error(str(context.get("message")), context.get("exception"))

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return True

    def is_closed(self) -> bool:
        return False

    def start(self, coroutine: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """A task made from outside any turn."""
        return self.create_task(coroutine)


def _close(coroutine: Any) -> None:
    for _ in range(_LAST_WORDS):
        try:
            coroutine.close()
            return
        except BaseException:  # noqa: S112 - it waits in a `finally`; and nobody listens
            continue


def _raise(message: str, error: BaseException | None) -> None:
    raise RuntimeError(message) from error
