"""Nodes that were given nothing, or gave back what they ran, because somebody wanted it so."""

from __future__ import annotations

from collections.abc import Callable

from jepsen_like.attempts import Attempt
from jepsen_like.evidence import Evidence
from jepsen_like.history import Call, Record
from jepsen_like.spans import NEVER, spans

#: A question without an answer has done by then what it does.
OPEN_NS = 10_000_000_000
#: Beginnings of the names of faults that stop peers with good manners, and how long after its end
#: what was given back is gone.
STOPS = ("restart", "bitflip", "member", "leader-removed")
GONE_NS = 2_000_000_000


class Closed(Record, frozen=True):
    """A node from the order that closed it to the one that opened it again."""

    node: str
    from_at: int
    to_at: int
    is_drained: bool


def closed(evidence: Evidence) -> list[Closed]:
    """When which nodes may have been closed."""
    calls = [call for call in evidence.calls if call.f in ("cordon", "drain", "uncordon")]
    return [
        Closed(
            str(call.value.get("node")), call.invoked_at, _opened(call, calls), call.f == "drain"
        )
        for call in calls
        if call.f != "uncordon" and call.outcome != "fail"
    ]


def _opened(order: Call, calls: list[Call]) -> int:
    since = order.invoked_at + OPEN_NS if order.ended_at is None else order.ended_at
    return min(
        (
            call.ended_at
            for call in calls
            if call.f == "uncordon"
            and call.is_ok
            and call.ended_at is not None
            and call.invoked_at >= since
            and call.value.get("node") == order.value.get("node")
        ),
        default=NEVER,
    )


def given_back(evidence: Evidence) -> Callable[[Attempt], bool]:
    """May an attempt have ended because its node gave it back?  That counts as no try of it."""
    stretches = [(c.node, c.from_at, c.to_at + GONE_NS) for c in closed(evidence) if c.is_drained]
    for span in spans(evidence.faults):
        if span.fault.startswith(STOPS):
            for peer in span.targets:
                stretches.append((peer, span.from_at, span.to_at + GONE_NS))

    def is_given_back(run: Attempt) -> bool:
        return run.ended_at is None and any(
            node == run.node and low <= run.to_at <= high for node, low, high in stretches
        )

    return is_given_back
