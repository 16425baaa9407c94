"""A node that was closed is given nothing: no attempt starts there long after it was told.

What was assigned before may start a moment later, and on a machine that was cut off or stood still
until its lease is over.  Judged is only what is certain: from the answer to the order on, until
somebody may have asked for the contrary.
"""

from __future__ import annotations

from jepsen_like.attempts import attempts
from jepsen_like.checker.verdict import Checker, Findings, workloads
from jepsen_like.evidence import Evidence
from jepsen_like.history import Call
from jepsen_like.spans import NEVER, spans

#: Programs start so long after their assignment at most, on a busy machine too; and so much later
#: than their lease where something is broken.
START_NS, SETTLE_NS = 2_500_000_000, 3_000_000_000


def look(evidence: Evidence, findings: Findings) -> None:
    orders = [call for call in evidence.calls if call.f in ("cordon", "drain", "uncordon")]
    runs = [run for tries in attempts(evidence.effects).values() for run in tries]
    faults = spans(evidence.faults)
    lease = round(evidence.run.lease_seconds * 1e9)
    for order in orders:
        until = _surely_closed(order, orders)
        if until is None:
            continue
        assert order.ended_at is not None
        findings.saw("orders")
        for run in runs:
            if run.node != order.value.get("node"):
                continue
            if not order.ended_at + START_NS < run.from_at < until:
                continue
            is_quiet = not any(
                span.from_at <= run.from_at and span.to_at + SETTLE_NS >= order.ended_at
                for span in faults
            )
            late = run.from_at - order.ended_at
            if not is_quiet and late <= lease + SETTLE_NS:
                continue
            findings.broken(
                f"attempt {run.number} of {run.task} started on {run.node} {late / 1e6:.0f} ms "
                f"after the answer to its {order.f}",
                [order.ended_at, run.from_at],
                [run.task, run.node],
                [order, run],
            )
        findings.saw("seconds_closed", round((min(until, _last(evidence)) - order.ended_at) / 1e9))


def _surely_closed(order: Call, orders: list[Call]) -> int | None:
    """Until when the node was closed for certain; None: never."""
    if order.f == "uncordon" or not order.is_ok or order.ended_at is None:
        return None
    until = NEVER
    for other in orders:
        is_same = other.value.get("node") == order.value.get("node")
        if other.f != "uncordon" or other.outcome == "fail" or not is_same:
            continue
        if other.ended_at is not None and other.ended_at < order.invoked_at:
            continue
        # One whose outcome nobody knows may be done at any time from then on.
        until = min(until, other.invoked_at)
    return until if until > order.ended_at else None


def _last(evidence: Evidence) -> int:
    return max((call.ended_at or 0 for call in evidence.calls), default=0)


CHECKER = Checker(
    "cordons",
    "",
    "orders",
    workloads("drain"),
    look,
    "Was a node given nothing while it was cordoned or drained?",
)
