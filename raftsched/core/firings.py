"""What is derived from schedules and slots: what is due next, what runs, what there was.

The rows alone say all of it.
"""

from __future__ import annotations

from raftsched.core.instants import Instants
from raftsched.core.model import TERMINAL, Task
from raftsched.core.schedule import UNRECKONED, Schedule, Slot

#: The instant under which a schedule stands that is to be reckoned: before all others.
AT_ONCE = 1


class Firings:
    """By schedule."""

    __slots__ = ("_runs", "_slots", "due")

    def __init__(self) -> None:
        #: When the leader has to look at a schedule.
        self.due = Instants()
        #: Ids of its tasks that are not terminal, the oldest first; none is empty.
        self._runs: dict[str, dict[str, None]] = {}
        #: Instants of its slots' rows, the one that was decided first at the front.
        self._slots: dict[str, dict[int, None]] = {}

    def schedule(self, name: str, row: Schedule | None) -> None:
        """A schedule as it is now; None: it is gone."""
        at = 0
        if row is not None and not row.paused:
            at = AT_ONCE if row.next_at == UNRECKONED else row.next_at
        self.due.set(name, at, 0)

    def run(self, name: str, task: Task) -> None:
        """A task of a schedule as it is now."""
        if task.status not in TERMINAL:
            self._runs.setdefault(name, {})[task.id] = None
            return
        runs = self._runs.get(name, {})
        runs.pop(task.id, None)
        if not runs:
            self._runs.pop(name, None)

    def slot(self, slot: Slot, old: Slot | None) -> None:
        """A slot as it is now, and the row that stood there."""
        if old is None:
            self._slots.setdefault(slot.schedule, {})[slot.at] = None

    def forget(self, slot: Slot) -> None:
        """A slot is no more."""
        slots = self._slots[slot.schedule]
        del slots[slot.at]
        if not slots:
            del self._slots[slot.schedule]

    def runs_of(self, name: str) -> list[str]:
        """Ids of its tasks that are not terminal, the oldest first."""
        return list(self._runs.get(name, ()))

    def slots_of(self, name: str) -> list[int]:
        """Instants of its slots, the one that was decided first at the front."""
        return list(self._slots.get(name, ()))

    def names(self) -> list[str]:
        """Of schedules that have runs or slots, sorted."""
        return sorted({*self._runs, *self._slots})
