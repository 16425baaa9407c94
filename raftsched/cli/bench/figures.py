"""The bench's own arithmetic.  Pure."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

Report = dict[str, Any]


def percentile(ordered: Sequence[float], percent: float) -> float:
    """The smallest sample that at least ``percent`` of all samples do not exceed (nearest rank).

    ``ordered`` is sorted, smallest first; 0.0 when there are none.
    """
    if not ordered:
        return 0.0
    rank = -(-len(ordered) * percent // 100)
    return ordered[max(int(rank), 1) - 1]


def spread(samples: Sequence[float], digits: int = 2) -> Report:
    """Median, 99th percentile, longest and number of samples, in the samples' unit."""
    ordered = sorted(samples)
    return {
        "p50": round(percentile(ordered, 50), digits),
        "p99": round(percentile(ordered, 99), digits),
        "longest": round(ordered[-1] if ordered else 0.0, digits),
        "samples": len(ordered),
    }


def runs(
    values: Sequence[float], unit: str, digits: int = 1, *, least_is_best: bool = False
) -> Report:
    """Median and best of a few runs, and each of them; zeros when there was none."""
    rounded = [round(value, digits) for value in values] or [0.0]
    return {
        "median": round(statistics.median(rounded), digits),
        "best": min(rounded) if least_is_best else max(rounded),
        "unit": unit,
        "runs": rounded,
    }


def longest_within(delays: Sequence[Sequence[float]], begin: float, end: float) -> Report:
    """The longest delay that touches a span of time, and the most of its own CPU time in one.

    ``delays``: (when it ended in seconds, how long it was and how busy in ms); see `watch`.
    """
    touching = [d for d in delays if d[0] >= begin and d[0] - d[1] / 1e3 <= end]
    return {
        "longest_ms": round(max([d[1] for d in touching], default=0.0), 1),
        "busiest_ms": round(max([d[2] for d in touching], default=0.0), 1),
    }


def bar(value: float, limit: float, *, at_most: bool = False) -> Report:
    """A number beside what it should reach, or with ``at_most`` not exceed."""
    return {
        "measured": round(value, 3),
        "at_most" if at_most else "at_least": limit,
        "is_met": value <= limit if at_most else value >= limit,
    }
