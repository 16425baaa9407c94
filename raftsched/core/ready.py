"""The tasks that may be assigned, in the order in which they have their turn.

Rules
1. Tasks that ask for the same are a `Lane`: first in, first out.  Of the first tasks of all lanes
   the one with the lowest rank goes first, the older of two with the same.
2. The rank is ``created_at - priority * ageing_ms``: it does not change with time, and the lowest
   priority goes before the highest one that was created 100 times ``ageing_ms`` later.  Before
   cluster version 4 it is the priority alone.
3. What comes back from a node, a pause or a wait has the place that it had.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from heapq import heapify, heappop, heapreplace

from raftsched.core.model import Task, Terms
from raftsched.core.policy import RetryNode

#: Tasks of a lane in one block: as many as a dictionary holds before it doubles.
BLOCK = 680

#: What lanes are told apart by: the terms, and for tasks whose retry is bound to a node or barred
#: from one, that node.
LaneKey = Terms | tuple[Terms, str]
#: Rank and order of a task: the lowest goes first.
Place = tuple[int, int]

_ANY = RetryNode.ANY


class Lane:
    """The ready tasks that ask for the same, in blocks by ``Task.order``.

    A block holds about `BLOCK` tasks: those whose order is at least its start, and below the next
    one's.  None is empty.
    """

    __slots__ = (
        "age_counts", "at", "base", "blocks", "drawn", "filed", "following", "last",
        "mask", "newest", "starts", "stream", "terms", "unsorted",
    )  # fmt: skip

    def __init__(self, terms: Terms, last: str) -> None:
        self.terms = terms
        #: The node that the retry is about; empty if any will do.
        self.last = last
        #: Ascending, and by it: the blocks, each by order unless its start is among the unsorted.
        self.starts: list[int] = []
        self.blocks: list[dict[int, Task]] = []
        #: Highest order ever pushed.
        self.newest = -1
        #: Starts of blocks that a task came back to, sorted when they are next drawn.
        self.unsorted: set[int] | None = None
        #: For the planner (``board``): a task's rank is ``base + age_counts * created_at``.
        self.base = 0
        self.age_counts = 0
        #: Nodes that it may go to, by their bits; the stream it is in; its entry there that counts.
        self.mask = 0
        self.stream: object = None
        self.filed = 0
        #: Place of the first task; None: look.
        self.at: Place | None = None
        #: What is left of it in the pass that is under way; None: it was not drawn from.
        self.drawn: Iterator[Task] | None = None
        #: The first one that was not drawn then.
        self.following: Task | None = None

    def append(self, order: int, task: Task) -> None:
        """A task that is younger than all that were ever here."""
        self.newest = order
        blocks = self.blocks
        if not blocks or len(blocks[-1]) >= BLOCK:
            blocks.append({})
            self.starts.append(order)
        blocks[-1][order] = task

    def insert(self, order: int, task: Task) -> None:
        """A task that came back."""
        starts, blocks = self.starts, self.blocks
        if self.unsorted is None:
            self.unsorted = set()
        if not blocks:
            starts.append(order)
            blocks.append({})
        at = bisect_right(starts, order) - 1
        if at < 0:
            at = 0
            self.unsorted.discard(starts[0])
            starts[0] = order
        block = blocks[at]
        block[order] = task
        self.unsorted.add(starts[at])
        if len(block) > 2 * BLOCK:
            ordered = sorted(block.items())
            self.unsorted.discard(starts[at])
            blocks[at : at + 1] = [dict(ordered[:BLOCK]), dict(ordered[BLOCK:])]
            starts.insert(at + 1, ordered[BLOCK][0])

    def remove(self, order: int) -> None:
        """A task leaves."""
        at = bisect_right(self.starts, order) - 1
        block = self.blocks[at]
        del block[order]
        if not block:
            if self.unsorted:
                self.unsorted.discard(self.starts[at])
            del self.blocks[at], self.starts[at]

    def head(self) -> Task | None:
        """The first task; None if there is none (any more)."""
        return next(iter(self._sorted(0).values())) if self.blocks else None

    def place_of(self, task: Task) -> Place:
        """Of one of its tasks, for the planner."""
        return self.base + self.age_counts * task.created_at, task.order

    def look(self) -> Place | None:
        """Of the first task, which is remembered as ``at``; None: there is none."""
        task = self.head()
        self.at = at = None if task is None else self.place_of(task)
        return at

    def _sorted(self, at: int) -> dict[int, Task]:
        block = self.blocks[at]
        if self.unsorted and self.starts[at] in self.unsorted:
            self.unsorted.discard(self.starts[at])
            block = self.blocks[at] = dict(sorted(block.items()))
        return block

    def __iter__(self) -> Iterator[Task]:
        """The lane must not change while this is drawn."""
        for at in range(len(self.blocks)):
            yield from self._sorted(at).values()


class ReadyQueue:
    """All lanes."""

    __slots__ = ("_ageing_ms", "_lanes", "_length", "fresh")

    def __init__(self) -> None:
        #: None is empty.
        self._lanes: dict[LaneKey, Lane] = {}
        self._length = 0
        #: None: priorities are strict.
        self._ageing_ms: int | None = None
        #: Lanes that the planner has not seen as they are: new, or with another head.
        self.fresh: dict[Lane, None] = {}

    def __len__(self) -> int:
        return self._length

    @property
    def lanes_count(self) -> int:
        """How many different things are asked for."""
        return len(self._lanes)

    @property
    def ageing_ms(self) -> int | None:
        """How much younger a task may be for one more of priority; None: however much."""
        return self._ageing_ms

    def set_ageing(self, ageing_ms: int | None) -> bool:
        """Order by it from now on.  Is it another one than before?"""
        is_new, self._ageing_ms = ageing_ms != self._ageing_ms, ageing_ms
        return is_new

    def rank(self, task: Task) -> int:
        """The lowest goes first."""
        if self._ageing_ms is None:
            return -task.terms.priority
        return task.created_at - task.terms.priority * self._ageing_ms

    def push(self, task: Task) -> None:
        """The task waits."""
        terms = task.terms
        key = terms if terms.policy is None else _key(task)
        lane = self._lanes.get(key)
        if lane is None:
            lane = self._open(key)
        order = task.order
        if order > lane.newest:
            lane.append(order, task)
        else:
            lane.insert(order, task)
            lane.at = None
            self.fresh[lane] = None
        self._length += 1

    def fill(self, tasks: Iterable[Task]) -> None:
        """Push many, by ascending order, into an empty queue."""
        assert not self._length
        terms: Terms | None = None
        lane: Lane | None = None
        length = 0
        for task in tasks:
            # Neighbours have the same terms nearly always.
            if lane is None or task.terms is not terms or terms.policy is not None:
                terms = task.terms
                key = terms if terms.policy is None else _key(task)
                lane = self._lanes.get(key) or self._open(key)
            lane.append(task.order, task)
            length += 1
        self._length = length

    def _open(self, key: LaneKey) -> Lane:
        terms, last = key if isinstance(key, tuple) else (key, "")
        lane = self._lanes[key] = Lane(terms, last)
        self.fresh[lane] = None
        return lane

    def remove(self, task: Task) -> None:
        """The task does not wait any more."""
        terms = task.terms
        key = terms if terms.policy is None else _key(task)
        lane = self._lanes[key]
        order = task.order
        lane.remove(order)
        at = lane.at
        if at is not None and at[1] == order:
            lane.at = None
        if not lane.blocks:
            del self._lanes[key]
            self.fresh.pop(lane, None)
        self._length -= 1

    def refresh(self) -> None:
        """The planner has seen none of the lanes."""
        self.fresh = dict.fromkeys(self._lanes.values())

    def tasks(self) -> Iterator[Task]:
        """All rows in order.  The queue must not change while this is drawn."""
        heads: list[tuple[int, int, Task, Iterator[Task]]] = []
        for lane in self._lanes.values():
            tasks = iter(lane)
            task = next(tasks)
            heads.append((self.rank(task), task.order, task, tasks))
        heapify(heads)
        while heads:
            _, _, task, tasks = heads[0]
            yield task
            following = next(tasks, None)
            if following is None:
                heappop(heads)
            else:
                heapreplace(heads, (self.rank(following), following.order, following, tasks))

    def __iter__(self) -> Iterator[str]:
        """Ids in order.  The queue must not change while this is drawn."""
        return (task.id for task in self.tasks())


def _key(task: Task) -> LaneKey:
    """The lane of a task with a policy."""
    terms = task.terms
    if task.attempts and terms.policy is not None and terms.policy.retry_node is not _ANY:
        return terms, task.attempts[-1].node
    return terms
