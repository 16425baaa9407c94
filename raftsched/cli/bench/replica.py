"""A state alone, with what is applied to it."""

from __future__ import annotations

import time

from raftsched.core import machine
from raftsched.core.commands import ENTRY_VERSION, AnyCommand, Batch, Entry
from raftsched.core.state import State


class BenchReplica:
    """A state of the newest version and the entries applied to it, one command each."""

    def __init__(self) -> None:
        self.state = State("bench")
        self.state.version = ENTRY_VERSION
        self.index = 0

    @property
    def busy(self) -> int:
        """Attempts that nodes hold."""
        return sum(usage.attempts for usage in self.state.usage.values())

    def apply(self, command: AnyCommand) -> None:
        """One entry with this command."""
        self.index += 1
        batch = Batch("bench", 1, self.index, (command,))
        entry = Entry(ENTRY_VERSION, 1, time.time_ns() // 1_000_000, (batch,))
        machine.apply(self.state, self.index, entry)
