"""Machines that stood still as a whole: the clocks that would have ended their attempts did, too.

What an attempt does in the moment after it woke up is no fault of the scheduler
(``docs/guides/fencing.md``).
"""

from __future__ import annotations

import msgspec

from jepsen_like.attempts import Attempt
from jepsen_like.evidence import Evidence
from jepsen_like.spans import Span, spans

#: The fault in which all of a machine stands still, and how long what it ran may go on after it.
FREEZE = "pause-machine"
AWAKE_NS = 1_000_000_000


def freezes(evidence: Evidence) -> list[Span]:
    """When which machines stood still."""
    return [span for span in spans(evidence.faults) if span.fault == FREEZE]


def before_the_freeze(run: Attempt, frozen: list[Span]) -> Attempt:
    """The attempt without the moment in which it woke up, if that was its end."""
    for span in frozen:
        woke = span.from_at < run.to_at <= span.to_at + AWAKE_NS
        if run.node in span.targets and run.from_at < span.from_at and woke:
            return msgspec.structs.replace(run, to_at=span.from_at)
    return run
