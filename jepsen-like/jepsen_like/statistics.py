"""Percentiles of what was measured."""

from __future__ import annotations

from collections.abc import Iterable


def distribution(values: Iterable[float]) -> dict[str, float]:
    """Count, p50, p99 and the largest, rounded to 0.1; empty for no values."""
    ordered = sorted(values)
    if not ordered:
        return {}
    return {
        "count": len(ordered),
        "p50": round(percentile(ordered, 0.50), 1),
        "p99": round(percentile(ordered, 0.99), 1),
        "max": round(ordered[-1], 1),
    }


def percentile(ordered: list[float], share: float) -> float:
    """The smallest value that at least this share of the values does not exceed."""
    rank = max(0, -(-int(share * 1_000_000) * len(ordered) // 1_000_000) - 1)
    return ordered[min(rank, len(ordered) - 1)]
