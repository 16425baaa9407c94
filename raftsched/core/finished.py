"""Terminal tasks by the queue they were in, each in the order of their ends.

Derived: the rows alone say what is here, and in which order.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from heapq import merge

from raftsched.core.indexes import EMPTY_MAX, in_order
from raftsched.core.model import Task


def asked_bytes(task: Task) -> int:
    """Bytes of what a task runs, with the parts that it was not split into yet."""
    extra = task.extra
    parts = 0 if extra is None or extra.fork is None else len(extra.fork.parts)
    return len(task.spec) + parts


def weight(task: Task) -> int:
    """Bytes of a terminal task that its user made: what runs, what was said, what came out."""
    size = asked_bytes(task)
    for attempt in task.attempts:
        size += len(attempt.output_tail) + len(attempt.result)
    if task.extra is not None and task.extra.borrowed is not None:
        size += len(task.extra.borrowed.result)
    return size


Weigh = Callable[[Task], int]


class Finished:
    """Ids of terminal tasks: by the entry that ended them, by id within one; so on every peer."""

    __slots__ = ("_ids", "_indexes", "_length", "_sorted", "_weigh", "bytes")

    def __init__(self, weigh: Weigh = weight) -> None:
        self._weigh = weigh
        #: Ids per index of the entry that ended them.  A list at the newest index and at the one
        #: that is drawn from, else a tuple: the garbage collector does not look into one of texts.
        self._ids: dict[int, list[str] | tuple[str, ...]] = {}
        #: Indexes, ascending; some may have no ids any more.
        self._indexes: deque[int] = deque()
        #: The entry whose ids are in order, the last one first.
        self._sorted = -1
        self._length = 0
        #: Sum of their weights.
        self.bytes = 0

    def __len__(self) -> int:
        return self._length

    def add(self, task: Task) -> None:
        """A task ended in the newest entry, or ended before and is needed no longer."""
        self._length += 1
        self.bytes += self._weigh(task)
        index = task.modify_index
        ids = self._ids.get(index)
        if ids is None:
            if self._indexes and self._indexes[-1] > index:
                self._ids[index] = (task.id,)
                place = bisect_left(self._indexes, index)
                if self._indexes[place] != index:
                    self._indexes.insert(place, index)
                return
            if self._indexes:
                _seal(self._ids, self._indexes[-1])
            self._ids[index] = [task.id]
            if not self._indexes or self._indexes[-1] != index:
                self._indexes.append(index)
        else:
            ids = self._ids[index] = _open(ids)
            ids.append(task.id)
            if index == self._sorted:
                self._sorted = -1

    def fill(self, tasks: Sequence[Task]) -> None:
        """Add many, in any order, where there is none."""
        assert not self._ids
        found: dict[int, list[str]] = {}
        for task in tasks:
            found.setdefault(task.modify_index, []).append(task.id)
        for index in in_order(list(found), int):
            self._ids[index] = tuple(found[index])
            self._indexes.append(index)
        self._length = len(tasks)
        self.bytes = sum(map(self._weigh, tasks))

    def remove(self, task: Task) -> None:
        """Forget a task."""
        self._length -= 1
        self.bytes -= self._weigh(task)
        index = task.modify_index
        ids = self._ids[index] = _open(self._ids[index])
        if ids[-1] == task.id:
            ids.pop()
        else:
            ids.remove(task.id)
        if not ids:
            del self._ids[index]
            if len(self._indexes) > 2 * len(self._ids) + EMPTY_MAX:
                self._indexes = deque([index for index in self._indexes if index in self._ids])

    def oldest(self) -> tuple[int, str] | None:
        """The one that ended first: the index of the entry, its id."""
        indexes = self._indexes
        while indexes:
            index = indexes[0]
            ids = self._ids.get(index)
            if ids is not None:
                if index != self._sorted:
                    ids = self._ids[index] = sorted(ids, reverse=True)
                    self._sorted = index
                return index, ids[-1]
            indexes.popleft()
        return None

    def __iter__(self) -> Iterator[tuple[int, str]]:
        """All, the one that ended first at the front.  Nothing may change meanwhile."""
        for index in self._indexes:
            for task_id in sorted(self._ids.get(index, ())):
                yield index, task_id


class FinishedByQueue:
    """Every queue's own, and all together."""

    __slots__ = ("_queues", "_weigh", "bytes")

    def __init__(self, weigh: Weigh = weight) -> None:
        """``weigh``: bytes of a task; the same when it is added and when it is removed."""
        self._weigh = weigh
        #: None is empty.
        self._queues: dict[str, Finished] = {}
        #: Sum of the weights of all.
        self.bytes = 0

    def __len__(self) -> int:
        return sum([len(finished) for finished in self._queues.values()])

    def add(self, task: Task) -> None:
        """A task ended in the newest entry, or ended before and is needed no longer."""
        queue = task.terms.queue
        finished = self._queues.get(queue)
        if finished is None:
            finished = self._queues[queue] = Finished(self._weigh)
        before = finished.bytes
        finished.add(task)
        self.bytes += finished.bytes - before

    def fill(self, tasks: Iterable[Task]) -> None:
        """Add many, in any order, where there is none."""
        found: dict[str, list[Task]] = {}
        for task in tasks:
            found.setdefault(task.terms.queue, []).append(task)
        for queue, those in found.items():
            finished = self._queues[queue] = Finished(self._weigh)
            finished.fill(those)
            self.bytes += finished.bytes

    def remove(self, task: Task) -> None:
        """Forget a task."""
        queue = task.terms.queue
        finished = self._queues[queue]
        before = finished.bytes
        finished.remove(task)
        self.bytes += finished.bytes - before
        if not len(finished):
            del self._queues[queue]

    def queues(self) -> list[str]:
        """Names of the queues that have one, sorted."""
        return sorted(self._queues)

    def of(self, queue: str) -> Finished:
        """One queue's; an empty one if there is none."""
        return self._queues.get(queue) or Finished()

    def oldest(self) -> str | None:
        """The id of the one that ended first of all."""
        firsts = [finished.oldest() for finished in self._queues.values()]
        found = [first for first in firsts if first is not None]
        return min(found)[1] if found else None

    def __iter__(self) -> Iterator[str]:
        """Ids, the one that ended first at the front.  Nothing may change meanwhile."""
        for _, task_id in merge(*self._queues.values()):
            yield task_id


def _seal(ids: dict[int, list[str] | tuple[str, ...]], index: int) -> None:
    """Nothing is added at ``index`` any more."""
    if index in ids:
        ids[index] = tuple(ids[index])


def _open(ids: list[str] | tuple[str, ...]) -> list[str]:
    return ids if isinstance(ids, list) else list(ids)
