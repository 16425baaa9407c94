"""Virtual time: one queue of events for everything that is simulated, and one seed for all chance.

Nothing here waits.  `World.run` takes the next event, moves the time to it and calls it; two runs
with the same seed do the same, event for event, which `World.trace` proves.
"""

from __future__ import annotations

import gc
import hashlib
import heapq
import random
import struct
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

_MARK = struct.Struct("<dI")


@contextmanager
def quiet_graves() -> Iterator[None]:
    """Coroutines of dead processes complain when they are collected: nobody wants to hear it."""
    hook, sys.unraisablehook = sys.unraisablehook, lambda _: None
    try:
        yield
    finally:
        gc.collect()
        sys.unraisablehook = hook


class World:
    """The time, what is to happen, and where chance comes from."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        #: Seconds since the simulation began, when nobody runs.
        self.now = 0.0
        #: What whoever runs just now has taken so far, in seconds.
        self.lag = 0.0
        self.events_run = 0
        #: Time, number, what to call and with what; the number settles what comes first.
        self._events: list[tuple[float, int, Callable[..., object], tuple[Any, ...]]] = []
        self._cancelled: set[int] = set()
        self._number = 0
        self._serial = 0
        self._trace = hashlib.blake2b(digest_size=8)

    @property
    def time(self) -> float:
        """Seconds since the simulation began."""
        return self.now + self.lag

    @property
    def trace(self) -> str:
        """A hash of all that happened."""
        return self._trace.hexdigest()

    def chance(self, name: str) -> random.Random:
        """A source of chance of its own: drawing from one does not change another."""
        return random.Random(f"{self.seed}/{name}")

    def serial(self) -> int:
        """A number nobody has had."""
        self._serial += 1
        return self._serial

    def mark(self, what: int) -> None:
        """Make something that happened, as a number below 2**32, part of the trace."""
        self._trace.update(_MARK.pack(self.now, what))

    def at(self, when: float, callback: Callable[..., object], *args: Any) -> int:
        """Call it at a time, or now if that has passed.  Returns a number for `cancel`."""
        self._number = number = self._number + 1
        now = self.now
        heapq.heappush(self._events, (when if when > now else now, number, callback, args))
        return number

    def cancel(self, number: int) -> None:
        """What is to happen under that number will not.  It must not have happened."""
        self._cancelled.add(number)

    def after(self, seconds: float, callback: Callable[..., object], *args: Any) -> int:
        """Call it so many seconds from now."""
        return self.at(self.time + seconds, callback, *args)

    def end(self) -> None:
        """Nothing happens any more."""
        self._events.clear()

    def run(self, until: float, stop: Callable[[], bool] | None = None) -> None:
        """Let everything happen up to a time, or until ``stop`` says so after an event."""
        events, cancelled, pop = self._events, self._cancelled, heapq.heappop
        while events and events[0][0] <= until:
            self.now, number, callback, args = pop(events)
            if number in cancelled:
                cancelled.remove(number)
                continue
            self.events_run += 1
            callback(*args)
            if stop is not None and stop():
                return
        self.now = max(self.now, until)
