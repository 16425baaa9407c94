"""What simulated attempts hear of the tasks that theirs depend on."""

from __future__ import annotations

from collections.abc import Callable, Collection
from zlib import crc32

from raftsched.core.dependencies import fate_of
from raftsched.core.model import TERMINAL, Task
from raftsched.core.policy import Extra
from raftsched.core.state import State

#: A simulated task names fewer items than this.
ITEMS_MAX = 6


class SimulatedInputs:
    """Nothing is written; what a task depends on must have come to what it waits for."""

    def __init__(self, state: Callable[[], State]) -> None:
        self._state = state

    def path(self, token: int, task_id: str, when_ready: Callable[[], None]) -> str | None:
        """Raises AssertionError for an attempt that starts too early."""
        task = self._state().tasks.get(task_id)
        extra = (task.extra if task is not None else None) or Extra()
        if extra.depends_on:
            assert fate_of(extra), f"{task_id} starts, and what it waits for has not come to pass"
            if not extra.needs:
                for other in extra.depends_on:
                    found = self._state().tasks.get(other.task_id)
                    assert found is not None, f"{task_id} starts, and {other.task_id} is gone"
                    assert found.status in TERMINAL, f"{task_id} starts before {found.id} ended"
        return ""

    def forget(self, token: int) -> None:
        """There is nothing to be forgotten."""

    def keep(self, living: Collection[int]) -> None:
        """There is nothing to be removed."""


def items_of(source: Task) -> list[int]:
    """What a simulated task named: as many as its id says, the same in every run of a seed."""
    return list(range(crc32(source.id.encode()) % ITEMS_MAX))
