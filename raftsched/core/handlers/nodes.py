"""Nodes come, go, are lost, and are taken out of the choice."""

from __future__ import annotations

import msgspec

from raftsched.core.changes import Changes, with_latest
from raftsched.core.commands import (
    DrainNode,
    LoseAttempts,
    NodeLeft,
    NodeLost,
    RegisterNode,
    SetEligibility,
    SetNodeLabels,
)
from raftsched.core.handlers.attempts import lose
from raftsched.core.leases import lease_ms_of, may_move
from raftsched.core.model import (
    REASON_MAX,
    AttemptStatus,
    Eligibility,
    Node,
    NodeStatus,
    TaskStatus,
)
from raftsched.core.outcomes import Accepted, Outcome, Reason, Rejected
from raftsched.core.versions import POLICIES

#: Labels set at run time.
LABELS_MAX = 64
_DONE = Accepted()


def register(changes: Changes, command: RegisterNode) -> Outcome:
    """No value.

    Nothing but ``replaces`` tells a new incarnation from one that is long over and whose command
    was on its way for long; if that one won, its ``clean`` would end attempts that run (G3).
    """
    state = changes.state
    if not command.node_id or not command.incarnation:
        return Rejected(Reason.INVALID, "node id and incarnation are needed")
    numbers = [count for _, count in command.resources]
    numbers += [command.slots, command.cpu_milli, command.memory_bytes, command.lease_ms]
    if min(numbers) < 0:
        return Rejected(Reason.INVALID, "slots, cpu, memory and resources are not negative")
    known = state.nodes.get(command.node_id)
    if known is not None and known.incarnation != command.incarnation:
        if command.replaces != known.incarnation:
            return Rejected(Reason.STALE_INCARNATION, command.node_id)
        if command.clean:
            _lose_attempts(changes, command.node_id, "node-restarted", spare=command.incarnation)
    is_held = bool(state.by_node.get(command.node_id)) and not command.clean
    lease_ms = _lease_ms(known, command, is_held=is_held) if state.version >= POLICIES else 0
    since = state.now
    if known is not None and known.status is NodeStatus.UP:
        since = known.status_since
    changes.others.nodes[command.node_id] = Node(
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
        lease_ms=lease_ms,
        resources=command.resources if state.version >= POLICIES else (),
        labels_set=known.labels_set if known is not None else {},
        drain_at=known.drain_at if known is not None else 0,
    )
    changes.event("node_changed", node_id=command.node_id, detail="up")
    return _DONE


def _lease_ms(known: Node | None, command: RegisterNode, *, is_held: bool) -> int:
    """A lease never gets shorter while something runs that may still have the longer one."""
    if known is None or (known.incarnation != command.incarnation and not is_held):
        return command.lease_ms
    return max(known.lease_ms, command.lease_ms)


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


def lose_attempts(changes: Changes, command: LoseAttempts) -> Outcome:
    """Value: ids of the tasks that lost their attempts."""
    if command.term != changes.entry.term:
        return Rejected(Reason.STALE_TERM, command.node_id)
    state = changes.state
    node = state.nodes.get(command.node_id)
    if node is None:
        return Rejected(Reason.UNKNOWN_NODE, command.node_id)
    if not node.lease_ms:
        return Rejected(Reason.INVALID, "the node has not said what its lease is")
    reason = command.reason[:REASON_MAX] or "node-lost"
    lost_ids: list[str] = []
    for task_id in state.by_node.get(command.node_id, ()):
        task = changes.task(task_id)
        assert task is not None
        is_its = task.attempts[-1].incarnation == command.incarnation
        if is_its and lease_ms_of(task, node) <= command.silent_ms:
            lose(changes, task, reason)
            lost_ids.append(task_id)
    is_up = node.incarnation == command.incarnation and node.status is NodeStatus.UP
    if is_up and node.lease_ms <= command.silent_ms:
        _set_status(changes, node, NodeStatus.LOST, reason)
    return Accepted(tuple(lost_ids))


def set_labels(changes: Changes, command: SetNodeLabels) -> Outcome:
    """No value."""
    node = changes.state.nodes.get(command.node_id)
    if node is None:
        return Rejected(Reason.UNKNOWN_NODE, command.node_id)
    if len(command.labels) > LABELS_MAX:
        return Rejected(Reason.INVALID, f"a node may have {LABELS_MAX} labels")
    changes.others.nodes[node.id] = msgspec.structs.replace(
        node,
        labels_set=dict(sorted(command.labels.items())),
        modify_index=changes.index,
    )
    changes.event("node_changed", node_id=node.id, detail="labels")
    return _DONE


def drain(changes: Changes, command: DrainNode) -> Outcome:
    """No value.  What was not started yet is taken back at once."""
    node = changes.state.nodes.get(command.node_id)
    if node is None:
        return Rejected(Reason.UNKNOWN_NODE, command.node_id)
    if command.patience_ms < 0:
        return Rejected(Reason.INVALID, "patience is not negative")
    changes.others.nodes[node.id] = msgspec.structs.replace(
        node,
        eligibility=Eligibility.DRAINING,
        drain_at=changes.state.now + command.patience_ms,
        modify_index=changes.index,
    )
    evict(changes, node.id, only_assigned=command.patience_ms > 0)
    changes.event("node_changed", node_id=node.id, detail=Eligibility.DRAINING.value)
    return _DONE


def evict(changes: Changes, node_id: str, *, only_assigned: bool) -> None:
    """Ask a node to give its attempts back; those it has not started, or all."""
    for task_id in changes.state.by_node.get(node_id, ()):
        task = changes.task(task_id)
        assert task is not None
        attempt = task.attempts[-1]
        if task.status is TaskStatus.CANCELLING or attempt.is_evicted:
            continue
        is_started = attempt.status is not AttemptStatus.ASSIGNED
        if is_started and (only_assigned or not may_move(task)):
            continue
        evicted = msgspec.structs.replace(attempt, is_evicted=True)
        changes.put(
            msgspec.structs.replace(
                task, attempts=with_latest(task, evicted), modify_index=changes.index
            )
        )
        changes.event("task_changed", task.id, node_id, "evicted")


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
    changes.others.nodes[node.id] = msgspec.structs.replace(
        node,
        status=status,
        reason=reason,
        status_since=changes.state.now,
        modify_index=changes.index,
    )
    changes.event("node_changed", node_id=node.id, detail=status.value)


def set_eligibility(changes: Changes, command: SetEligibility) -> Outcome:
    """No value."""
    if command.eligibility is Eligibility.DRAINING:
        return Rejected(Reason.INVALID, "a node is drained by DrainNode, which says when")
    node = changes.state.nodes.get(command.node_id)
    if node is None:
        return Rejected(Reason.UNKNOWN_NODE, command.node_id)
    changes.others.nodes[node.id] = msgspec.structs.replace(
        node, eligibility=command.eligibility, drain_at=0, modify_index=changes.index
    )
    changes.event("node_changed", node_id=node.id, detail=command.eligibility.value)
    return _DONE
