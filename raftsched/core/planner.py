"""Which task goes to which node: pure, proposed by the leader, verified again by ``apply``.

`refusal` is the one place that says whether a task fits a node; planning, apply and explaining all
call it.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from raftsched.core.commands import Assignment, Reason
from raftsched.core.indexes import Usage
from raftsched.core.model import Eligibility, Node, NodeStatus, Task
from raftsched.core.state import State

#: Attempts a node may hold beyond its slots, waiting there for one: hides the log's round trip.
AHEAD_MAX = 512
#: Tasks that fit nowhere are passed over; after this many in one pass the pass ends.
MISFITS_MAX = 1_000


class PlanPolicy(msgspec.Struct, frozen=True):
    """What the leader's shell decides about one pass."""

    #: Assignments at most.
    limit: int = 1_000
    #: Attempts to place on each node beyond its slots, at most ``AHEAD_MAX``.
    ahead: int = 0


def refusal(task: Task, node: Node, usage: Usage, ahead: int = AHEAD_MAX) -> Reason | None:
    """Why ``task`` may not be placed on ``node`` holding ``usage``; None if it may."""
    if node.status is not NodeStatus.UP:
        return Reason.NODE_NOT_UP
    if node.eligibility is not Eligibility.ELIGIBLE:
        return Reason.NODE_CORDONED
    if (
        usage.attempts >= node.slots + ahead
        or usage.cpu_milli + task.cpu_milli > node.cpu_milli
        or usage.memory_bytes + task.memory_bytes > node.memory_bytes
    ):
        return Reason.NODE_FULL
    return None


#: Ranks a node for a task: the lowest is chosen, node ids break ties.  Parts per million, integers.
Strategy = Callable[[Task, Node, Usage], int]


def _load(node: Node, usage: Usage) -> int:
    """The fullest of the node's dimensions after now, in parts per million."""
    parts = usage.attempts * 1_000_000 // max(1, node.slots)
    if node.cpu_milli:
        parts = max(parts, usage.cpu_milli * 1_000_000 // node.cpu_milli)
    if node.memory_bytes:
        parts = max(parts, usage.memory_bytes * 1_000_000 // node.memory_bytes)
    return parts


def _spread(task: Task, node: Node, usage: Usage) -> int:
    return _load(node, usage)


def _binpack(task: Task, node: Node, usage: Usage) -> int:
    load = _load(node, usage)
    # A node whose slots are all taken comes last: packing must not queue behind free slots.
    return load if usage.attempts >= node.slots else -load


STRATEGIES: dict[str, Strategy] = {"spread": _spread, "binpack": _binpack}


def plan(state: State, policy: PlanPolicy) -> tuple[Assignment, ...]:
    """Assignments for the ready tasks that fit now, in queue order."""
    nodes = [
        (state.nodes[node_id], state.usage[node_id].copy())
        for node_id in sorted(state.nodes)
        if state.nodes[node_id].status is NodeStatus.UP
        and state.nodes[node_id].eligibility is Eligibility.ELIGIBLE
    ]
    found: list[Assignment] = []
    if not nodes or not len(state.ready):
        return ()
    ahead = min(policy.ahead, AHEAD_MAX)
    room = sum(max(0, node.slots + ahead - usage.attempts) for node, usage in nodes)
    misfits = 0
    for task_id in state.ready:
        if not room or len(found) >= policy.limit:
            break
        task = state.tasks.get(task_id)
        assert task is not None
        chosen = _choose(task, nodes, ahead)
        if chosen is None:
            misfits += 1
            if misfits >= MISFITS_MAX:
                break
            continue
        node, usage = chosen
        usage.add(task)
        room -= 1
        found.append(Assignment(task_id, node.id, node.incarnation))
    return tuple(found)


def _choose(task: Task, nodes: list[tuple[Node, Usage]], ahead: int) -> tuple[Node, Usage] | None:
    rank = STRATEGIES[task.strategy]
    best: tuple[Node, Usage] | None = None
    best_rank = 0
    for node, usage in nodes:
        if refusal(task, node, usage, ahead) is not None:
            continue
        this = rank(task, node, usage)
        if best is None or this < best_rank:
            best, best_rank = (node, usage), this
    return best
