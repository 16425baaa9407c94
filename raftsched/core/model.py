"""The rows of the replicated state and the words their fields use.

Rules
1. A row is immutable: a change makes a new row, so a snapshot may share rows with the live state.
2. No float, no set and no dict whose order matters enters a row; times are milliseconds since the
   Unix epoch, cpu is milli-cores, memory is bytes.
3. What a task runs stays opaque bytes (`Task.spec`) and is decoded only where it runs or is shown.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec


class _Word(StrEnum):
    """A stable word; hashed as the text it is (Enum's own hash is a Python call per lookup).

    Where every task passes, modules name the words they use once, at their top: Python 3.11 takes
    longer to find a member in its class than to make a row.
    """

    __hash__ = str.__hash__


class TaskStatus(_Word):
    """Where a task stands.  The legal moves are the table in ``lifecycle``."""

    WAITING = "waiting"
    QUEUED = "queued"
    ASSIGNED = "assigned"
    RUNNING = "running"
    RETRYING = "retrying"
    CANCELLING = "cancelling"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"
    LOST = "lost"


TERMINAL = frozenset(
    {
        TaskStatus.SUCCEEDED,
        TaskStatus.FAILED,
        TaskStatus.CANCELLED,
        TaskStatus.EXPIRED,
        TaskStatus.LOST,
    }
)


class AttemptStatus(_Word):
    """Where one try of a task stands."""

    ASSIGNED = "assigned"
    STARTING = "starting"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    TIMED_OUT = "timed_out"
    CANCELLED = "cancelled"
    LOST = "lost"


ATTEMPT_TERMINAL = frozenset(
    {
        AttemptStatus.SUCCEEDED,
        AttemptStatus.FAILED,
        AttemptStatus.TIMED_OUT,
        AttemptStatus.CANCELLED,
        AttemptStatus.LOST,
    }
)


class NodeStatus(_Word):
    """What the cluster observed of a node (not what anybody wants of it)."""

    UP = "up"
    LOST = "lost"
    LEFT = "left"


class Eligibility(_Word):
    """What an operator wants of a node: may it be given new attempts?"""

    ELIGIBLE = "eligible"
    CORDONED = "cordoned"


class TaskSpec(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=False):
    """What a task runs and how; stored as msgpack bytes, decoded where it runs or is shown."""

    #: Program and arguments; with ``shell`` exactly one element, the shell line.
    command: tuple[str, ...]
    name: str = ""
    shell: bool = False
    env: dict[str, str] = {}
    #: Working directory; empty means the attempt's own fresh directory.
    cwd: str = ""
    stdin: str = ""
    #: Longest run of one attempt; 0 means no limit.
    timeout_ms: int = 0
    #: Time between SIGTERM and SIGKILL.
    grace_ms: int = 10_000
    labels: dict[str, str] = {}


class NewTask(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One task as a submission carries it; all its checks but the replicated ones are done."""

    #: UUID text made by the client or the accepting peer, never by ``apply``.
    id: str
    #: ``msgspec.msgpack.encode(TaskSpec)``.
    spec: bytes
    queue: str = "default"
    #: 0 (last) to 100 (first).
    priority: int = 50
    cpu_milli: int = 0
    memory_bytes: int = 0
    #: Name of a placement strategy: a key of ``planner.STRATEGIES``.
    strategy: str = "spread"
    attempts_max: int = 1


class Attempt(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One try of a task on one node under one fencing token."""

    number: int
    #: Fencing token: highest ever given at the time of assignment plus one.
    token: int
    node: str
    #: The node's incarnation the attempt was given to; a later one never runs it.
    incarnation: str
    status: AttemptStatus
    assigned_at: int
    started_at: int = 0
    finished_at: int = 0
    #: None while it runs and when a signal ended it.
    exit_code: int | None = None
    signal: int = 0
    reason: str = ""
    #: Last bytes of stdout and stderr together, at most ``OUTPUT_TAIL_BYTES_MAX``.
    output_tail: bytes = b""
    #: Bytes the attempt wrote, kept or not.
    output_bytes: int = 0


class Terms(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What a task asks of the scheduler; tasks that ask the same share one (``State.terms``)."""

    namespace: str
    queue: str
    priority: int
    cpu_milli: int
    memory_bytes: int
    strategy: str
    attempts_max: int


class Task(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What the user wants done, and how far it is."""

    id: str
    #: ``msgspec.msgpack.encode(TaskSpec)``; never looked into by ``apply``.
    spec: bytes
    terms: Terms
    created_at: int
    create_index: int
    #: Place in the order of creation, new for every task; ready tasks of a priority go by it.
    order: int
    status: TaskStatus
    modify_index: int
    #: Why the status is what it is, a stable word; empty when the status says it all.
    reason: str = ""
    #: How often a node took an attempt with it; not counted in ``attempts_max``.
    losses: int = 0
    #: A paused task is not assigned; its status is untouched.
    paused: bool = False
    #: 0 until the task is terminal.
    finished_at: int = 0
    #: Every try, oldest first; their tokens rise.
    attempts: tuple[Attempt, ...] = ()

    @property
    def namespace(self) -> str:
        """Scope of idempotency keys."""
        return self.terms.namespace

    @property
    def queue(self) -> str:
        """Name of the queue."""
        return self.terms.queue

    @property
    def priority(self) -> int:
        """0 (last) to 100 (first)."""
        return self.terms.priority

    @property
    def cpu_milli(self) -> int:
        """What an attempt holds of its node's cpu."""
        return self.terms.cpu_milli

    @property
    def memory_bytes(self) -> int:
        """What an attempt holds of its node's memory."""
        return self.terms.memory_bytes

    @property
    def strategy(self) -> str:
        """Name of the placement strategy."""
        return self.terms.strategy

    @property
    def attempts_max(self) -> int:
        """Attempts that may fail before the task does."""
        return self.terms.attempts_max

    @property
    def attempt(self) -> int:
        """Number of the latest attempt; 0 before the first."""
        return self.attempts[-1].number if self.attempts else 0

    @property
    def node(self) -> str:
        """Node of the current or latest attempt; empty before the first."""
        return self.attempts[-1].node if self.attempts else ""

    @property
    def token(self) -> int:
        """Fencing token of the current or latest attempt; 0 before the first."""
        return self.attempts[-1].token if self.attempts else 0

    @property
    def started_at(self) -> int:
        """When the latest attempt started; 0 when it has not."""
        return self.attempts[-1].started_at if self.attempts else 0


class Node(msgspec.Struct, frozen=True, array_like=True):
    """A peer's capacity as the scheduler sees it."""

    id: str
    #: New at every start of the node that could not re-adopt its runner.
    incarnation: str
    #: Base URL of the node's HTTP API, for example ``http://127.0.0.1:7400``.
    address: str
    cpu_milli: int
    memory_bytes: int
    #: How many attempts may be assigned at once.
    slots: int
    status: NodeStatus
    eligibility: Eligibility
    registered_at: int
    modify_index: int
    version: str = ""
    labels: dict[str, str] = {}
    #: Why and since when the status is what it is.
    reason: str = ""
    status_since: int = 0


class KeyRecord(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What an idempotency key already did, and what was answered then."""

    #: Hash of the parsed request, 16 bytes.
    request_hash: bytes
    #: The first answer, packed (``handlers.answers``): short, and nothing for the collector.
    answer: bytes
    index: int
    #: By ``state.now``.
    expires_at: int


class Settings(msgspec.Struct, frozen=True, array_like=True):
    """What changes the behaviour of ``apply``; itself replicated, changed by ``UpdateSettings``."""

    #: Tasks that are not terminal; more are refused (``Reason.OVERLOADED``).
    tasks_open_max: int = 2_000_000
    #: Idempotency keys held; a full table refuses, it never forgets early.
    keys_max: int = 1_000_000
    key_retention_ms: int = 24 * 3_600_000
    #: Terminal tasks are removed after this long, or when there are more than the maximum.
    finished_retention_ms: int = 7 * 24 * 3_600_000
    finished_max: int = 1_000_000
    #: A task lost this often ends ``failed``, reason ``lost_too_often``.
    losses_max: int = 3


class DigestReport(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What a peer's replica came to at the index of a check."""

    peer: str
    #: ``State.digest``, 16 bytes.
    digest: bytes


class Check(msgspec.Struct, frozen=True, array_like=True):
    """A comparison of all replicas, as far as it is.  What it shows follows from its fields."""

    #: Of the entry that began it: every peer's digest is that of its state behind this entry.
    index: int
    #: How digests are made; a peer that makes others reports none.
    format: int
    started_at: int
    #: Ids of the peers whose majority is right, sorted.
    voters: tuple[str, ...]
    #: In the order they came, one a voter.
    reports: tuple[DigestReport, ...] = ()

    @property
    def majority(self) -> bytes:
        """The digest that more than half of the voters reported; empty: none, or not yet."""
        digest, count = self._most()
        return digest if 2 * count > len(self.voters) else b""

    @property
    def diverged(self) -> tuple[str, ...]:
        """Who reported another digest than the majority did, in the order of the reports."""
        right = self.majority
        if not right:
            return ()
        return tuple([report.peer for report in self.reports if report.digest != right])

    @property
    def differs(self) -> bool:
        """Were there two different digests?"""
        return any(report.digest != self.reports[0].digest for report in self.reports)

    @property
    def is_split(self) -> bool:
        """Can no digest have a majority any more, whatever is still to be reported?"""
        missing = len(self.voters) - len(self.reports)
        return 2 * (self._most()[1] + missing) <= len(self.voters)

    def _most(self) -> tuple[bytes, int]:
        """The digest reported most often (of several, the one reported first), and how often."""
        digests = [report.digest for report in self.reports]
        return max([(d, digests.count(d)) for d in digests], key=_count, default=(b"", 0))


def _count(counted: tuple[bytes, int]) -> int:
    return counted[1]


#: Longest task id, in characters.
TASK_ID_MAX = 64
#: Characters of a reason that are kept.
REASON_MAX = 500
#: Longest ``Attempt.output_tail``.
OUTPUT_TAIL_BYTES_MAX = 2_048
