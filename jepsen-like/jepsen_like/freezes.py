"""Machines that stood still as a whole: the clocks that would have ended their attempts did, too.

What an attempt does in the moment after it woke up is no fault of the scheduler if its lease was
over by then (``docs/guides/fencing.md``).  Until that lease is over the attempt counts, whether its
machine stands still or not: nobody may take its place.
"""

from __future__ import annotations

import msgspec

from jepsen_like.ahead import CLOCK
from jepsen_like.attempts import Attempt, attempts
from jepsen_like.evidence import Evidence
from jepsen_like.history import Record
from jepsen_like.reigns import reigns
from jepsen_like.spans import Span, spans

#: Begins the names of faults in which all of a machine stands still, and how long what it ran may
#: go on after them.
FREEZE = "pause-machine"
AWAKE_NS = 1_000_000_000
#: It takes so long until all of a machine stands still.
STOPPING_NS = 2_000_000_000
#: Leases are renewed about that often, so one may be that much older than the freeze.
RENEWED_NS = 1_000_000_000
#: A fault that was over for so long keeps no node from renewing.
SETTLED_NS = 2_000_000_000


class Freeze(Record, frozen=True):
    """One machine's, or several machines', from beginning to end."""

    targets: tuple[str, ...]
    from_at: int
    to_at: int
    #: Before this no lease of what ran there was over.
    over_at: int


def freezes(evidence: Evidence) -> list[Freeze]:
    """When which machines stood still for longer than their leases."""
    faults = spans(evidence.faults)
    lease = round(evidence.run.lease_seconds * 1e9)
    found = []
    for span in faults:
        if span.fault.startswith(FREEZE):
            since = _silent_since(span, faults, evidence)
            over_at = max(span.from_at, since + lease - RENEWED_NS)
            if over_at < span.to_at:
                found.append(Freeze(span.targets, span.from_at, span.to_at, over_at))
    return found


def _silent_since(freeze: Span, faults: list[Span], evidence: Evidence) -> int:
    """When its nodes may have renewed for the last time: at its beginning, or that of faults
    which kept them from it and went on until shortly before it."""
    since = freeze.from_at
    for span in reversed(faults):
        is_near = span.from_at < since <= span.to_at + SETTLED_NS
        if is_near and CLOCK not in span.fault and _silences(span, freeze, faults, evidence):
            since = span.from_at
    return since


def _silences(span: Span, freeze: Span, faults: list[Span], evidence: Evidence) -> bool:
    """Does it, with what else was broken meanwhile, keep the machine from renewing: is that one
    struck, its leader, or more of the others than may fail?"""
    struck = {
        peer
        for other in faults
        if other.from_at <= span.to_at and other.to_at >= span.from_at and other is not freeze
        for peer in other.targets
    }
    reigning = [
        reign
        for reign in reigns(evidence.samples)
        if reign.from_at <= span.to_at and reign.to_at >= span.from_at - SETTLED_NS
    ]
    leaders = {reign.peer for reign in reigning}
    is_headless = not leaders or len(reigning) > 1
    too_many = len(struck) > (len(evidence.run.peers) - 1) // 2
    return is_headless or too_many or not struck.isdisjoint({*freeze.targets, *leaders})


def counted(run: Attempt, frozen: list[Freeze]) -> Attempt:
    """The attempt until its lease was over, if all that came later is that it woke up and ended."""
    for freeze in frozen:
        woke = freeze.over_at < run.to_at <= freeze.to_at + AWAKE_NS
        was_there = run.from_at < freeze.from_at + STOPPING_NS
        if run.node in freeze.targets and was_there and woke:
            return msgspec.structs.replace(run, to_at=max(run.from_at, freeze.over_at))
    return run


def counted_attempts(evidence: Evidence) -> dict[str, list[Attempt]]:
    """Task -> its attempts by token, each as far as it counts."""
    frozen = freezes(evidence)
    found = attempts(evidence.effects)
    return {task: [counted(run, frozen) for run in runs] for task, runs in found.items()}
