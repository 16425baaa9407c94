"""Tasks that were split: which are the parts of which, and how far they are.

Derived: the parts name their parent (``Extra.parent``), and its row says how many there are.
"""

from __future__ import annotations

from raftsched.core.model import TERMINAL, Task, TaskStatus


class Subtasks:
    """The parts of one task."""

    __slots__ = ("counts", "ids")

    def __init__(self) -> None:
        #: By order of creation.
        self.ids: dict[str, None] = {}
        self.counts: dict[TaskStatus, int] = {}

    @property
    def ended(self) -> int:
        """How many are terminal."""
        return sum([count for status, count in self.counts.items() if status in TERMINAL])

    @property
    def succeeded(self) -> int:
        """How many did what they were made for."""
        return self.counts.get(TaskStatus.SUCCEEDED, 0)

    def set(self, old: Task | None, task: Task) -> None:
        """A part as it was and as it is."""
        counts = self.counts
        if old is None:
            self.ids[task.id] = None
        else:
            self._uncount(old)
        counts[task.status] = counts.get(task.status, 0) + 1

    def remove(self, task: Task) -> None:
        """A part is no more."""
        del self.ids[task.id]
        self._uncount(task)

    def _uncount(self, task: Task) -> None:
        left = self.counts[task.status] - 1
        if left:
            self.counts[task.status] = left
        else:
            del self.counts[task.status]


class Trees:
    """All of them.  A task without parts has no entry."""

    __slots__ = ("_subtasks",)

    def __init__(self) -> None:
        self._subtasks: dict[str, Subtasks] = {}

    def of(self, task_id: str) -> Subtasks | None:
        """The parts of a task; None: it has none."""
        return self._subtasks.get(task_id)

    def ids_of(self, task_id: str) -> list[str]:
        """Ids of the parts, the oldest first."""
        subtasks = self._subtasks.get(task_id)
        return [] if subtasks is None else list(subtasks.ids)

    def parents(self) -> list[str]:
        """Ids of the tasks that have parts, sorted."""
        return sorted(self._subtasks)

    def set(self, parent_id: str, old: Task | None, task: Task) -> None:
        """A part of a task as it was and as it is."""
        subtasks = self._subtasks.get(parent_id)
        if subtasks is None:
            subtasks = self._subtasks[parent_id] = Subtasks()
        subtasks.set(old, task)

    def remove(self, parent_id: str, task: Task) -> None:
        """A part is no more."""
        subtasks = self._subtasks[parent_id]
        subtasks.remove(task)
        if not subtasks.ids:
            del self._subtasks[parent_id]


def parent_of(task: Task) -> str:
    """The id of the task that it is a part of; empty: it is none."""
    return "" if task.extra is None else task.extra.parent


def is_to_be_split(task: Task) -> bool:
    """May it run, and is only to be split yet, unless it waits for another task?"""
    extra = task.extra
    return (
        extra is not None
        and extra.broadcast != 0
        and not (extra.subtasks or task.ready_at)
        and task.status is TaskStatus.WAITING
    )


def is_split(task: Task) -> bool:
    """Does it run only as its subtasks do?"""
    return task.extra is not None and task.extra.subtasks > 0
