"""Nodes come, go, are lost, and are taken out of the choice."""

from __future__ import annotations

import msgspec

from raftsched.core.changes import Changes
from raftsched.core.commands import (
    Accepted,
    NodeLeft,
    NodeLost,
    Outcome,
    Reason,
    RegisterNode,
    Rejected,
    SetEligibility,
)
from raftsched.core.handlers.attempts import lose
from raftsched.core.model import REASON_MAX, Eligibility, Node, NodeStatus

_DONE = Accepted()


def register(changes: Changes, command: RegisterNode) -> Outcome:
    """No value.

    Nothing but ``replaces`` tells a new incarnation from one that is long over and whose command
    was on its way for long; if that one won, its ``clean`` would end attempts that run (G3).
    """
    state = changes.state
    if not command.node_id or not command.incarnation:
        return Rejected(Reason.INVALID, "node id and incarnation are needed")
    if min(command.slots, command.cpu_milli, command.memory_bytes) < 0:
        return Rejected(Reason.INVALID, "slots, cpu and memory are not negative")
    known = state.nodes.get(command.node_id)
    if known is not None and known.incarnation != command.incarnation:
        if command.replaces != known.incarnation:
            return Rejected(Reason.STALE_INCARNATION, command.node_id)
        if command.clean:
            _lose_attempts(changes, command.node_id, "node-restarted", spare=command.incarnation)
    since = state.now
    if known is not None and known.status is NodeStatus.UP:
        since = known.status_since
    changes.nodes[command.node_id] = Node(
        id=command.node_id,
        incarnation=command.incarnation,
        address=command.address,
        cpu_milli=command.cpu_milli,
        memory_bytes=command.memory_bytes,
        slots=command.slots,
        status=NodeStatus.UP,
        eligibility=known.eligibility if known is not None else Eligibility.ELIGIBLE,
        registered_at=state.now,
        modify_index=changes.index,
        version=command.version,
        labels=command.labels,
        status_since=since,
    )
    changes.event("node_changed", node_id=command.node_id, detail="up")
    return _DONE


def _lose_attempts(
    changes: Changes, node_id: str, reason: str, *, spare: str = "", only: str = ""
) -> None:
    """End what a node held, by token: of all incarnations but ``spare``, or of ``only`` one."""
    for task_id in changes.state.by_node.get(node_id, ()):
        task = changes.task(task_id)
        assert task is not None
        incarnation = task.attempts[-1].incarnation
        if incarnation != spare and (not only or incarnation == only):
            lose(changes, task, reason)


def lost(changes: Changes, command: NodeLost) -> Outcome:
    """No value."""
    if not command.incarnation:
        return Rejected(Reason.INVALID, "a verdict names the incarnation")
    if command.term != changes.entry.term:
        # Its leader was deposed: others may have renewed the lease since (G3).
        return Rejected(Reason.STALE_TERM, command.node_id)
    node = changes.state.nodes.get(command.node_id)
    if node is None:
        return Rejected(Reason.UNKNOWN_NODE, command.node_id)
    reason = command.reason[:REASON_MAX] or "node-lost"
    _lose_attempts(changes, command.node_id, reason, only=command.incarnation)
    if node.incarnation == command.incarnation and node.status is NodeStatus.UP:
        _set_status(changes, node, NodeStatus.LOST, reason)
    return _DONE


def left(changes: Changes, command: NodeLeft) -> Outcome:
    """No value."""
    node = changes.state.nodes.get(command.node_id)
    if node is None:
        return Rejected(Reason.UNKNOWN_NODE, command.node_id)
    if node.incarnation != command.incarnation:
        return Rejected(Reason.STALE_INCARNATION, command.node_id)
    _set_status(changes, node, NodeStatus.LEFT, "left")
    return _DONE


def _set_status(changes: Changes, node: Node, status: NodeStatus, reason: str) -> None:
    changes.nodes[node.id] = msgspec.structs.replace(
        node,
        status=status,
        reason=reason,
        status_since=changes.state.now,
        modify_index=changes.index,
    )
    changes.event("node_changed", node_id=node.id, detail=status.value)


def set_eligibility(changes: Changes, command: SetEligibility) -> Outcome:
    """No value."""
    node = changes.state.nodes.get(command.node_id)
    if node is None:
        return Rejected(Reason.UNKNOWN_NODE, command.node_id)
    changes.nodes[node.id] = msgspec.structs.replace(
        node, eligibility=command.eligibility, modify_index=changes.index
    )
    changes.event("node_changed", node_id=node.id, detail=command.eligibility.value)
    return _DONE
