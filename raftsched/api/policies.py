"""How a task document wants its task to be dealt with: retries, times, places, limits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import msgspec

from raftsched.api.checked import checked, milliseconds
from raftsched.api.constraints import constraint_text, parse_constraint
from raftsched.api.problems import Problem
from raftsched.api.times import Duration, instant, parse_duration, parse_instant
from raftsched.core.model import Task
from raftsched.core.policy import (
    ALL_NODES,
    BROADCAST_MAX,
    USUAL,
    Affinity,
    Backoff,
    Constraint,
    Delivery,
    Extra,
    Policy,
    RetryNode,
)
from raftsched.core.timers import deadline_at, starts_at
from raftsched.core.workflow import Speculation
from raftsched.peer.config import parse_bytes, parse_cpu

if TYPE_CHECKING:
    from raftsched.api.documents import TaskRequest

CONSTRAINTS_MAX = 32
LIMITS_MAX = 16
RESOURCES_MAX = 16
#: A shorter one would not outlast the election of a leader.
LEASE_MS_MIN = 5_000
LEASE_MS_MAX = 24 * 3_600_000
COUNT_MAX = 1 << 40

Key = Annotated[str, msgspec.Meta(pattern=r"^[0-9A-Za-z][0-9A-Za-z._:/@-]{0,127}$(?!\n)")]
_NAME = "cpu", "memory"


class Placement(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a node is chosen."""

    strategy: str = "spread"
    #: For ``consistent_hash``; empty: the task's id.
    key: Annotated[str, msgspec.Meta(max_length=200)] = ""


class Retry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How often a task that fails is tried, and when."""

    max_attempts: Annotated[int, msgspec.Meta(ge=1, le=100)] = 1
    backoff: Backoff = Backoff.EXPONENTIAL
    #: Wait before the second attempt, and at most.
    base: Duration = 1
    max: Duration = 300
    #: The wait is this part shorter or longer: 0 to 1.
    jitter: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.2
    #: Only after these exit codes; empty: after any failure.
    on_exit: Annotated[
        list[Annotated[int, msgspec.Meta(ge=0, le=255)]], msgspec.Meta(max_length=256)
    ] = []
    node: RetryNode = RetryNode.ANY


class Wish(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Nodes of which the claim is true are worth so much more."""

    match: str
    weight: Annotated[int, msgspec.Meta(ge=-100, le=100)] = 10


class Unique(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Only one task that is not over has this key in its namespace."""

    key: Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
    on_conflict: Literal["reject", "return", "replace"] = "reject"


class Speculate(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """When a subtask runs a second time, on another node; the first that succeeds counts."""

    #: It has run so many times as long as half of those that succeeded took at most.
    factor: Annotated[float, msgspec.Meta(ge=1, le=1000)] = 2
    #: This part of all has succeeded: 0 to 1.
    after_share: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.5
    #: And it has run for so long.
    min_seconds: Duration = 5


Broadcast = Literal["all"] | Annotated[int, msgspec.Meta(ge=1, le=BROADCAST_MAX)]
Constraints = Annotated[list[str], msgspec.Meta(max_length=CONSTRAINTS_MAX)]
Limits = Annotated[list[Key], msgspec.Meta(max_length=LIMITS_MAX)]
Resources = Annotated[dict[str, str | int | float], msgspec.Meta(max_length=RESOURCES_MAX)]

USUAL_RETRY = Retry()


def speculation_of(asked: bool | Speculate, pointer: str) -> Speculation | None:
    """None: no subtask gets a twin.  Raises Problem."""
    if asked is False:
        return None
    asked = Speculate() if asked is True else asked
    return Speculation(
        round(asked.factor * 1_000),
        round(asked.after_share * 1_000),
        milliseconds(asked.min_seconds, f"{pointer}/min_seconds"),
    )


def speculate_view(asked: Speculation) -> Speculate:
    """As it was asked for."""
    return Speculate(
        asked.factor_permille / 1_000, asked.share_permille / 1_000, asked.min_ms / 1_000
    )


def needs_of(resources: Resources) -> tuple[int, int, tuple[tuple[str, int], ...]]:
    """Milli-cores, bytes, and custom counts by name.  Raises Problem."""
    if not resources:
        return 0, 0, ()
    custom = []
    for name, value in sorted(resources.items()):
        if name in _NAME:
            continue
        pointer = f"/resources/{name}"
        if not name.isidentifier() or len(name) > 64:
            raise Problem("invalid", "a resource has a simple name", pointer=pointer)
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= COUNT_MAX:
            raise Problem("invalid", "a whole number is needed", pointer=pointer)
        if value:
            custom.append((name, value))
    cpu, memory = resources.get("cpu", 0), resources.get("memory", 0)
    return (
        checked(parse_cpu, cpu, "/resources/cpu"),
        checked(parse_bytes, memory, "/resources/memory"),
        tuple(custom),
    )


def policy_of(request: TaskRequest, custom: tuple[tuple[str, int], ...]) -> Policy | None:
    """The policy; None if it is the usual one.  Raises Problem."""
    retry = request.retry
    if retry is USUAL_RETRY and not custom and _is_usual(request):
        return None
    if request.delivery is Delivery.AT_MOST_ONCE and retry.max_attempts > 1:
        raise Problem(
            "invalid",
            "with at_most_once no start is repeated, so more than one attempt cannot be",
            pointer="/retry/max_attempts",
        )
    policy = Policy(
        retry.backoff,
        milliseconds(retry.base, "/retry/base"),
        milliseconds(retry.max, "/retry/max"),
        round(retry.jitter * 1_000),
        tuple(sorted(set(retry.on_exit))),
        retry.node,
        milliseconds(request.queue_timeout, "/queue_timeout"),
        request.delivery,
        request.idempotent,
        request.on_lease_loss,
        _lease_ms(request.lease_seconds),
        request.max_losses,
        custom,
        tuple([_claim(text, f"/constraints/{n}") for n, text in enumerate(request.constraints)]),
        tuple(
            [
                Affinity(_claim(wish.match, f"/affinity/{n}/match"), wish.weight)
                for n, wish in enumerate(request.affinity)
            ]
        ),
        tuple(sorted(set(request.limits))),
    )
    return None if policy == USUAL else policy


def _is_usual(request: TaskRequest) -> bool:
    """Is nothing asked for that a policy says?"""
    return not (
        request.queue_timeout
        or request.idempotent
        or request.lease_seconds
        or request.max_losses
        or request.constraints
        or request.affinity
        or request.limits
        or request.delivery is not USUAL.delivery
        or request.on_lease_loss is not USUAL.on_lease_loss
    )


def _claim(text: str, pointer: str) -> Constraint:
    try:
        return parse_constraint(text)
    except ValueError as error:
        raise Problem("invalid", str(error), pointer=pointer) from None


def _lease_ms(value: Duration) -> int:
    length = milliseconds(value, "/lease_seconds")
    if length and not LEASE_MS_MIN <= length <= LEASE_MS_MAX:
        raise Problem(
            "invalid",
            f"a lease has {LEASE_MS_MIN // 1000} to {LEASE_MS_MAX // 1000} seconds",
            pointer="/lease_seconds",
        )
    return length


def extra_of(request: TaskRequest) -> Extra | None:
    """What is asked of this task alone; None if nothing is.  Raises Problem."""
    key = request.placement.key
    unique, wide = request.unique, request.broadcast
    is_usual = request.not_before is None and request.deadline is None and unique is None
    if is_usual and wide is None and not key:
        return None
    not_before, delay_ms = _when(request.not_before, "/not_before")
    deadline, expires_ms = _when(request.deadline, "/deadline")
    return Extra(
        not_before=not_before,
        deadline=deadline,
        delay_ms=delay_ms,
        expires_ms=expires_ms,
        unique_key="" if unique is None else unique.key,
        on_conflict="reject" if unique is None else unique.on_conflict,
        placement_key=key,
        broadcast=0 if wide is None else ALL_NODES if wide == "all" else wide,
    )


def _when(value: Duration | None, pointer: str) -> tuple[int, int]:
    """An instant, or a duration from the task's creation on; the other one is 0."""
    if value is None:
        return 0, 0
    if isinstance(value, str) and "-" in value:
        return checked(parse_instant, value, pointer), 0
    try:
        return 0, parse_duration(value)
    except ValueError:
        raise Problem(
            "invalid",
            f'{value!r} is neither an instant like "2026-12-31T23:59:59Z" nor a duration',
            pointer=pointer,
        ) from None


# Back to what users see ------------------------------------------------------------------------


def retry_view(task: Task) -> Retry:
    """The task's retries."""
    policy = task.terms.policy
    if policy is None:
        return Retry(task.attempts_max)
    return Retry(
        task.attempts_max,
        policy.backoff,
        policy.backoff_base_ms / 1000,
        policy.backoff_max_ms / 1000,
        policy.jitter_permille / 1000,
        list(policy.retry_on_exit),
        policy.retry_node,
    )


def wishes(policy: Policy) -> list[Wish]:
    """The affinities of a policy."""
    return [Wish(constraint_text(a.constraint), a.weight) for a in policy.affinity]


def claims(policy: Policy) -> list[str]:
    """The constraints of a policy."""
    return [constraint_text(constraint) for constraint in policy.constraints]


def unique_view(extra: Extra | None) -> Unique | None:
    """The unique key of a task."""
    if extra is None or not extra.unique_key:
        return None
    on_conflict = extra.on_conflict
    assert on_conflict in ("reject", "return", "replace")
    return msgspec.convert({"key": extra.unique_key, "on_conflict": on_conflict}, Unique)


def broadcast_view(extra: Extra | None) -> Broadcast | None:
    """On how many nodes a task is to run."""
    if extra is None or not extra.broadcast:
        return None
    return "all" if extra.broadcast == ALL_NODES else extra.broadcast


def instants(task: Task) -> tuple[str | None, str | None]:
    """When it may begin and when it is to be over."""
    extra = task.extra
    if extra is None:
        return None, None
    begin = starts_at(extra, task.created_at)
    asked = extra.not_before or extra.delay_ms
    return instant(begin) if asked else None, instant(deadline_at(task))
