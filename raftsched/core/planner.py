"""Which task goes to which node: pure, proposed by the leader, verified again by ``apply``.

`Room.take` is the one place that says whether a task may go to a node: planning and apply both
ask it, and so will explaining.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Callable, Iterable

import msgspec

from raftsched.core.commands import Assignment, Reason
from raftsched.core.indexes import Usage
from raftsched.core.model import Eligibility, NewTask, Node, NodeStatus, Task, Terms
from raftsched.core.state import State

#: Attempts a node may hold beyond its slots, waiting there for one: hides the log's round trip.
AHEAD_MAX = 512


class PlanPolicy(msgspec.Struct, frozen=True):
    """What the leader's shell decides about one pass."""

    #: Assignments at most.
    limit: int = 1_000
    #: Attempts to place on a node beyond its slots, by node id; at most ``AHEAD_MAX`` counts.
    ahead: dict[str, int] = {}


#: Ranks a node by what it holds, in whole parts per million: the lowest is chosen, node ids break
#: ties.
Strategy = Callable[[Node, Usage], int]


def _load(node: Node, usage: Usage) -> int:
    """The fullest of the node's dimensions after now, in parts per million."""
    load = usage.attempts * 1_000_000 // (node.slots or 1)
    if usage.cpu_milli:
        part = usage.cpu_milli * 1_000_000 // (node.cpu_milli or 1)
        load = part if part > load else load
    if usage.memory_bytes:
        part = usage.memory_bytes * 1_000_000 // (node.memory_bytes or 1)
        load = part if part > load else load
    return load


def _binpack(node: Node, usage: Usage) -> int:
    load = _load(node, usage)
    # A node whose slots are all taken comes last: packing must not queue behind free slots.
    return load if usage.attempts >= node.slots else -load


STRATEGIES: dict[str, Strategy] = {"spread": _load, "binpack": _binpack}


class Room:
    """What a node can still take, in one pass of the planner or one command of `apply`.

    `take` is the one place that says whether a task may go to a node.
    """

    __slots__ = ("_refusal", "attempts_max", "node", "usage")

    def __init__(self, node: Node, usage: Usage, ahead: int = AHEAD_MAX) -> None:
        self.node = node
        #: An own copy, which `take` counts up.
        self.usage = usage
        #: A node without slots is on its way out: nothing is to wait there.
        self.attempts_max = node.slots + min(ahead, AHEAD_MAX) if node.slots else 0
        self._refusal: Reason | None = None
        if node.status is not NodeStatus.UP:
            self._refusal = Reason.NODE_NOT_UP
        elif node.eligibility is not Eligibility.ELIGIBLE:
            self._refusal = Reason.NODE_CORDONED

    @property
    def is_open(self) -> bool:
        """May it take anything at all?"""
        return self._refusal is None and self.usage.attempts < self.attempts_max

    def take(self, asked: Terms | NewTask) -> Reason | None:
        """Put a task here, unless it may not go here: then why."""
        if self._refusal is not None:
            return self._refusal
        usage, node = self.usage, self.node
        attempts = usage.attempts
        cpu_milli = usage.cpu_milli + asked.cpu_milli
        memory_bytes = usage.memory_bytes + asked.memory_bytes
        if (
            attempts >= self.attempts_max
            or cpu_milli > node.cpu_milli
            or memory_bytes > node.memory_bytes
        ):
            return _NODE_FULL
        usage.attempts = attempts + 1
        usage.cpu_milli = cpu_milli
        usage.memory_bytes = memory_bytes
        return None


_NODE_FULL = Reason.NODE_FULL


def refusal(task: Task, node: Node, usage: Usage) -> Reason | None:
    """Why ``task`` may not go to ``node`` holding ``usage``; None if it may."""
    return Room(node, usage.copy()).take(task.terms)


def plan(state: State, policy: PlanPolicy) -> tuple[Assignment, ...]:
    """Assignments for the ready tasks that fit now, in queue order."""
    if not len(state.ready):
        return ()
    draw = state.ready.draw()
    return _place(((task.id, task.terms) for task in draw), state, policy, draw.pass_over)


def plan_new(state: State, tasks: Iterable[NewTask], policy: PlanPolicy) -> tuple[Assignment, ...]:
    """Assignments for tasks that are about to be created, to travel in the same entry.

    Nothing while others wait: those are first.
    """
    return () if len(state.ready) else _place(((new.id, new) for new in tasks), state, policy)


def _place(
    asked: Iterable[tuple[str, Terms | NewTask]],
    state: State,
    policy: PlanPolicy,
    pass_over: Callable[[], None] = lambda: None,
) -> tuple[Assignment, ...]:
    choice = _Choice(_rooms(state, policy))
    found: list[Assignment] = []
    for task_id, terms in asked:
        if not choice.rooms or len(found) >= policy.limit:
            break
        node = choice.place(terms)
        if node is None:
            pass_over()
        else:
            found.append(Assignment(task_id, node.id, node.incarnation))
    return tuple(found)


def _rooms(state: State, policy: PlanPolicy) -> list[Room]:
    """Nodes that may take anything at all, by id."""
    rooms = [
        Room(node, state.usage[node_id].copy(), policy.ahead.get(node_id, 0))
        for node_id, node in sorted(state.nodes.items())
    ]
    return [room for room in rooms if room.is_open]


class _Choice:
    """The rooms that are open, in the order in which a strategy would fill them."""

    __slots__ = ("_rank", "_strategy", "rooms")

    def __init__(self, rooms: list[Room]) -> None:
        #: Rank, place among all nodes by id, room; the lowest first.
        self.rooms = [(0, number, room) for number, room in enumerate(rooms)]
        self._strategy = ""
        self._rank: Strategy = _load

    def place(self, asked: Terms | NewTask) -> Node | None:
        """The best node that the task fits on, which takes it; None if it fits nowhere."""
        if asked.strategy != self._strategy:
            self._sort(asked.strategy)
        rooms = self.rooms
        for place, (_, number, room) in enumerate(rooms):
            if room.take(asked) is None:
                del rooms[place]
                if room.usage.attempts < room.attempts_max:
                    insort(rooms, (self._rank(room.node, room.usage), number, room))
                return room.node
        return None

    def _sort(self, strategy: str) -> None:
        rank = STRATEGIES[strategy]
        self._strategy, self._rank = strategy, rank
        self.rooms = sorted(
            (rank(room.node, room.usage), number, room) for _, number, room in self.rooms
        )
