"""How far ahead of a node's free slots the leader assigns: as much as the node just finished.

A node that ends many short attempts would idle for a round of the log after each of them, so it is
given as many attempts beyond its slots as it ended within the last moments.  A node with long
attempts ends none in that time and is given none: nothing waits there that could run elsewhere.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping

#: The moments: some ten rounds of the log, so that a slow one does not starve a node.
WINDOW_SECONDS = 0.15
#: A node that holds more than this share of what it may hold beyond its slots is given nothing yet.
TOP_UP_SHARE = 0.6


class Pace:
    """Ends per node within the window; the leader's own view, not replicated."""

    def __init__(self) -> None:
        self._ended: dict[str, deque[tuple[float, int]]] = {}
        self._sums: dict[str, int] = {}

    def ended(self, node_id: str, count: int, now: float) -> None:
        """A node reported the end of ``count`` attempts at ``now`` (monotonic seconds)."""
        self._ended.setdefault(node_id, deque()).append((now, count))
        self._sums[node_id] = self._sums.get(node_id, 0) + count

    def ahead(self, now: float, beyond: Mapping[str, int]) -> dict[str, int]:
        """Attempts a node may now hold beyond its slots, by node.

        ``beyond``: how many each holds so already.  A node is filled up only when it has worked
        off a good part: a few entries with many assignments cost less than many with a few.
        """
        found = {}
        for node_id, ends in self._ended.items():
            while ends and ends[0][0] < now - WINDOW_SECONDS:
                self._sums[node_id] -= ends.popleft()[1]
            count, held = self._sums[node_id], beyond.get(node_id, 0)
            found[node_id] = max(0, held) if held > count * TOP_UP_SHARE else count
        return {node_id: count for node_id, count in found.items() if count}
