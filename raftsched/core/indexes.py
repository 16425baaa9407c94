"""Derived order and sums over the rows.  Never in a snapshot; rebuilt from the rows alone."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from heapq import heapify, heappop, heapreplace, merge
from itertools import groupby
from operator import attrgetter
from typing import TypeVar

from raftsched.core.model import NewTask, Task, Terms

Row = TypeVar("Row")

#: Rows sorted at a stroke, about.
SORT_MAX = 10_000
#: Tasks that were created in a row share a block: as many as a dictionary holds before it doubles.
BLOCK = 680
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

    __slots__ = ("attempts", "cpu_milli", "memory_bytes")

    def __init__(self, cpu_milli: int = 0, memory_bytes: int = 0, attempts: int = 0) -> None:
        self.cpu_milli = cpu_milli
        self.memory_bytes = memory_bytes
        self.attempts = attempts

    def copy(self) -> Usage:
        """An own copy, for planning and for checking a batch."""
        return Usage(self.cpu_milli, self.memory_bytes, self.attempts)

    def add(self, terms: Terms | NewTask) -> None:
        """Count a task in."""
        self.cpu_milli += terms.cpu_milli
        self.memory_bytes += terms.memory_bytes
        self.attempts += 1

    def subtract(self, terms: Terms) -> None:
        """Count a task out."""
        self.cpu_milli -= terms.cpu_milli
        self.memory_bytes -= terms.memory_bytes
        self.attempts -= 1

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Usage) and (
            (self.cpu_milli, self.memory_bytes, self.attempts)
            == (other.cpu_milli, other.memory_bytes, other.attempts)
        )

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Usage({self.cpu_milli}, {self.memory_bytes}, {self.attempts})"


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


class _Lane:
    """The ready tasks of one priority, in blocks by ``Task.order``."""

    __slots__ = ("blocks", "newest", "numbers", "unsorted")

    def __init__(self) -> None:
        #: By number, which is ``order // BLOCK``, then by order.  None is empty.
        self.blocks: dict[int, dict[int, Task]] = {}
        #: Numbers of blocks, ascending; some may be gone.
        self.numbers: list[int] = []
        #: Highest order ever pushed.
        self.newest = -1
        #: Blocks that a task came back to; sorted when they are next drawn.
        self.unsorted: set[int] = set()

    def open(self, number: int) -> dict[int, Task]:
        """A block where there is none."""
        block = self.blocks[number] = {}
        numbers = self.numbers
        place = bisect_left(numbers, number)
        if place == len(numbers) or numbers[place] != number:
            numbers.insert(place, number)
        return block

    def close(self, number: int) -> None:
        """Forget a block that is empty."""
        del self.blocks[number]
        self.unsorted.discard(number)
        if len(self.numbers) > 2 * len(self.blocks) + EMPTY_MAX:
            self.numbers = [number for number in self.numbers if number in self.blocks]

    def __iter__(self) -> Iterator[Task]:
        for number in self.numbers:
            block = self.blocks.get(number)
            if block is None:
                continue
            if number in self.unsorted:
                self.unsorted.discard(number)
                block = self.blocks[number] = dict(sorted(block.items()))
            yield from block.values()


#: What decides whether a task fits: cpu in milli-cores, bytes of memory.
Need = tuple[int, int]
#: Lanes looked into in one pass, so that it ends in time whatever was submitted.
LANES_MAX = 10_000


class Draw:
    """The ready tasks in order, once; who draws may leave out what asks for too much.

    A task that fits nowhere would otherwise stand in the way of those behind it.
    """

    __slots__ = ("_by_priority", "_lanes_max", "_misfits", "_passed_over")

    def __init__(self, by_priority: list[list[tuple[Need, _Lane]]], lanes_max: int) -> None:
        self._by_priority = by_priority
        self._lanes_max = lanes_max
        #: Needs that fitted nowhere, and neither does what asks for as much.
        self._misfits: list[Need] = []
        self._passed_over = False

    def pass_over(self) -> None:
        """Draw nothing more that asks for as much as the last task."""
        self._passed_over = True

    def __iter__(self) -> Iterator[Task]:
        """The queue must not change while this is drawn."""
        left = self._lanes_max
        for lanes in self._by_priority:
            heads: list[tuple[int, Iterator[Task], Task, Need]] = []
            for need, lane in lanes[:left]:
                tasks = iter(lane)
                task = next(tasks, None)
                if task is not None and not self._is_misfit(need):
                    heads.append((task.order, tasks, task, need))
            left -= len(lanes)
            heapify(heads)
            while heads:
                _, tasks, task, need = heads[0]
                yield task
                following = None if self._passed_over else next(tasks, None)
                if following is not None:
                    heapreplace(heads, (following.order, tasks, following, need))
                    continue
                heappop(heads)
                if self._passed_over:
                    self._passed_over = False
                    self._misfits.append(need)
                    heads = [head for head in heads if not self._is_misfit(head[3])]
                    heapify(heads)
            if left <= 0:
                return

    def _is_misfit(self, need: Need) -> bool:
        for cpu_milli, memory_bytes in self._misfits:
            if need[0] >= cpu_milli and need[1] >= memory_bytes:
                return True
        return False


class ReadyQueue:
    """Tasks that may be assigned: highest priority first, in order of creation within one.

    So a task that comes back from a node or from a pause has the place that it had.
    """

    __slots__ = ("_lanes", "_length")

    def __init__(self) -> None:
        #: By priority and need.  None is empty.
        self._lanes: dict[tuple[int, int, int], _Lane] = {}
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def push(self, task: Task) -> None:
        """The task waits."""
        terms = task.terms
        key = (terms.priority, terms.cpu_milli, terms.memory_bytes)
        lane = self._lanes.get(key)
        if lane is None:
            lane = self._lanes[key] = _Lane()
        order = task.order
        number = order // BLOCK
        block = lane.blocks.get(number)
        if block is None:
            block = lane.open(number)
        block[order] = task
        if order > lane.newest:
            lane.newest = order
        else:
            lane.unsorted.add(number)
        self._length += 1

    def fill(self, tasks: Iterable[Task]) -> None:
        """Push many, by ascending order, into an empty queue."""
        assert not self._length
        terms: Terms | None = None
        number = order = -1
        lane, block = _Lane(), dict[int, Task]()
        for task in tasks:
            # Neighbours have the same terms nearly always, and share a block.
            if task.terms is not terms or task.order // BLOCK != number:
                lane.newest = order
                terms, number = task.terms, task.order // BLOCK
                lane = self._lane((terms.priority, terms.cpu_milli, terms.memory_bytes))
                block = lane.blocks.get(number) or lane.open(number)
            order = task.order
            block[order] = task
        lane.newest = order
        self._length = sum([len(b) for lane in self._lanes.values() for b in lane.blocks.values()])

    def _lane(self, key: tuple[int, int, int]) -> _Lane:
        lane = self._lanes.get(key)
        if lane is None:
            lane = self._lanes[key] = _Lane()
        return lane

    def remove(self, task: Task) -> None:
        """The task does not wait any more."""
        terms = task.terms
        key = (terms.priority, terms.cpu_milli, terms.memory_bytes)
        lane = self._lanes[key]
        order = task.order
        number = order // BLOCK
        block = lane.blocks[number]
        del block[order]
        if not block:
            lane.close(number)
            if not lane.blocks:
                del self._lanes[key]
        self._length -= 1

    def draw(self, lanes_max: int = LANES_MAX) -> Draw:
        """The rows in order, for one pass over them."""
        found: dict[int, list[tuple[Need, _Lane]]] = {}
        # By need, too: the smallest that fits nowhere settles it for all that ask for more.
        for key in sorted(self._lanes):
            found.setdefault(key[0], []).append((key[1:], self._lanes[key]))
        return Draw([found[priority] for priority in sorted(found, reverse=True)], lanes_max)

    def tasks(self) -> Iterator[Task]:
        """All rows in order.  The queue must not change while this is drawn."""
        return iter(self.draw(len(self._lanes)))

    def __iter__(self) -> Iterator[str]:
        """Ids in order.  The queue must not change while this is drawn."""
        return (task.id for task in self.tasks())


class Finished:
    """Ids of terminal tasks: by the entry that ended them, by id within one; so on every peer."""

    __slots__ = ("_ids", "_indexes", "_sorted")

    def __init__(self) -> None:
        #: Ids per index of the entry that ended them.  A list at the newest index and at the one
        #: that is drawn from, else a tuple: the garbage collector does not look into one of texts.
        self._ids: dict[int, list[str] | tuple[str, ...]] = {}
        #: Indexes, ascending; some may have no ids any more.
        self._indexes: deque[int] = deque()
        #: The entry whose ids are in order, the last one first.
        self._sorted = -1

    def add(self, task: Task) -> None:
        """A task ended in the newest entry."""
        index = task.modify_index
        ids = self._ids.get(index)
        if ids is None:
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

    def remove(self, task: Task) -> None:
        """Forget a task."""
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

    def oldest(self) -> str | None:
        """The id of the one that ended first."""
        indexes = self._indexes
        while indexes:
            index = indexes[0]
            ids = self._ids.get(index)
            if ids is not None:
                if index != self._sorted:
                    ids = self._ids[index] = sorted(ids, reverse=True)
                    self._sorted = index
                return ids[-1]
            indexes.popleft()
        return None

    def __iter__(self) -> Iterator[str]:
        """Ids, the one that ended first at the front.  Nothing may change meanwhile."""
        for index in self._indexes:
            yield from sorted(self._ids.get(index, ()))


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
        #: Ids per create index, in the order of the entry; sealed like those of `Finished`.
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
