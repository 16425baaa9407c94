"""How far ahead of a node's free slots the leader assigns: as much as the node just finished.

A node that ends many short attempts would idle for a round of the log after each of them, so it is
given as many attempts beyond its slots as it ended within the last moments.  A node with long
attempts ends none in that time and is given none: nothing waits there that could run elsewhere.
"""

from __future__ import annotations

from collections import deque

#: The moments: some ten rounds of the log, so that a slow one does not starve a node.
WINDOW_SECONDS = 0.15


class Pace:
    """Ends per node within the window; the leader's own view, not replicated."""

    def __init__(self) -> None:
        self._ended: dict[str, deque[tuple[float, int]]] = {}
        self._sums: dict[str, int] = {}

    def ended(self, node_id: str, count: int, now: float) -> None:
        """A node reported the end of ``count`` attempts at ``now`` (monotonic seconds)."""
        self._ended.setdefault(node_id, deque()).append((now, count))
        self._sums[node_id] = self._sums.get(node_id, 0) + count

    def ahead(self, now: float) -> dict[str, int]:
        """Attempts to assign beyond the slots, by node."""
        for node_id, ends in self._ended.items():
            while ends and ends[0][0] < now - WINDOW_SECONDS:
                self._sums[node_id] -= ends.popleft()[1]
        return {node_id: count for node_id, count in self._sums.items() if count}
