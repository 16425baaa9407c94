"""What clients could still do while something was broken: the longest stretch without a success."""

from __future__ import annotations

import sys
from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from itertools import pairwise

from jepsen_like.history import Call, Record
from jepsen_like.spans import Span

#: Stretches are sought from a fault's beginning to its end and this much longer.
AFTERMATH_NS = 10_000_000_000

READS = frozenset({"read", "final", "slots"})


class Outage(Record, frozen=True):
    """The longest time without a success around one fault, ms; None: nothing succeeded."""

    fault: str
    targets: tuple[str, ...]
    from_at: int
    write_ms: float | None
    read_ms: float | None
    #: Of reads with ``consistency=local`` at the one peer that was not a target and fared worst.
    local_ms: float | None


def outages(calls: Iterable[Call], faults: list[Span], until: int) -> list[Outage]:
    """One for each fault, in order, until the next one begins or the aftermath is over."""
    done: dict[str, list[int]] = {"write": [], "read": []}
    local: dict[str, list[int]] = {}
    for call in calls:
        if not call.is_ok or call.ended_at is None:
            continue
        if call.f not in READS:
            done["write"].append(call.ended_at)
        elif call.value.get("consistency") == "local":
            local.setdefault(call.peer, []).append(call.ended_at)
        else:
            done["read"].append(call.ended_at)
    found = []
    for place, span in enumerate(faults):
        following = faults[place + 1].from_at if place + 1 < len(faults) else sys.maxsize
        is_followed = following <= span.to_at + AFTERMATH_NS
        last = min(following, span.to_at + AFTERMATH_NS, until)
        elsewhere = [
            _longest_gap(done_at, span.from_at, last, is_followed)
            for peer, done_at in local.items()
            if peer not in span.targets
        ]
        found.append(
            Outage(
                span.fault,
                span.targets,
                span.from_at,
                _longest_gap(done["write"], span.from_at, last, is_followed),
                _longest_gap(done["read"], span.from_at, last, is_followed),
                max((gap for gap in elsewhere if gap is not None), default=None),
            )
        )
    return found


def _longest_gap(done: list[int], from_at: int, to_at: int, is_followed: bool) -> float | None:
    """The longest time without a success that began in this stretch, ms."""
    ordered = sorted(done)
    # With the first one after the stretch, which ends the last gap.
    within = ordered[bisect_left(ordered, from_at) : bisect_right(ordered, to_at) + 1]
    if not within:
        return None
    if within[-1] > to_at and is_followed:
        # What came then is the next fault's.
        within[-1] = to_at
    gaps = [later - earlier for earlier, later in pairwise([from_at, *within])]
    return round(max(gaps) / 1e6, 1)
