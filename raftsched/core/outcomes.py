"""What the replicated state answers to a command, and what a command did."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

import msgspec


class Reason(StrEnum):
    """Why a command or an item of it was refused.  Stable words; the API maps them to problems."""

    UNKNOWN_TASK = "unknown-task"
    UNKNOWN_NODE = "unknown-node"
    UNKNOWN_DEPENDENCY = "unknown-dependency"
    DUPLICATE_ID = "duplicate-id"
    KEY_REUSED = "idempotency-key-reused"
    KEYS_FULL = "idempotency-keys-full"
    OVERLOADED = "overloaded"
    TASK_TERMINAL = "task-terminal"
    TASK_NOT_TERMINAL = "task-not-terminal"
    TASK_NOT_QUEUED = "task-not-queued"
    TASK_PAUSED = "task-paused"
    #: It is another attempt that runs now, or none.
    STALE_TOKEN = "stale-token"
    HAS_DEPENDENTS = "task-has-dependents"
    NODE_NOT_UP = "node-not-up"
    NODE_CORDONED = "node-cordoned"
    NODE_FULL = "node-full"
    STALE_INCARNATION = "stale-incarnation"
    STALE_TERM = "stale-term"
    STALE_CHECK = "stale-check"
    REPLICA_DIVERGENCE = "replica-divergence"
    UNKNOWN_STRATEGY = "unknown-strategy"
    UNKNOWN_QUEUE = "unknown-queue"
    UNKNOWN_LIMIT = "unknown-limit"
    UNKNOWN_SCHEDULE = "unknown-schedule"
    UNKNOWN_TEMPLATE = "unknown-template"
    SCHEDULE_EXISTS = "schedule-exists"
    #: Somebody fired it, or changed it, before.
    STALE_FIRE = "stale-fire"
    QUEUE_PAUSED = "queue-paused"
    QUEUE_FULL = "queue-full"
    #: As many of its attempts are held as its concurrency allows.
    QUEUE_BUSY = "queue-busy"
    LIMIT_HELD = "limit-held"
    CONSTRAINT = "constraint"
    RETRY_ELSEWHERE = "retry-elsewhere"
    UNIQUE_CONFLICT = "unique-conflict"
    TASK_RUNNING = "task-running"
    #: It is a part of another task (the detail: of which), or it was split into parts.
    PART_OF_TREE = "part-of-tree"
    MODIFIED = "modified"
    BATCH_REFUSED = "batch-refused"
    NEEDS_VERSION = "needs-version"
    INVALID = "invalid"
    INTERNAL = "internal"


class Event(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What an accepted command changed, as data: the shells act on it, core does not."""

    #: ``task_queued | task_assigned | task_started | task_finished | task_cancelling |
    #: task_changed | task_deleted | node_changed | report_refused | schedule_changed |
    #: template_changed``
    kind: str
    task_id: str = ""
    node_id: str = ""
    detail: str = ""


class Accepted(msgspec.Struct, frozen=True):
    """The command took effect (or had, for a repeat); ``value`` is of the command's own type."""

    value: Any = None


class Rejected(msgspec.Struct, frozen=True):
    """The command changed nothing."""

    reason: Reason
    detail: str = ""


Outcome = Accepted | Rejected


class Submitted(msgspec.Struct, frozen=True):
    """Value of an accepted `SubmitTasks`: one item per task, in order."""

    #: Task ids; where ``refused`` names the position, the id that was not created (cut to
    #: ``TASK_ID_MAX``).
    task_ids: tuple[str, ...]
    #: True when the key had already done this (``Idempotency-Replayed``).
    replayed: bool = False
    #: Positions whose id existed with the same spec and terms: nothing new was made.
    existing: tuple[int, ...] = ()
    #: Position and refusal of the items that were refused (never with ``atomic``).
    refused: tuple[tuple[int, Rejected], ...] = ()


class Applied(msgspec.Struct):
    """What applying one entry did: an outcome per command per batch, and all events in order."""

    outcomes: list[list[Outcome]]
    events: list[Event]
