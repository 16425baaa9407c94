"""Rows as users see them."""

from __future__ import annotations

import re

import msgspec

from raftsched.api.policies import (
    Broadcast,
    Placement,
    Retry,
    Speculate,
    Unique,
    Wish,
    broadcast_view,
    claims,
    instants,
    retry_view,
    speculate_view,
    unique_view,
    wishes,
)
from raftsched.api.times import instant
from raftsched.core.model import (
    Attempt,
    AttemptStatus,
    Eligibility,
    Node,
    NodeStatus,
    Task,
    TaskStatus,
)
from raftsched.core.policy import USUAL, Delivery, OnLeaseLoss
from raftsched.core.products import Product, product_of
from raftsched.core.spec import NO_LIMITS, HttpCall, ProcessLimits, PythonCall, TaskSpec
from raftsched.core.state import State
from raftsched.core.workflow import ANY_NUMBER, Fork, On


class HttpView(msgspec.Struct, frozen=True):
    """The request that a task makes."""

    url: str
    method: str
    #: Values of headers that carry secrets are not shown.
    headers: dict[str, str]
    body: str
    expect: tuple[int, ...]
    redirects: int
    verify: bool


class PythonView(msgspec.Struct, frozen=True):
    """The function that a task calls."""

    function: str
    args: msgspec.Raw
    kwargs: msgspec.Raw


class RlimitsView(msgspec.Struct, frozen=True):
    """What the kernel lets each process of a task have; 0: as the node has it."""

    memory: int
    cpu: int
    open_files: int
    processes: int


class DependsView(msgspec.Struct, frozen=True):
    """A task that another one waits for, and what end of it."""

    task: str
    on: On


class ForkView(msgspec.Struct, frozen=True):
    """How it goes with a task's subtasks."""

    #: At once; 0: as many as there is room for.
    max_parallel: int
    #: What the failure of one does: ``fail_fast | finish | ignore``; and how many may fail before.
    on_failure: str
    failures_allowed: int | None
    #: The task whose result or output says what they are.
    items_from: str | None
    #: More of them come.
    is_open: bool
    #: When a subtask gets a twin; None: none does.
    speculate: Speculate | None


class TaskView(msgspec.Struct, frozen=True):
    """A stored task.  Durations are seconds, instants RFC 3339 in UTC."""

    id: str
    name: str
    namespace: str
    queue: str
    priority: int
    labels: dict[str, str]
    #: One of these three says what runs.
    command: tuple[str, ...] | None
    http: HttpView | None
    python: PythonView | None
    shell: bool
    env: dict[str, str]
    cwd: str
    stdin: str
    user: str
    group: str
    #: In octal; empty: as the node has it.
    umask: str
    nice: int
    rlimits: RlimitsView | None
    before: tuple[str, ...]
    after: tuple[str, ...]
    timeout: float
    grace: float
    queue_timeout: float
    not_before: str | None
    deadline: str | None
    retry: Retry
    delivery: Delivery
    idempotent: bool
    on_lease_loss: OnLeaseLoss
    #: 0: the node's.
    lease_seconds: float
    #: 0: as the cluster's settings say.
    max_losses: int
    resources: dict[str, float | int]
    constraints: list[str]
    affinity: list[Wish]
    placement: Placement
    limits: tuple[str, ...]
    unique: Unique | None
    broadcast: Broadcast | None
    #: The schedule that made it, and the instant that it was due.
    schedule: str | None
    slot: str | None
    #: The template that it was made of, as ``name@version``.
    template: str | None
    #: The task that it is a part of.
    parent: str | None
    #: The task that does the same at the same time as it took too long; and of which it is that.
    twin: str | None
    twin_of: str | None
    #: Into how many it was split; it ends when they have ended.
    subtasks: int
    #: Tasks whose end it waits for, and how many of them are to end so; None: all.
    depends_on: list[DependsView]
    needs: int | None
    #: How it goes with its subtasks; None: it runs itself.
    fork: ForkView | None
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
    #: JSON that the latest attempt left; None also if it is too large to stand here.
    result: msgspec.Raw | None
    #: How many bytes one has that is too large, and where it is; else 0 and None.
    result_bytes: int
    result_url: str | None
    #: The attempt that left it, if that was another task's; then it is what the task came to.
    result_at: ResultAtView | None
    #: How far the latest attempt says that it is, 0 to 1, and in words.
    progress: float | None
    progress_text: str
    #: When a task that waits or is to be retried is ready.
    ready_at: str | None
    #: The task that this one is another try of.
    retry_of: str | None
    created_at: str | None
    started_at: str | None
    finished_at: str | None
    create_index: int
    #: The ETag.
    modify_index: int


class ResultAtView(msgspec.Struct, frozen=True):
    """An attempt of another task, which left what this one came to."""

    task: str
    node: str
    attempt: int


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
    result: msgspec.Raw | None
    result_bytes: int
    result_url: str | None
    progress: float | None
    progress_text: str


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
    #: As they are in effect, and those of them that were set at run time.
    labels: dict[str, str]
    labels_set: dict[str, str]
    #: When a node that is ``draining`` takes back what it still holds.
    drain_at: str | None
    slots: int
    attempts: int
    cpu: float
    cpu_milli: int
    cpu_used: float
    memory_bytes: int
    memory_used: int
    resources: dict[str, int]
    resources_used: dict[str, int]
    registered_at: str | None
    status_since: str | None
    modify_index: int


class NodePage(msgspec.Struct, frozen=True):
    """All nodes, by id."""

    items: list[NodeView]
    next_cursor: None
    index: int


#: A task that waits until ``ready_at``.
_WAITS = (TaskStatus.WAITING, TaskStatus.RETRYING)
#: Shown in the place of a secret.
HIDDEN = "(hidden)"
_SECRET = re.compile(r"auth|cookie|token|key|secret|password", re.IGNORECASE)
_specs = msgspec.msgpack.Decoder(TaskSpec)
#: Stands for the latest attempt of a task that has none.
_NO_ATTEMPT = Attempt(0, 0, "", "", AttemptStatus.ASSIGNED, 0)


def task_view(task: Task) -> TaskView:
    """A task as users see it."""
    spec = _specs.decode(task.spec)
    latest = task.attempts[-1] if task.attempts else _NO_ATTEMPT
    product = task.product or product_of(task.id, latest)
    terms, extra = task.terms, task.extra
    policy = terms.policy or USUAL
    not_before, deadline = instants(task)
    # By position, in the order of the fields: by name it takes three times as long.
    return TaskView(
        task.id,
        spec.name,
        terms.namespace,
        terms.queue,
        terms.priority,
        spec.labels,
        spec.command or None,
        None if spec.http is None else _http(spec.http),
        None if spec.python is None else _python(spec.python),
        spec.shell,
        spec.env,
        spec.cwd,
        spec.stdin,
        spec.user,
        spec.group,
        "" if spec.umask < 0 else f"{spec.umask:03o}",
        spec.nice,
        None if spec.limits == NO_LIMITS else _rlimits(spec.limits),
        spec.before,
        spec.after,
        spec.timeout_ms / 1000,
        spec.grace_ms / 1000,
        policy.queue_timeout_ms / 1000,
        not_before,
        deadline,
        retry_view(task),
        policy.delivery,
        policy.idempotent,
        policy.on_lease_loss,
        policy.lease_ms / 1000,
        policy.losses_max,
        {"cpu": terms.cpu_milli / 1000, "memory": terms.memory_bytes, **dict(policy.resources)},
        claims(policy),
        wishes(policy),
        Placement(terms.strategy, "" if extra is None else extra.placement_key),
        policy.limits,
        unique_view(extra),
        broadcast_view(extra),
        None if extra is None else extra.schedule or None,
        None if extra is None else instant(extra.slot),
        spec.origin or None,
        None if extra is None else extra.parent or None,
        None if extra is None else extra.twin or None,
        None if extra is None else extra.twin_of or None,
        0 if extra is None else extra.subtasks,
        [] if extra is None else [DependsView(o.task_id, o.on) for o in extra.depends_on],
        None if extra is None else extra.needs or None,
        None if extra is None or extra.fork is None else _fork(extra.fork),
        task.status,
        task.reason,
        task.paused,
        latest.number,
        terms.attempts_max,
        task.losses,
        latest.node or None,
        latest.token or None,
        product.exit_code,
        latest.signal or None if product.task_id == task.id else None,
        _text(latest.output_tail),
        latest.output_bytes,
        msgspec.Raw(product.result) if product.result else None,
        product.result_bytes,
        _result_url(task.id, product),
        _result_at(task.id, product),
        None if latest.progress < 0 else latest.progress / 1000,
        latest.progress_text,
        instant(task.ready_at) if task.status in _WAITS else None,
        None if extra is None else extra.retry_of or None,
        instant(task.created_at),
        instant(latest.started_at),
        instant(task.finished_at),
        task.create_index,
        task.modify_index,
    )


def _fork(fork: Fork) -> ForkView:
    most = fork.failures_max
    return ForkView(
        fork.parallel_max,
        "ignore" if most == ANY_NUMBER else "finish" if fork.is_patient else "fail_fast",
        None if most == ANY_NUMBER else most,
        fork.items_from or None,
        fork.is_open,
        None if fork.speculation is None else speculate_view(fork.speculation),
    )


def _http(call: HttpCall) -> HttpView:
    return HttpView(
        call.url,
        call.method,
        {name: shown_header(name, value) for name, value in call.headers.items()},
        _text(call.body),
        call.expect,
        call.redirects_max,
        call.verify,
    )


def shown_header(name: str, value: str) -> str:
    """The value of a header, unless it carries a secret by its name."""
    return HIDDEN if _SECRET.search(name) else value


def _python(call: PythonCall) -> PythonView:
    return PythonView(call.function, msgspec.Raw(call.args), msgspec.Raw(call.kwargs))


def _rlimits(limits: ProcessLimits) -> RlimitsView:
    return RlimitsView(limits.memory_bytes, limits.cpu_seconds, limits.open_files, limits.processes)


def _result_url(task_id: str, product: Product) -> str | None:
    if not product.result_bytes:
        return None
    if product.task_id != task_id:
        return f"/v1/tasks/{task_id}/result"
    return f"/v1/tasks/{task_id}/attempts/{product.attempt}/result"


def _result_at(task_id: str, product: Product) -> ResultAtView | None:
    if product.task_id == task_id:
        return None
    return ResultAtView(product.task_id, product.node, product.attempt)


def attempt_view(task_id: str, attempt: Attempt) -> AttemptView:
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
        result=msgspec.Raw(attempt.result) if attempt.result else None,
        result_bytes=attempt.result_bytes,
        result_url=_result_url(task_id, product_of(task_id, attempt)),
        progress=None if attempt.progress < 0 else attempt.progress / 1000,
        progress_text=attempt.progress_text,
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
        labels={**node.labels, **node.labels_set},
        labels_set=node.labels_set,
        drain_at=instant(node.drain_at),
        slots=node.slots,
        attempts=usage.attempts,
        cpu=node.cpu_milli / 1000,
        cpu_milli=node.cpu_milli,
        cpu_used=usage.cpu_milli / 1000,
        memory_bytes=node.memory_bytes,
        memory_used=usage.memory_bytes,
        resources=dict(node.resources),
        resources_used={name: (usage.resources or {}).get(name, 0) for name, _ in node.resources},
        registered_at=instant(node.registered_at),
        status_since=instant(node.status_since),
        modify_index=node.modify_index,
    )


def _text(output: bytes) -> str:
    return output.decode("utf-8", "replace") if output else ""
