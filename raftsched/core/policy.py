"""How a task is to be dealt with: retries, leases, places, limits, times.

The rules of ``model`` hold here: no row changes, and no float is in one.
"""

from __future__ import annotations

import msgspec

from raftsched.core.products import Product
from raftsched.core.words import Word
from raftsched.core.workflow import Dependency, Fork


class Delivery(Word):
    """What becomes of a task whose node was lost with it."""

    #: Another attempt: it may run twice, not at once.
    AT_LEAST_ONCE = "at_least_once"
    #: None: a start that may have happened is not repeated; the task ends ``lost``.
    AT_MOST_ONCE = "at_most_once"


class OnLeaseLoss(Word):
    """What a node does with an attempt whose lease runs out."""

    STOP = "stop"
    #: It goes on until the node hears that the attempt is not its own any more: two may overlap.
    CONTINUE = "continue"


class Backoff(Word):
    """How the wait before an attempt grows with those that failed."""

    CONSTANT = "constant"
    LINEAR = "linear"
    EXPONENTIAL = "exponential"


class RetryNode(Word):
    """Where the attempt after a failed one may run."""

    ANY = "any"
    #: Where it failed, as long as that node is up.
    SAME = "same"
    #: Elsewhere, as long as another node that fits is up.
    OTHER = "other"


class Op(Word):
    """How a constraint compares a node's label."""

    EQUAL = "="
    NOT_EQUAL = "!="
    IN = "in"
    NOT_IN = "not in"
    EXISTS = "exists"
    ABSENT = "absent"


class Constraint(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A claim about a node's labels.  A label that is not there equals nothing."""

    #: A label's name; ``node.id`` is the node itself.
    label: str
    op: Op
    #: Sorted; none for ``exists`` and ``absent``, one for ``=`` and ``!=``.
    values: tuple[str, ...] = ()


class Affinity(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A wish: nodes of which the claim is true are worth so much more."""

    constraint: Constraint
    #: -100 to 100; negative: rather not there.
    weight: int


class Policy(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """How the scheduler deals with a task, beside what `Terms` says.  Since version 4.

    Only what is not as usual is written, so that fields can be added.
    """

    backoff: Backoff = Backoff.EXPONENTIAL
    #: Wait before the second attempt, and at most.
    backoff_base_ms: int = 1_000
    backoff_max_ms: int = 300_000
    #: The wait is that much shorter or longer, in thousandths, by a hash of task and attempt.
    jitter_permille: int = 200
    #: Only after these exit codes another attempt; empty: after any failure.
    retry_on_exit: tuple[int, ...] = ()
    retry_node: RetryNode = RetryNode.ANY
    #: Longest wait for the first attempt to start, from when the task may; 0: no limit.
    queue_timeout_ms: int = 0
    delivery: Delivery = Delivery.AT_LEAST_ONCE
    #: May run twice at once: tried elsewhere as soon as its node is silent.
    idempotent: bool = False
    on_lease_loss: OnLeaseLoss = OnLeaseLoss.STOP
    #: Lease of its attempts; 0: the node's.
    lease_ms: int = 0
    #: Losses after which the task fails; 0: ``Settings.losses_max``.
    losses_max: int = 0
    #: What an attempt holds beside cpu and memory: (name, count), by name.
    resources: tuple[tuple[str, int], ...] = ()
    #: All must be true of the node.
    constraints: tuple[Constraint, ...] = ()
    affinity: tuple[Affinity, ...] = ()
    #: Keys of limits that an attempt holds or takes a token of, sorted.
    limits: tuple[str, ...] = ()


#: For ``Extra.broadcast``.
ALL_NODES = -1
#: Highest ``Extra.broadcast``.
BROADCAST_MAX = 1_000
#: The policy of a task that asks for nothing.
USUAL = Policy()


class Extra(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """What is seldom asked, and of one task alone.  Since version 4."""

    #: Instants in milliseconds since the Unix epoch; 0: none.
    not_before: int = 0
    deadline: int = 0
    #: The same counted from the task's creation; 0: none.
    delay_ms: int = 0
    expires_ms: int = 0
    #: Only one task of a namespace that is not terminal has this key; empty: none.
    unique_key: str = ""
    #: What becomes of a submission whose key is taken: ``reject | return | replace``.
    on_conflict: str = "reject"
    #: For the strategy ``consistent_hash``; empty: the task's id.
    placement_key: str = ""
    #: The task that this one is another try of.
    retry_of: str = ""
    #: The task whose end this one waits for (``replace``); set by ``apply``.
    after: str = ""
    # Since version 5.
    #: Run once on each of so many nodes, `ALL_NODES` for every one that may take it; 0: as usual.
    broadcast: int = 0
    # Since version 7.
    #: It waits until these have ended so.
    depends_on: tuple[Dependency, ...] = ()
    #: How many of them are enough; 0: all.
    needs: int = 0
    fork: Fork | None = None
    #: The task that it is another try of: what succeeded of that one is not run again.
    keeps: str = ""
    # Set by ``apply``:
    #: Of ``depends_on``: the tasks that have not ended, and how many ended as they should.
    awaits: tuple[str, ...] = ()
    met: int = 0
    #: The schedule that made it, and for which instant.  Since version 6.
    schedule: str = ""
    slot: int = 0
    #: The task that this one is a part of, and which one of its parts.
    parent: str = ""
    number: int = 0
    #: Into how many it was split; from then on it runs only as they do.
    subtasks: int = 0
    #: Why its subtasks were told to end; empty: they were not.
    stopping: str = ""
    # Since version 7.
    #: The task that does the same at the same time, and the one that this is the twin of.
    twin: str = ""
    twin_of: str = ""
    #: What it came to, if not by an attempt of its own: by its twin's, or by that of a task that it
    #: is another try of.
    borrowed: Product | None = None
