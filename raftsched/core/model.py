"""The rows of the replicated state and the words their fields use.

Rules
1. A row is immutable: a change makes a new row, so a snapshot may share rows with the live state.
2. No float, no set and no dict whose order matters enters a row; times are milliseconds since the
   Unix epoch, cpu is milli-cores, memory is bytes.
3. What a task runs stays opaque bytes (`Task.spec`) and is decoded only where it runs or is shown.
"""

from __future__ import annotations

import msgspec

from raftsched.core.policy import USUAL, Extra, Policy
from raftsched.core.products import Product, product_of
from raftsched.core.words import Word


class TaskStatus(Word):
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


class AttemptStatus(Word):
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


class NodeStatus(Word):
    """What the cluster observed of a node (not what anybody wants of it)."""

    UP = "up"
    LOST = "lost"
    LEFT = "left"


class Eligibility(Word):
    """What an operator wants of a node: may it be given new attempts?"""

    ELIGIBLE = "eligible"
    CORDONED = "cordoned"
    #: Nothing new, and what it holds goes elsewhere.
    DRAINING = "draining"


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
    #: Name of a placement strategy: one of ``strategies.STRATEGIES``.
    strategy: str = "spread"
    attempts_max: int = 1
    # Since version 4.
    policy: Policy | None = None
    extra: Extra | None = None


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
    # Since version 4.
    #: JSON that the attempt left as its result, at most ``RESULT_BYTES_MAX``.
    result: bytes = b""
    #: How far it is, in thousandths, as it said itself; -1: it did not.
    progress: int = -1
    progress_text: str = ""
    #: Its node is to give it back: it is stopped, and neither failed nor lost.
    is_evicted: bool = False
    # Since version 7.
    #: Bytes of the result that its node keeps as a file; 0: there is none, or it is in ``result``.
    result_bytes: int = 0


class Terms(msgspec.Struct, frozen=True, array_like=True, gc=False, cache_hash=True):
    """What a task asks of the scheduler; tasks that ask the same share one (``State.terms``)."""

    namespace: str
    queue: str
    priority: int
    cpu_milli: int
    memory_bytes: int
    strategy: str
    attempts_max: int
    # Since version 4.
    #: None: as `USUAL` has it.
    policy: Policy | None = None


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
    # Since version 4.
    #: When it became ready, or is going to; 0: when it was created, and, while it is ``waiting``,
    #: when ``extra.after`` ends.
    ready_at: int = 0
    extra: Extra | None = None

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
    def policy(self) -> Policy:
        """How the scheduler deals with it."""
        return self.terms.policy or USUAL

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
    def product(self) -> Product | None:
        """What it came to so far: what it borrowed, else of its latest attempt, if there is one."""
        if self.extra is not None and self.extra.borrowed is not None:
            return self.extra.borrowed
        return product_of(self.id, self.attempts[-1]) if self.attempts else None

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
    # Since version 4.
    #: How long an attempt without a lease of its own may go on unheard; 0: as the leader's config.
    lease_ms: int = 0
    #: What attempts can hold beside cpu and memory: (name, count), by name.
    resources: tuple[tuple[str, int], ...] = ()
    #: Labels set at run time; they are stronger than those it registered with.
    labels_set: dict[str, str] = {}
    #: When a node that is ``draining`` takes back what it still holds; 0: at once.
    drain_at: int = 0


class Queue(msgspec.Struct, frozen=True, omit_defaults=True):
    """What holds for all tasks of a queue.  A queue without a row is as the defaults say."""

    name: str
    #: Nothing of it is assigned; what runs goes on.
    paused: bool = False
    #: Attempts at once; 0: no limit.
    concurrency: int = 0
    #: Tasks that are not terminal; more are refused.  0: no limit.
    depth_max: int = 0
    #: JSON of a task document: what its submissions do not say themselves.
    defaults: bytes = b""
    #: Finished tasks are kept so long and so many; 0: as the settings say.
    retention_ms: int = 0
    retention_count: int = 0
    #: Bytes of finished tasks, with their results and what is kept of their output; 0: no bound.
    retention_bytes: int = 0
    modify_index: int = 0


class Limit(msgspec.Struct, frozen=True, omit_defaults=True):
    """What tasks with this key share.  A key without a row is a mutex."""

    key: str
    #: Attempts that may hold it at once; 0: any number.
    count: int = 1
    #: A token bucket: so many starts in so long, and so many at once; 0: no rate.
    rate_count: int = 0
    rate_ms: int = 0
    burst: int = 0
    #: When the bucket is full again, in microseconds (the cell rate algorithm).
    full_at_us: int = 0
    modify_index: int = 0


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
    # Since version 4.
    #: Bytes of tasks that are not terminal, about; more are refused.
    open_bytes_max: int = 4 << 30
    #: A task of the lowest priority goes before one of the highest that is 100 times this younger.
    ageing_ms: int = 60_000
    # Since version 5.
    #: Bytes of finished tasks, with their results and what is kept of their output; the oldest go.
    finished_bytes_max: int = 1 << 30


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
#: Longest ``Attempt.result``.
RESULT_BYTES_MAX = 64 * 1024
#: Longest result that a node keeps as a file: largest ``Attempt.result_bytes``.
RESULT_FILE_BYTES_MAX = 16 * 1024 * 1024
