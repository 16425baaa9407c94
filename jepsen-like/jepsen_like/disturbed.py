"""Stretches of time in which something was kept from going its usual way."""

from __future__ import annotations

from jepsen_like.closed import closed
from jepsen_like.evidence import Evidence
from jepsen_like.spans import NEVER, spans

#: Peers that were stopped or cut off are ready again within this of the last fault's end.
READY_NS = 10_000_000_000


class Disturbed:
    """Says by when what is due has to be done, and whether something was in its way."""

    def __init__(self, stretches: list[tuple[int, int]], bound_ns: int) -> None:
        """``stretches``: from and to; ``bound_ns``: how long it may take when nothing is."""
        self._stretches = sorted(stretches)
        self._bound = bound_ns

    def deadline(self, due_at: int) -> int:
        """The bound, counted from when it was due, and anew from the end of each stretch that
        began before the bound was over."""
        deadline = due_at + self._bound
        for from_at, to_at in self._stretches:
            if from_at > deadline:
                break
            deadline = max(deadline, min(to_at, NEVER - self._bound) + self._bound)
        return deadline

    def calm(self, from_at: int, to_at: int) -> int:
        """How much of that time nothing was, ns."""
        found, at = 0, from_at
        for low, high in self._stretches:
            if low >= to_at:
                break
            found += max(0, low - at)
            at = max(at, high)
        return found + max(0, to_at - at)

    def is_near(self, at: int) -> bool:
        """Was there any within the bound of an instant?"""
        near = (at - self._bound, at + self._bound)
        return any(low <= near[1] and high >= near[0] for low, high in self._stretches)


def faults_of(evidence: Evidence) -> list[tuple[int, int]]:
    """The faults, and the time from the last one's end until all peers were ready again.

    Peers that were left dead are missed no longer once their leases are over.
    """
    lease = round(evidence.run.lease_seconds * 1e9)
    found = []
    for span in spans(evidence.faults):
        is_left = span.to_at == NEVER and set(span.targets) <= set(evidence.run.dead)
        found.append((span.from_at, span.from_at + lease if is_left else span.to_at))
    healed = evidence.run.phase("healed")
    last = max((to_at for _, to_at in found if healed and to_at < healed.from_), default=None)
    if healed and last is not None:
        found.append((last, min(healed.from_, last + READY_NS)))
    return found


def closed_of(evidence: Evidence) -> list[tuple[int, int]]:
    """When some node was given nothing; one that was removed, until the heal at most."""
    healed = evidence.run.phase("healed")
    found = []
    for node in closed(evidence):
        is_gone = node.to_at == NEVER and node.node not in evidence.run.peers
        until = max(node.from_at, healed.from_) if is_gone and healed else node.to_at
        found.append((node.from_at, until))
    return found
