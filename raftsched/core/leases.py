"""How long an attempt may go on without a word between its node and a leader."""

from __future__ import annotations

from collections.abc import Iterator

from raftsched.core.model import Eligibility, Node, NodeStatus, Task
from raftsched.core.state import State


def lease_ms_of(task: Task, node: Node) -> int:
    """How long its node has to be silent until the task may run elsewhere, in milliseconds.

    0 for an idempotent one, which may run twice at once.
    """
    policy = task.terms.policy
    if policy is None:
        return node.lease_ms
    return 0 if policy.idempotent else policy.lease_ms or node.lease_ms


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


def draining(state: State) -> Iterator[Node]:
    """Nodes whose time to give everything back has come, by id."""
    for _, node in sorted(state.nodes.items()):
        if node.eligibility is Eligibility.DRAINING and node.drain_at <= state.now:
            yield node
