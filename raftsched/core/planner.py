"""Which task goes to which node: pure, proposed by the leader, verified again by ``apply``.

`Room.refusal` is the one place that says whether a task may go to a node: planning and apply both
ask it, and so will explaining.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import msgspec

from raftsched.core.commands import Assignment, Reason
from raftsched.core.indexes import Usage
from raftsched.core.model import Eligibility, NewTask, Node, NodeStatus, Task
from raftsched.core.state import State

#: Attempts a node may hold beyond its slots, waiting there for one: hides the log's round trip.
AHEAD_MAX = 512
#: Tasks that fit nowhere are passed over; after this many in one pass the pass ends.
MISFITS_MAX = 1_000


class PlanPolicy(msgspec.Struct, frozen=True):
    """What the leader's shell decides about one pass."""

    #: Assignments at most.
    limit: int = 1_000
    #: Attempts to place on a node beyond its slots, by node id; at most ``AHEAD_MAX`` counts.
    ahead: dict[str, int] = {}


#: Ranks a node for a task: the lowest is chosen, node ids break ties.  Parts per million, integers.
Strategy = Callable[[Task | NewTask, Node, Usage], int]


def _load(node: Node, usage: Usage) -> int:
    """The fullest of the node's dimensions after now, in parts per million."""
    parts = usage.attempts * 1_000_000 // max(1, node.slots)
    if usage.cpu_milli:
        parts = max(parts, usage.cpu_milli * 1_000_000 // max(1, node.cpu_milli))
    if usage.memory_bytes:
        parts = max(parts, usage.memory_bytes * 1_000_000 // max(1, node.memory_bytes))
    return parts


def _spread(task: Task | NewTask, node: Node, usage: Usage) -> int:
    return _load(node, usage)


def _binpack(task: Task | NewTask, node: Node, usage: Usage) -> int:
    load = _load(node, usage)
    # A node whose slots are all taken comes last: packing must not queue behind free slots.
    return load if usage.attempts >= node.slots else -load


STRATEGIES: dict[str, Strategy] = {"spread": _spread, "binpack": _binpack}


class Room:
    """What a node can still take, in one pass of the planner or one command of `apply`.

    `refusal` is the one place that says whether a task may go to a node.
    """

    __slots__ = ("_refusal", "attempts_max", "node", "ranks", "usage")

    def __init__(self, node: Node, usage: Usage, ahead: int = AHEAD_MAX) -> None:
        self.node = node
        #: An own copy, which `take` counts up.
        self.usage = usage
        self.attempts_max = node.slots + min(ahead, AHEAD_MAX)
        #: By strategy, while ``usage`` stays as it is.
        self.ranks: dict[str, int] = {}
        self._refusal: Reason | None = None
        if node.status is not NodeStatus.UP:
            self._refusal = Reason.NODE_NOT_UP
        elif node.eligibility is not Eligibility.ELIGIBLE:
            self._refusal = Reason.NODE_CORDONED

    @property
    def is_open(self) -> bool:
        """May it take anything at all?"""
        return self._refusal is None and self.usage.attempts < self.attempts_max

    def refusal(self, task: Task | NewTask) -> Reason | None:
        """Why ``task`` may not go here; None if it may."""
        usage, node = self.usage, self.node
        if self._refusal is not None:
            return self._refusal
        if (
            usage.attempts >= self.attempts_max
            or usage.cpu_milli + task.cpu_milli > node.cpu_milli
            or usage.memory_bytes + task.memory_bytes > node.memory_bytes
        ):
            return Reason.NODE_FULL
        return None

    def rank(self, task: Task | NewTask) -> int:
        """The node's rank for a task; strategies look at no more of a task than their name."""
        name = task.strategy
        rank = self.ranks.get(name)
        if rank is None:
            rank = self.ranks[name] = STRATEGIES[name](task, self.node, self.usage)
        return rank

    def take(self, task: Task | NewTask) -> None:
        """Put a task here."""
        self.usage.add(task)
        self.ranks.clear()


def refusal(task: Task, node: Node, usage: Usage) -> Reason | None:
    """Why ``task`` may not go to ``node`` holding ``usage``; None if it may."""
    return Room(node, usage).refusal(task)


def plan(state: State, policy: PlanPolicy) -> tuple[Assignment, ...]:
    """Assignments for the ready tasks that fit now, in queue order."""
    return _place(_ready_tasks(state), state, policy) if len(state.ready) else ()


def plan_new(state: State, tasks: Iterable[NewTask], policy: PlanPolicy) -> tuple[Assignment, ...]:
    """Assignments for tasks that are about to be created, to travel in the same entry.

    Nothing while others wait: those are first.
    """
    return () if len(state.ready) else _place(tasks, state, policy)


def _ready_tasks(state: State) -> Iterator[Task]:
    for task_id in state.ready:
        task = state.tasks.get(task_id)
        assert task is not None
        yield task


def _place(
    tasks: Iterable[Task | NewTask], state: State, policy: PlanPolicy
) -> tuple[Assignment, ...]:
    rooms = _rooms(state, policy)
    found: list[Assignment] = []
    misfits = 0
    for task in tasks:
        if not rooms or len(found) >= policy.limit or misfits >= MISFITS_MAX:
            break
        room = _choose(task, rooms)
        if room is None:
            misfits += 1
            continue
        room.take(task)
        found.append(Assignment(task.id, room.node.id, room.node.incarnation))
        if not room.is_open:
            rooms.remove(room)
    return tuple(found)


def _rooms(state: State, policy: PlanPolicy) -> list[Room]:
    """Nodes that may take anything at all, by id."""
    rooms = [
        Room(node, state.usage[node_id].copy(), policy.ahead.get(node_id, 0))
        for node_id, node in sorted(state.nodes.items())
    ]
    return [room for room in rooms if room.is_open]


def _choose(task: Task | NewTask, rooms: list[Room]) -> Room | None:
    best: Room | None = None
    best_rank = 0
    for room in rooms:
        rank = room.rank(task)
        if (best is None or rank < best_rank) and room.refusal(task) is None:
            best, best_rank = room, rank
    return best
