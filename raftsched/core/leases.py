"""How long an attempt may go on without a word between its node and a leader."""

from __future__ import annotations

from collections.abc import Iterator

from raftsched.core.model import AttemptStatus, Eligibility, Node, NodeStatus, Task, TaskStatus
from raftsched.core.policy import Delivery
from raftsched.core.state import State

#: An idempotent task is tried elsewhere when its node was silent for so long, at most.
SUSPECT_MS = 2_000


def lease_ms_of(task: Task, node: Node) -> int:
    """How long its node has to be silent until the task may run elsewhere, in milliseconds.

    Shorter than the lease for an idempotent one, which may run twice at once.
    """
    policy = task.terms.policy
    if policy is None:
        return node.lease_ms
    lease_ms = policy.lease_ms or node.lease_ms
    return min(lease_ms, SUSPECT_MS) if policy.idempotent else lease_ms


def held_leases(state: State) -> Iterator[tuple[str, str, int]]:
    """Node, incarnation and lease in milliseconds of all that is held or up, each once, sorted."""
    found: set[tuple[str, str, int]] = set()
    for node in state.nodes.values():
        if node.status is NodeStatus.UP:
            found.add((node.id, node.incarnation, node.lease_ms))
    for node_id, task_ids in state.by_node.items():
        node = state.nodes[node_id]
        for task_id in task_ids:
            task = state.tasks.get(task_id)
            assert task is not None
            found.add((node_id, task.attempts[-1].incarnation, lease_ms_of(task, node)))
    yield from sorted(found)


def draining(state: State, now: int) -> Iterator[Node]:
    """Nodes whose time to give everything back has come, by id."""
    for _, node in sorted(state.nodes.items()):
        if node.eligibility is Eligibility.DRAINING and node.drain_at <= now:
            yield node


def may_move(task: Task) -> bool:
    """May an attempt that has started be ended and another one be started elsewhere?"""
    return task.policy.delivery is not Delivery.AT_MOST_ONCE


def evictable(state: State, node: Node) -> Iterator[Task]:
    """What a node holds that it was not asked to end or to give back, by token."""
    for task_id in state.by_node.get(node.id, ()):
        task = state.tasks.get(task_id)
        assert task is not None
        attempt = task.attempts[-1]
        is_asked = task.status is TaskStatus.CANCELLING or attempt.is_evicted
        if not is_asked and (attempt.status is AttemptStatus.ASSIGNED or may_move(task)):
            yield task
