"""Tasks that were split: which are the parts of which, and how far they are.

Derived: the parts name their parent (``Extra.parent``), and its row says how many there are.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from raftsched.core.finished import weight
from raftsched.core.model import TERMINAL, Task, TaskStatus
from raftsched.core.policy import Extra

#: Neither held nor over, whatever else a part is.
_GOING = frozenset(TaskStatus) - TERMINAL - {TaskStatus.WAITING}
#: Begins the reason of a task whose dependencies never will be met.
UNMET = "depends-on"


class Subtasks:
    """The parts of one task."""

    __slots__ = ("counts", "held", "ids", "skipped", "twins", "under_way", "weight")

    def __init__(self) -> None:
        #: By order of creation.
        self.ids: dict[str, None] = {}
        self.counts: dict[TaskStatus, int] = {}
        #: Those that may run as soon as others have ended, by order of creation.
        self.held: dict[str, None] = {}
        #: Those that have neither ended nor are held; in no order that says anything.
        self.under_way: dict[str, None] = {}
        #: How many were cancelled because what they wait for did not come.
        self.skipped = 0
        #: Twins of parts that have not ended.  They are no parts, and nowhere else counted.
        self.twins: dict[str, None] = {}
        #: Bytes of all terminal tasks below, also of subtasks of subtasks, and of twins.
        self.weight = 0

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
        counts, status = self.counts, task.status
        counts[status] = counts.get(status, 0) + 1
        if old is None:
            self.ids[task.id] = None
        elif old.status in _GOING and status in _GOING:
            self._count_less(old.status)
            return
        elif old.status is status is TaskStatus.WAITING and is_held(old) and is_held(task):
            self._count_less(status)  # Where it stands among those held stays as it is.
            return
        else:
            self._uncount(old)
        if status in TERMINAL:
            self.skipped += is_skipped(task)
        elif status is TaskStatus.WAITING and is_held(task):
            self.held[task.id] = None
        else:
            self.under_way[task.id] = None

    def remove(self, task: Task) -> None:
        """A part is no more."""
        del self.ids[task.id]
        self._uncount(task)

    def _count_less(self, status: TaskStatus) -> None:
        left = self.counts[status] - 1
        if left:
            self.counts[status] = left
        else:
            del self.counts[status]

    def _uncount(self, task: Task) -> None:
        self._count_less(task.status)
        if task.status in TERMINAL:
            self.skipped -= is_skipped(task)
        elif task.status is TaskStatus.WAITING and is_held(task):
            del self.held[task.id]
        else:
            del self.under_way[task.id]


class Tally:
    """The parts of one task as a command leaves them so far."""

    __slots__ = (
        "_held", "_made_held", "ended", "has_held", "ids", "released", "skipped", "succeeded",
        "twins", "under_way",
    )  # fmt: skip

    def __init__(self, before: Subtasks | None) -> None:
        #: Of those that the command made.
        self.ids: list[str] = []
        #: Of those that were held, and that the command let go.
        self.released: list[str] = []
        self.ended = 0 if before is None else before.ended
        self.succeeded = 0 if before is None else before.succeeded
        self.skipped = 0 if before is None else before.skipped
        #: How many have neither ended nor are held.
        self.under_way = 0 if before is None else len(before.under_way)
        #: Twins of parts that have not ended.
        self.twins = 0 if before is None else len(before.twins)
        #: There may be some that are held.
        self.has_held = before is not None and len(before.held) > 0
        self._held = iter(() if before is None else before.held)
        self._made_held: deque[str] = deque()

    def made(self, task_id: str, *, is_held: bool) -> None:
        """There is one more."""
        self.ids.append(task_id)
        if is_held:
            self.has_held = True
            self._made_held.append(task_id)
        else:
            self.under_way += 1

    def made_over(self, task: Task) -> None:
        """There is one more, and it is terminal from its beginning."""
        self.ids.append(task.id)
        self.ended += 1
        self.succeeded += task.status is TaskStatus.SUCCEEDED
        self.skipped += is_skipped(task)

    def let_go(self, task_id: str) -> None:
        """One is held no longer."""
        self.released.append(task_id)
        self.under_way += 1

    def ends(self, to: TaskStatus, *, was_held: bool, is_skipped: bool) -> None:
        """One is terminal now."""
        self.ended += 1
        self.under_way -= not was_held
        self.succeeded += to is TaskStatus.SUCCEEDED
        self.skipped += is_skipped

    def next_held(self) -> str | None:
        """The id of the next one that was held, and may not be any more; None: there is none."""
        found = next(self._held, None)
        if found is None and self._made_held:
            found = self._made_held.popleft()
        self.has_held = found is not None
        return found


class Trees:
    """All of them.  A task without parts has no entry."""

    __slots__ = ("_find", "_subtasks")

    def __init__(self, find: Callable[[str], Task | None]) -> None:
        """``find``: a task by its id."""
        self._find = find
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
        if task.status in TERMINAL:
            lost = weight(old) if old is not None and old.status in TERMINAL else 0
            self._add_weight(parent_id, weight(task) - lost)

    def remove(self, parent_id: str, task: Task) -> None:
        """A terminal part is no more."""
        subtasks = self._subtasks[parent_id]
        subtasks.remove(task)
        self._add_weight(parent_id, -weight(task))
        if not subtasks.ids:
            del self._subtasks[parent_id]

    def set_twin(self, old: Task | None, twin: Task) -> None:
        """The twin of a part as it was and as it is."""
        parent_id = self._parent_of_twin(twin)
        twins = self._subtasks[parent_id].twins
        if twin.status in TERMINAL:
            twins.pop(twin.id, None)
            lost = weight(old) if old is not None and old.status in TERMINAL else 0
            self._add_weight(parent_id, weight(twin) - lost)
        else:
            twins[twin.id] = None

    def remove_twin(self, twin: Task) -> None:
        """A terminal twin is no more; its part is there yet."""
        self._add_weight(self._parent_of_twin(twin), -weight(twin))

    def _parent_of_twin(self, twin: Task) -> str:
        assert twin.extra is not None
        part = self._find(twin.extra.twin_of)
        assert part is not None
        return parent_of(part)

    def _add_weight(self, task_id: str, change: int) -> None:
        """To a task, and to those that it is a part of."""
        while change and task_id in self._subtasks:
            self._subtasks[task_id].weight += change
            task = self._find(task_id)
            task_id = "" if task is None else parent_of(task)

    def ids_below(self, task_id: str) -> list[str]:
        """Ids of the parts, and of theirs, each behind the one that it is of."""
        found: list[str] = []
        for part_id in self.ids_of(task_id):
            found.append(part_id)
            if part_id in self._subtasks:
                found += self.ids_below(part_id)
        return found

    def weight_of(self, task_id: str) -> int:
        """Bytes of the parts of a task that are terminal."""
        subtasks = self._subtasks.get(task_id)
        return 0 if subtasks is None else subtasks.weight


def parent_of(task: Task) -> str:
    """The id of the task that it is a part of; empty: it is none."""
    return "" if task.extra is None else task.extra.parent


def owner_of(task: Task) -> str:
    """The id of the task that it goes with, as a part of it or as its twin; empty: none."""
    return "" if task.extra is None else task.extra.parent or task.extra.twin_of


def is_twin(task: Task) -> bool:
    """Is it the second run of another one, once, whatever becomes of it?"""
    return task.extra is not None and task.extra.twin_of != ""


def awaits_twin(task: Task) -> bool:
    """Has it failed for good, unless its twin, which runs, succeeds?"""
    return task.status is TaskStatus.RETRYING and not task.ready_at


def is_to_be_split(task: Task) -> bool:
    """May it run, and is only to be split yet, unless it waits for another task?"""
    extra = task.extra
    return (
        extra is not None
        and (extra.broadcast != 0 or extra.fork is not None)
        and task.status is TaskStatus.WAITING
        and not (task.ready_at or has_begun(extra))
    )


def has_begun(extra: Extra) -> bool:
    """Are its subtasks what runs now?"""
    return extra.subtasks > 0 if extra.fork is None else extra.fork.has_begun


def is_split(task: Task) -> bool:
    """Does it run only as its subtasks do?  They may be there before it may run."""
    extra = task.extra
    return extra is not None and (extra.subtasks > 0 or has_begun(extra))


def is_held(task: Task) -> bool:
    """Is it a part that waits for nothing but that it is let go?"""
    extra = task.extra
    return (
        extra is not None
        and extra.parent != ""
        and task.status is TaskStatus.WAITING
        and not (task.ready_at or extra.awaits or extra.after)
        and extra.fork is None
        and not extra.broadcast
    )


def is_skipped(task: Task) -> bool:
    """Was it never to run, as the tasks that it depends on ended?"""
    extra = task.extra
    return (
        extra is not None
        and len(extra.depends_on) > 0
        and task.status is TaskStatus.CANCELLED
        and task.reason.startswith(UNMET)
    )
