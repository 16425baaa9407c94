"""What simulated tasks ask for beside running: leases, times, retries, keys, limits, many nodes."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import NamedTuple

import msgspec

from raftsched.core.handlers.forks import encode
from raftsched.core.model import NewTask
from raftsched.core.policy import (
    ALL_NODES,
    Backoff,
    Delivery,
    Extra,
    OnLeaseLoss,
    Policy,
    RetryNode,
)
from raftsched.core.spec import TaskSpec
from raftsched.core.workflow import ANY_NUMBER, Dependency, Fork, On, Speculation


class Asked(NamedTuple):
    """What one task asks for."""

    attempts_max: int = 1
    policy: Policy | None = None
    extra: Extra | None = None


class Wishes(NamedTuple):
    """How often tasks ask for something, and how often for what."""

    #: So many tasks do.
    share: float
    #: By kind (`KINDS`): how often, in proportion.
    weights: dict[str, float]


def draw(chance: random.Random, wishes: Wishes, may_ask: bool) -> Asked:
    """One task's wishes.  ``may_ask``: the cluster surely knows all of it by now."""
    attempts_max = chance.choice((1, 1, 3))
    if not may_ask or chance.random() >= wishes.share:
        return Asked(attempts_max)
    (kind,) = chance.choices(tuple(wishes.weights), tuple(wishes.weights.values()))
    return KINDS[kind](chance, attempts_max)


def _once(chance: random.Random, attempts_max: int) -> Asked:
    return Asked(1, Policy(delivery=Delivery.AT_MOST_ONCE, lease_ms=chance.choice((0, 3_000))))


def _idempotent(chance: random.Random, attempts_max: int) -> Asked:
    return Asked(attempts_max, Policy(idempotent=True, backoff_base_ms=200))


def _overlap(chance: random.Random, attempts_max: int) -> Asked:
    return Asked(attempts_max, Policy(on_lease_loss=OnLeaseLoss.CONTINUE))


def _lease(chance: random.Random, attempts_max: int) -> Asked:
    lease_ms = chance.choice((3_000, 3_000, 7_000))
    return Asked(attempts_max, Policy(lease_ms=lease_ms, backoff_base_ms=50))


def _backoff(chance: random.Random, attempts_max: int) -> Asked:
    return Asked(
        3,
        Policy(
            backoff=chance.choice(list(Backoff)),
            backoff_base_ms=chance.choice((10, 700)),
            backoff_max_ms=3_000,
            retry_node=chance.choice(list(RetryNode)),
            retry_on_exit=chance.choice(((), (), (1,), (75,))),
        ),
    )


def _unique(chance: random.Random, attempts_max: int) -> Asked:
    on_conflict = chance.choice(("return", "replace"))
    return Asked(1, None, Extra(unique_key=chance.choice("uvw"), on_conflict=on_conflict))


def _broadcast(chance: random.Random, attempts_max: int) -> Asked:
    # A part of it may be bound to a node that never comes back.
    return Asked(1, None, Extra(broadcast=chance.choice((ALL_NODES, 2)), expires_ms=15_000))


def _mutex(chance: random.Random, attempts_max: int) -> Asked:
    return Asked(1, Policy(limits=(chance.choice(("m", "n")),)))


def _times(chance: random.Random, attempts_max: int) -> Asked:
    return Asked(
        attempts_max,
        Policy(queue_timeout_ms=chance.choice((0, 2_000, 20_000))),
        Extra(
            delay_ms=chance.choice((0, 500, 8_000)),
            expires_ms=chance.choice((0, 1_000, 15_000)),
        ),
    )


def _workflow(chance: random.Random, attempts_max: int) -> Asked:
    """Two in a row, a task for each item that the first one names, and what comes after all."""
    on = chance.choice(list(On))
    parallel_max = chance.choice((0, 1, 2))
    each = Fork(is_open=True, items_from="a", parallel_max=parallel_max, failures_max=1)
    parts = [
        NewTask("a", _SPEC, attempts_max=attempts_max),
        NewTask("b", _SPEC, extra=Extra(depends_on=(Dependency("a", on),))),
        NewTask("each", _MAP, extra=Extra(depends_on=(Dependency("a"),), fork=each)),
        NewTask(
            "z",
            _SPEC,
            extra=Extra(
                depends_on=(Dependency("each", On.ALWAYS), Dependency("b", On.ALWAYS)),
                needs=chance.choice((0, 1)),
            ),
        ),
    ]
    whole = Fork(
        encode(parts), is_patient=chance.random() < 0.5, failures_max=chance.choice((0, -1))
    )
    # Its items may be on a node that never comes back.
    return Asked(1, None, Extra(fork=whole, expires_ms=20_000))


def _awaiting(chance: random.Random, attempts_max: int) -> Asked:
    """Parts beside one another, some of them held."""
    parts = encode([NewTask(f"p{n}", _SPEC) for n in range(chance.randint(1, 5))])
    fork = Fork(parts, parallel_max=chance.choice((0, 2)), failures_max=chance.choice((0, 1)))
    return Asked(1, None, Extra(fork=fork, expires_ms=20_000))


def _uneven(chance: random.Random, attempts_max: int) -> Asked:
    """Parts some of which take far longer than others, and have twins then."""
    parts = [
        NewTask(str(n), _UNEVEN, attempts_max=attempts_max, policy=Policy(backoff_base_ms=300))
        for n in range(chance.randint(3, 8))
    ]
    fork = Fork(
        encode(parts),
        parallel_max=chance.choice((0, 0, 4)),
        failures_max=chance.choice((0, ANY_NUMBER)),
        speculation=Speculation(chance.choice((1_000, 1_500)), 300, chance.choice((0, 500))),
    )
    return Asked(1, None, Extra(fork=fork, expires_ms=30_000))


_packed = msgspec.msgpack.Encoder()
_SPEC = _packed.encode(TaskSpec(command=("simulated", "part")))
_UNEVEN = _packed.encode(TaskSpec(command=("simulated", "uneven")))
_MAP = _packed.encode(TaskSpec(template=_packed.encode(NewTask("", _SPEC))))

KINDS: dict[str, Callable[[random.Random, int], Asked]] = {
    "once": _once,
    "idempotent": _idempotent,
    "overlap": _overlap,
    "lease": _lease,
    "backoff": _backoff,
    "unique": _unique,
    "broadcast": _broadcast,
    "mutex": _mutex,
    "times": _times,
    "workflow": _workflow,
    "group": _awaiting,
    "uneven": _uneven,
}
#: Two of five ask for something, and for all kinds.
USUAL = Wishes(
    0.4,
    {
        "once": 0.15,
        "idempotent": 0.10,
        "overlap": 0.05,
        "lease": 0.15,
        "backoff": 0.15,
        "unique": 0.15,
        "broadcast": 0.07,
        "mutex": 0.06,
        "times": 0.12,
    },
)


#: Of a cluster that is there for workflows.
WORKFLOWS = Wishes(
    0.8,
    {"workflow": 0.4, "group": 0.2, "uneven": 0.2, "times": 0.1, "unique": 0.05, "once": 0.05},
)


def only(kind: str) -> Wishes:
    """All tasks ask for one kind of thing."""
    return Wishes(1.0, {kind: 1.0})
