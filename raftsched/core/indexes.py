"""Derived order and sums over the rows.  Never in a snapshot; rebuilt from the rows alone."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator
from heapq import merge
from itertools import groupby
from operator import attrgetter
from typing import TypeVar

from raftsched.core.model import NewTask, Task, Terms

Row = TypeVar("Row")

#: Rows sorted at a stroke, about.
SORT_MAX = 10_000
#: Numbers of empty blocks and entries an index may carry beyond its length before it is tidied.
EMPTY_MAX = 1_000


def in_order(rows: list[Row], key: Callable[[Row], int]) -> Iterator[Row]:
    """Rows by their keys; equal ones as they stood.  No single step of it takes long.

    In buckets of about `SORT_MAX` rows, as the keys of rows are mostly spread evenly.
    """
    pieces = [rows[at : at + SORT_MAX] for at in range(0, len(rows), SORT_MAX)]
    if len(pieces) < 2:
        yield from sorted(rows, key=key)
        return
    lowest = min([min(map(key, piece)) for piece in pieces])
    highest = max([max(map(key, piece)) for piece in pieces])
    width = (highest - lowest) // len(pieces) + 1
    buckets: list[list[Row]] = [[] for _ in pieces]
    for row in rows:
        buckets[(key(row) - lowest) // width].append(row)
    for bucket in buckets:
        parts = range(0, len(bucket), 4 * SORT_MAX)
        ordered = [sorted(bucket[at : at + 4 * SORT_MAX], key=key) for at in parts]
        yield from ordered[0] if len(ordered) == 1 else merge(*ordered, key=key)


class Usage:
    """What the attempts on one node hold."""

    __slots__ = ("attempts", "cpu_milli", "memory_bytes", "resources")

    def __init__(
        self,
        cpu_milli: int = 0,
        memory_bytes: int = 0,
        attempts: int = 0,
        resources: dict[str, int] | None = None,
    ) -> None:
        self.cpu_milli = cpu_milli
        self.memory_bytes = memory_bytes
        self.attempts = attempts
        #: Counts by name, without those that are 0; None as long as nobody held any.
        self.resources = resources

    def copy(self) -> Usage:
        """An own copy, for planning and for checking a batch."""
        resources = self.resources
        if resources is not None:
            resources = dict(resources)
        return Usage(self.cpu_milli, self.memory_bytes, self.attempts, resources)

    def add(self, terms: Terms | NewTask) -> None:
        """Count a task in."""
        self.cpu_milli += terms.cpu_milli
        self.memory_bytes += terms.memory_bytes
        self.attempts += 1
        if terms.policy is not None and terms.policy.resources:
            self._count(terms.policy.resources, 1)

    def subtract(self, terms: Terms) -> None:
        """Count a task out."""
        self.cpu_milli -= terms.cpu_milli
        self.memory_bytes -= terms.memory_bytes
        self.attempts -= 1
        if terms.policy is not None and terms.policy.resources:
            self._count(terms.policy.resources, -1)

    def _count(self, resources: tuple[tuple[str, int], ...], sign: int) -> None:
        held = self.resources
        if held is None:
            held = self.resources = {}
        for name, count in resources:
            left = held.get(name, 0) + sign * count
            if left:
                held[name] = left
            else:
                held.pop(name, None)

    def _all(self) -> tuple[int, int, int, dict[str, int]]:
        return self.cpu_milli, self.memory_bytes, self.attempts, self.resources or {}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Usage) and self._all() == other._all()

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Usage{self._all()}"


class QueueUse:
    """What the tasks of one queue come to."""

    __slots__ = ("held", "open")

    def __init__(self, open: int = 0, held: int = 0) -> None:
        #: Tasks that are not terminal.
        self.open = open
        #: Attempts that hold capacity.
        self.held = held

    def __eq__(self, other: object) -> bool:
        return isinstance(other, QueueUse) and ((self.open, self.held) == (other.open, other.held))

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"QueueUse({self.open}, {self.held})"


class QueueUses(dict[str, QueueUse]):
    """By queue; one that is asked for is there from then on."""

    def __missing__(self, queue: str) -> QueueUse:
        use = self[queue] = QueueUse()
        return use


def _seal(ids: dict[int, list[str] | tuple[str, ...]], index: int) -> None:
    """Nothing is added at ``index`` any more."""
    if index in ids:
        ids[index] = tuple(ids[index])


def _open(ids: list[str] | tuple[str, ...]) -> list[str]:
    return ids if isinstance(ids, list) else list(ids)


class Listing:
    """All task ids in order of creation, for keyset pages in both directions."""

    __slots__ = ("_ids", "_indexes")

    def __init__(self) -> None:
        #: Ids per create index, in the order of the entry; sealed like those of ``finished``.
        self._ids: dict[int, list[str] | tuple[str, ...]] = {}
        #: Create indexes, ascending; some may have no ids any more.
        self._indexes: list[int] = []

    def add(self, task: Task) -> None:
        """The newest task."""
        ids = self._ids.get(task.create_index)
        if ids is None:
            if self._indexes:
                _seal(self._ids, self._indexes[-1])
            self._ids[task.create_index] = [task.id]
            # An entry may delete what it created, and create again.
            if not self._indexes or self._indexes[-1] != task.create_index:
                self._indexes.append(task.create_index)
        else:
            ids = self._ids[task.create_index] = _open(ids)
            ids.append(task.id)

    def fill(self, tasks: Iterable[Task]) -> None:
        """Add many, by ascending order, where there is none."""
        assert not self._ids
        for index, created in groupby(tasks, attrgetter("create_index")):
            ids = tuple([task.id for task in created])
            if index in self._ids:
                ids = (*self._ids[index], *ids)
            else:
                self._indexes.append(index)
            self._ids[index] = ids

    def remove(self, task: Task) -> None:
        """Forget a task."""
        ids = self._ids[task.create_index] = _open(self._ids[task.create_index])
        ids.remove(task.id)
        if not ids:
            del self._ids[task.create_index]
            if len(self._indexes) > 2 * len(self._ids) + EMPTY_MAX:
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
