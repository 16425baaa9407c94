"""Derived order and sums over the rows.  Never in a snapshot; rebuilt from the rows alone."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Iterator

from raftsched.core.model import NewTask, Task

#: Dropped entries a ready queue may carry before it is rebuilt, as a share of its length.
STALE_SHARE_MAX = 0.5


class Usage:
    """What the attempts on one node hold."""

    __slots__ = ("attempts", "cpu_milli", "memory_bytes")

    def __init__(self, cpu_milli: int = 0, memory_bytes: int = 0, attempts: int = 0) -> None:
        self.cpu_milli = cpu_milli
        self.memory_bytes = memory_bytes
        self.attempts = attempts

    def copy(self) -> Usage:
        """An own copy, for planning and for checking a batch."""
        return Usage(self.cpu_milli, self.memory_bytes, self.attempts)

    def add(self, task: Task | NewTask, sign: int = 1) -> None:
        """Count a task in (or, with sign -1, out)."""
        self.cpu_milli += sign * task.cpu_milli
        self.memory_bytes += sign * task.memory_bytes
        self.attempts += sign

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Usage) and (
            (self.cpu_milli, self.memory_bytes, self.attempts)
            == (other.cpu_milli, other.memory_bytes, other.attempts)
        )

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Usage({self.cpu_milli}, {self.memory_bytes}, {self.attempts})"


class _Lane:
    """The ready tasks of one priority, first in first out.

    Leaving is lazy: the entry stays and is counted in ``stale`` until it is passed.  An id may
    stand here more than once; the earlier entries are then the stale ones.
    """

    __slots__ = ("ids", "stale")

    def __init__(self) -> None:
        self.ids: deque[str] = deque()
        self.stale: dict[str, int] = {}

    def remove(self, task_id: str) -> None:
        if self.ids[0] == task_id and task_id not in self.stale:
            self.ids.popleft()
            return
        self.stale[task_id] = self.stale.get(task_id, 0) + 1
        if len(self.stale) > 1_000 and len(self.stale) > STALE_SHARE_MAX * len(self.ids):
            self.ids = deque(self)
            self.stale.clear()

    def trim(self) -> None:
        """Drop stale entries at the head."""
        while self.ids and self.ids[0] in self.stale:
            task_id = self.ids.popleft()
            self.stale[task_id] -= 1
            if not self.stale[task_id]:
                del self.stale[task_id]

    def __iter__(self) -> Iterator[str]:
        if not self.stale:
            yield from self.ids
            return
        passed: dict[str, int] = {}
        for task_id in self.ids:
            if passed.get(task_id, 0) < self.stale.get(task_id, 0):
                passed[task_id] = passed.get(task_id, 0) + 1
            else:
                yield task_id


class ReadyQueue:
    """Tasks that may be assigned: highest priority first, first in first out within one."""

    __slots__ = ("_lanes", "_length")

    def __init__(self) -> None:
        self._lanes: dict[int, _Lane] = {}
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def push(self, task: Task) -> None:
        """The task waits behind those of its priority; one that came back waits first."""
        lane = self._lanes.get(task.priority)
        if lane is None:
            lane = self._lanes[task.priority] = _Lane()
        if task.attempts and task.id not in lane.stale:
            lane.ids.appendleft(task.id)
        else:
            lane.ids.append(task.id)
        self._length += 1

    def remove(self, task: Task) -> None:
        """The task does not wait any more."""
        self._lanes[task.priority].remove(task.id)
        self._length -= 1

    def __iter__(self) -> Iterator[str]:
        """Ids in order.  The queue must not change while this is drawn."""
        for priority in sorted(self._lanes, reverse=True):
            lane = self._lanes[priority]
            lane.trim()
            yield from lane


class Finished:
    """Ids of terminal tasks: by the entry that ended them, by id within one; so on every peer."""

    __slots__ = ("_entries", "_sorted")

    def __init__(self) -> None:
        #: (index of the entry, ids), oldest first.
        self._entries: deque[tuple[int, list[str]]] = deque()
        #: The ids of the oldest entry are in order, the last one first.
        self._sorted = False

    def add(self, index: int, task_id: str) -> None:
        """A task ended in the newest entry."""
        entries = self._entries
        if entries and entries[-1][0] == index:
            entries[-1][1].append(task_id)
            if len(entries) == 1:
                self._sorted = False
        else:
            entries.append((index, [task_id]))

    def oldest(self) -> tuple[int, str] | None:
        """(index, id) of the one that ended first; it may be gone or be another one by now."""
        if not self._entries:
            return None
        index, ids = self._entries[0]
        if not self._sorted:
            ids.sort(reverse=True)
            self._sorted = True
        return index, ids[-1]

    def drop_oldest(self) -> None:
        """Forget what `oldest` answered."""
        ids = self._entries[0][1]
        ids.pop()
        if not ids:
            self._entries.popleft()
            self._sorted = False


class Listing:
    """All task ids in order of creation, for keyset pages in both directions."""

    __slots__ = ("_ids", "_indexes")

    def __init__(self) -> None:
        #: Ids per create index, in the order of the entry.
        self._ids: dict[int, list[str]] = {}
        #: Create indexes, ascending; some may have no ids any more.
        self._indexes: list[int] = []

    def add(self, task: Task) -> None:
        """The newest task."""
        ids = self._ids.get(task.create_index)
        if ids is None:
            self._ids[task.create_index] = [task.id]
            self._indexes.append(task.create_index)
        else:
            ids.append(task.id)

    def remove(self, task: Task) -> None:
        """Forget a task."""
        ids = self._ids[task.create_index]
        ids.remove(task.id)
        if not ids:
            del self._ids[task.create_index]
            if len(self._indexes) > 2 * len(self._ids) + 1_000:
                self._indexes = [index for index in self._indexes if index in self._ids]

    def after(
        self, cursor: tuple[int, str] | None, *, newest_first: bool
    ) -> Iterator[tuple[int, str]]:
        """(create index, id) behind a cursor, which need not exist any more."""
        indexes = self._indexes
        if cursor is None:
            span = range(len(indexes))
        elif newest_first:
            span = range(bisect_right(indexes, cursor[0]))
        else:
            span = range(bisect_left(indexes, cursor[0]), len(indexes))
        for position in reversed(span) if newest_first else span:
            index = indexes[position]
            ids = sorted(self._ids.get(index, ()), reverse=newest_first)
            for task_id in ids:
                if cursor is not None and index == cursor[0]:
                    behind = task_id < cursor[1] if newest_first else task_id > cursor[1]
                    if not behind:
                        continue
                yield index, task_id
