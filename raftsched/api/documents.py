"""The task document of a request, checked, and the row it asks for."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec

from raftsched.api.forks import hash_of_items, is_related, with_relations
from raftsched.api.policies import (
    USUAL_RETRY,
    Broadcast,
    Constraints,
    Limits,
    Placement,
    Resources,
    Retry,
    Speculate,
    Unique,
    Wish,
    extra_of,
    needs_of,
    policy_of,
)
from raftsched.api.problems import Problem
from raftsched.api.programs import NO_RLIMITS, Argv, Http, Python, Rlimits, spec_of
from raftsched.api.times import Duration
from raftsched.core.model import NewTask
from raftsched.core.policy import USUAL, Delivery, OnLeaseLoss
from raftsched.core.strategies import STRATEGIES

#: Bounds on one task document.
ENV_MAX = 256
LABELS_MAX = 64

# ``$`` alone would let a line feed at the end through.
_ID = r"^[0-9A-Za-z][0-9A-Za-z_-]{0,63}$(?!\n)"

Name = Annotated[str, msgspec.Meta(max_length=200)]
Word = Annotated[str, msgspec.Meta(pattern=r"^[0-9A-Za-z][0-9A-Za-z._-]{0,63}$(?!\n)")]
Account = Annotated[str, msgspec.Meta(pattern=r"^([0-9A-Za-z_][0-9A-Za-z._-]{0,63})?$(?!\n)")]


class Use(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A stored template, and values for its parameters."""

    name: Word
    parameters: dict[str, Any] = {}
    #: Refused unless the template is of this version; 0: whatever it is.
    version: Annotated[int, msgspec.Meta(ge=0, le=1 << 40)] = 0


class Depends(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A task that another one waits for, and what end of it."""

    task: Annotated[str, msgspec.Meta(max_length=200)]
    on: Literal["success", "failure", "always"] = "success"


class Allow(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """So many subtasks may fail."""

    allow: Annotated[int, msgspec.Meta(ge=0, le=1 << 40)]


OnFailure = Literal["fail_fast", "finish", "ignore"] | Allow


class Map(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename={"source": "from"}):
    """One subtask for each item.  One of items, range and from says which they are."""

    #: With places such as ``{item}`` and ``{index}``.
    task: TaskRequest
    items: list[Any] | None = None
    range: Annotated[list[int], msgspec.Meta(max_length=3)] | None = None
    #: A task whose result is a list, or that prints an item in JSON a line.
    source: Annotated[str, msgspec.Meta(max_length=200)] | None = None
    #: Subtasks at once; 0: as many as there is room for.
    max_parallel: Annotated[int, msgspec.Meta(ge=0, le=1 << 40)] = 0
    on_failure: OnFailure = "fail_fast"
    #: A subtask that takes far longer than others runs a second time, on another node.
    speculate: bool | Speculate = False


class Workflow(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Subtasks that wait for one another by their names."""

    tasks: Annotated[list[TaskRequest], msgspec.Meta(min_length=1, max_length=1000)]
    on_failure: OnFailure = "finish"


class TaskRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The task document of a submission.

    One of command, http, python, map, workflow and template says what runs.
    """

    #: Program and arguments.
    command: Annotated[list[str], msgspec.Meta(min_length=1, max_length=4096)] | str | None = None
    http: Http | None = None
    python: Python | None = None
    id: Annotated[str, msgspec.Meta(pattern=_ID)] | None = None
    name: Name = ""
    namespace: Word = "default"
    queue: Word = "default"
    priority: Annotated[int, msgspec.Meta(ge=0, le=100)] = 50
    labels: Annotated[dict[str, str], msgspec.Meta(max_length=LABELS_MAX)] = {}
    #: True: ``command`` is one line for ``/bin/sh``.
    shell: bool = False
    env: Annotated[dict[str, str], msgspec.Meta(max_length=ENV_MAX)] = {}
    cwd: Annotated[str, msgspec.Meta(max_length=4096)] = ""
    stdin: str = ""
    user: Account = ""
    group: Account = ""
    #: In octal: ``"027"``.
    umask: Annotated[str, msgspec.Meta(max_length=4)] = ""
    nice: Annotated[int, msgspec.Meta(ge=-20, le=19)] = 0
    rlimits: Rlimits = NO_RLIMITS
    #: Programs run before it and after it, however it ended.
    before: Argv = []
    after: Argv = []
    #: Of one attempt.
    timeout: Duration = 0
    grace: Duration = 10
    #: Longest wait for the first attempt.
    queue_timeout: Duration = 0
    #: Instants, or durations from the submission on.
    not_before: Duration | None = None
    deadline: Duration | None = None
    retry: Retry = USUAL_RETRY
    delivery: Delivery = USUAL.delivery
    idempotent: bool = False
    on_lease_loss: OnLeaseLoss = USUAL.on_lease_loss
    lease_seconds: Duration = 0
    max_losses: Annotated[int, msgspec.Meta(ge=0, le=100)] = 0
    #: ``cpu`` in cores, ``memory`` in bytes or like ``"256MiB"``, any other name is counted.
    resources: Resources = {}
    constraints: Constraints = []
    affinity: Annotated[list[Wish], msgspec.Meta(max_length=32)] = []
    placement: Placement = Placement()
    limits: Limits = []
    unique: Unique | None = None
    #: Run once on each of so many nodes; ``"all"``: on every one that may take it.
    broadcast: Broadcast | None = None
    #: Tasks whose end it waits for: their ids, or names within one submission.
    depends_on: list[str | Depends] = []
    #: How many of them are to end so.
    needs: Literal["all", "any"] | Annotated[int, msgspec.Meta(ge=1, le=1000)] = "all"
    map: Map | None = None
    workflow: Workflow | None = None
    #: A stored template instead of these; the other fields are stronger than what it says.
    template: Use | None = None


def to_new_task(request: TaskRequest, task_id: str) -> NewTask:
    """The row a submission carries.  Raises Problem."""
    strategy = request.placement.strategy
    if strategy not in STRATEGIES:
        raise Problem(
            "invalid",
            f"unknown strategy; known: {', '.join(sorted(STRATEGIES))}",
            pointer="/placement/strategy",
        )
    cpu_milli, memory_bytes, custom = needs_of(request.resources)
    spec, extra = spec_of(request), extra_of(request)
    if is_related(request):
        extra, template = with_relations(request, extra, to_new_task)
        spec = msgspec.structs.replace(
            spec, template=template, items_hash=hash_of_items(request, extra)
        )
    return NewTask(
        task_id,
        _encoder.encode(spec),
        request.queue,
        request.priority,
        cpu_milli,
        memory_bytes,
        strategy,
        request.retry.max_attempts,
        policy_of(request, custom),
        extra,
    )


_encoder = msgspec.msgpack.Encoder()
