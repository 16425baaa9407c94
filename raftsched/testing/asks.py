"""What simulated tasks ask for beside running: leases, times, retries, keys, limits."""

from __future__ import annotations

import random
from typing import NamedTuple

from raftsched.core.policy import Backoff, Delivery, Extra, OnLeaseLoss, Policy, RetryNode

#: So many tasks ask for something.
SHARE = 0.4


class Asked(NamedTuple):
    """What one task asks for."""

    attempts_max: int = 1
    policy: Policy | None = None
    extra: Extra | None = None


def draw(chance: random.Random, may_ask: bool) -> Asked:
    """One task's wishes.  ``may_ask``: the cluster surely knows policies by now."""
    attempts_max = chance.choice((1, 1, 3))
    if not may_ask or chance.random() >= SHARE:
        return Asked(attempts_max)
    kind = chance.random()
    if kind < 0.15:
        return Asked(1, Policy(delivery=Delivery.AT_MOST_ONCE, lease_ms=chance.choice((0, 3_000))))
    if kind < 0.25:
        return Asked(attempts_max, Policy(idempotent=True, backoff_base_ms=200))
    if kind < 0.3:
        return Asked(attempts_max, Policy(on_lease_loss=OnLeaseLoss.CONTINUE))
    if kind < 0.45:
        lease_ms = chance.choice((3_000, 3_000, 7_000))
        return Asked(attempts_max, Policy(lease_ms=lease_ms, backoff_base_ms=50))
    if kind < 0.6:
        return Asked(3, _backoff(chance))
    if kind < 0.75:
        on_conflict = chance.choice(("return", "replace"))
        return Asked(1, None, Extra(unique_key=chance.choice("uvw"), on_conflict=on_conflict))
    if kind < 0.85:
        return Asked(1, Policy(limits=(chance.choice(("m", "n")),)))
    return Asked(
        attempts_max,
        Policy(queue_timeout_ms=chance.choice((0, 2_000, 20_000))),
        Extra(
            delay_ms=chance.choice((0, 500, 8_000)),
            expires_ms=chance.choice((0, 1_000, 15_000)),
        ),
    )


def _backoff(chance: random.Random) -> Policy:
    return Policy(
        backoff=chance.choice(list(Backoff)),
        backoff_base_ms=chance.choice((10, 700)),
        backoff_max_ms=3_000,
        retry_node=chance.choice(list(RetryNode)),
        retry_on_exit=chance.choice(((), (), (1,), (75,))),
    )
