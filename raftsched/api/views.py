"""Rows as users see them."""

from __future__ import annotations

import datetime as dt
from functools import lru_cache

import msgspec

from raftsched.api.documents import Placement, Resources, Retry
from raftsched.core.model import (
    Attempt,
    AttemptStatus,
    Eligibility,
    Node,
    NodeStatus,
    Task,
    TaskSpec,
    TaskStatus,
)
from raftsched.core.state import State


class TaskView(msgspec.Struct, frozen=True):
    """A stored task.  Durations are seconds, instants RFC 3339 in UTC."""

    id: str
    name: str
    namespace: str
    queue: str
    priority: int
    labels: dict[str, str]
    command: tuple[str, ...]
    shell: bool
    env: dict[str, str]
    cwd: str
    stdin: str
    timeout: float
    grace: float
    retry: Retry
    resources: Resources
    placement: Placement
    state: TaskStatus
    #: Why the state is what it is, a stable word; empty when the state says it all.
    reason: str
    paused: bool
    #: Number of the latest attempt; 0 before the first.  So for the fields of it below.
    attempt: int
    attempts_max: int
    #: How often a node took an attempt with it.
    losses: int
    node: str | None
    token: int | None
    exit_code: int | None
    signal: int | None
    output_tail: str
    output_bytes: int
    created_at: str | None
    started_at: str | None
    finished_at: str | None
    create_index: int
    #: The ETag.
    modify_index: int


class TaskPage(msgspec.Struct, frozen=True):
    """A page of tasks, newest first."""

    items: list[TaskView]
    #: Where the next page begins; None: this is the last one.
    next_cursor: str | None
    #: Every change up to this index is in the page; later ones may be.
    index: int


class AttemptView(msgspec.Struct, frozen=True):
    """One try of a task."""

    number: int
    token: int
    node: str
    incarnation: str
    status: AttemptStatus
    reason: str
    exit_code: int | None
    signal: int | None
    assigned_at: str | None
    started_at: str | None
    finished_at: str | None
    output_tail: str
    output_bytes: int


class AttemptList(msgspec.Struct, frozen=True):
    """All tries of a task, oldest first."""

    items: list[AttemptView]


class NodeView(msgspec.Struct, frozen=True):
    """A node, and what is used of it."""

    id: str
    status: NodeStatus
    eligibility: Eligibility
    reason: str
    address: str
    incarnation: str
    version: str
    labels: dict[str, str]
    slots: int
    attempts: int
    cpu: float
    cpu_milli: int
    cpu_used: float
    memory_bytes: int
    memory_used: int
    registered_at: str | None
    status_since: str | None
    modify_index: int


class NodePage(msgspec.Struct, frozen=True):
    """All nodes, by id."""

    items: list[NodeView]
    next_cursor: None
    index: int


_specs = msgspec.msgpack.Decoder(TaskSpec)
#: Stands for the latest attempt of a task that has none.
_NO_ATTEMPT = Attempt(0, 0, "", "", AttemptStatus.ASSIGNED, 0)
_MILLISECONDS = tuple(f".{number:03d}Z" for number in range(1000))


def task_view(task: Task) -> TaskView:
    """A task as users see it."""
    spec = _specs.decode(task.spec)
    latest = task.attempts[-1] if task.attempts else _NO_ATTEMPT
    # By position, in the order of the fields: by name it takes three times as long.
    return TaskView(
        task.id,
        spec.name,
        task.namespace,
        task.queue,
        task.priority,
        spec.labels,
        spec.command,
        spec.shell,
        spec.env,
        spec.cwd,
        spec.stdin,
        spec.timeout_ms / 1000,
        spec.grace_ms / 1000,
        Retry(task.attempts_max),
        Resources(task.cpu_milli / 1000, task.memory_bytes),
        Placement(task.strategy),
        task.status,
        task.reason,
        task.paused,
        latest.number,
        task.attempts_max,
        task.losses,
        latest.node or None,
        latest.token or None,
        latest.exit_code,
        latest.signal or None,
        _text(latest.output_tail),
        latest.output_bytes,
        instant(task.created_at),
        instant(latest.started_at),
        instant(task.finished_at),
        task.create_index,
        task.modify_index,
    )


def attempt_view(attempt: Attempt) -> AttemptView:
    """An attempt as users see it."""
    return AttemptView(
        number=attempt.number,
        token=attempt.token,
        node=attempt.node,
        incarnation=attempt.incarnation,
        status=attempt.status,
        reason=attempt.reason,
        exit_code=attempt.exit_code,
        signal=attempt.signal or None,
        assigned_at=instant(attempt.assigned_at),
        started_at=instant(attempt.started_at),
        finished_at=instant(attempt.finished_at),
        output_tail=_text(attempt.output_tail),
        output_bytes=attempt.output_bytes,
    )


def node_view(state: State, node: Node) -> NodeView:
    """A node as users see it."""
    usage = state.usage[node.id]
    return NodeView(
        id=node.id,
        status=node.status,
        eligibility=node.eligibility,
        reason=node.reason,
        address=node.address,
        incarnation=node.incarnation,
        version=node.version,
        labels=node.labels,
        slots=node.slots,
        attempts=usage.attempts,
        cpu=node.cpu_milli / 1000,
        cpu_milli=node.cpu_milli,
        cpu_used=usage.cpu_milli / 1000,
        memory_bytes=node.memory_bytes,
        memory_used=usage.memory_bytes,
        registered_at=instant(node.registered_at),
        status_since=instant(node.status_since),
        modify_index=node.modify_index,
    )


def instant(milliseconds: int) -> str | None:
    """RFC 3339, UTC; None for "not yet"."""
    if not milliseconds:
        return None
    second, rest = divmod(milliseconds, 1000)
    return _second(second) + _MILLISECONDS[rest]


@lru_cache(maxsize=1024)
def _second(second: int) -> str:
    # Rows that are shown together were mostly stamped within a few seconds.
    return dt.datetime.fromtimestamp(second, dt.UTC).strftime("%Y-%m-%dT%H:%M:%S")


def _text(output: bytes) -> str:
    return output.decode("utf-8", "replace") if output else ""
