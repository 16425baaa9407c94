"""The task document of a request, checked, and the row it asks for."""

from __future__ import annotations

from typing import Annotated

import msgspec

from raftsched.api.policies import (
    USUAL_RETRY,
    Broadcast,
    Constraints,
    Limits,
    Placement,
    Resources,
    Retry,
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


class TaskRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The task document of a submission.  One of command, http and python says what runs."""

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
    return NewTask(
        task_id,
        _encoder.encode(spec_of(request)),
        request.queue,
        request.priority,
        cpu_milli,
        memory_bytes,
        strategy,
        request.retry.max_attempts,
        policy_of(request, custom),
        extra_of(request),
    )


_encoder = msgspec.msgpack.Encoder()
