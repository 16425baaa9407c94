"""What is due when: keys by instant, the first one first."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from itertools import islice
from operator import itemgetter

#: Instants in the heap beyond twice those that count, before it is made anew.
STALE_MAX = 1_000


class Instants:
    """Instants by key.  The same keys have the same order on every peer, however they came.

    What is due in the same millisecond is a bucket, so that one that is taken back is gone at once:
    only instants without a key stay behind in the heap, and those are few and small.
    """

    __slots__ = ("_at", "_buckets", "_instants", "_unsorted")

    def __init__(self) -> None:
        #: By key.
        self._at: dict[str, int] = {}
        #: The order by key, for each instant at which something is due; none is empty.
        self._buckets: dict[int, dict[str, int]] = {}
        #: Heap of instants; some have no bucket any more, some stand here twice.
        self._instants: list[int] = []
        #: Instants whose bucket is not by order.
        self._unsorted: set[int] = set()

    def __len__(self) -> int:
        return len(self._at)

    def set(self, key: str, at: int, order: int) -> None:
        """When it is due, in milliseconds; 0: not any more.  ``order``: its place in an instant."""
        known = self._at.get(key, 0)
        if at == known and (not at or self._buckets[at][key] == order):
            return
        if known:
            bucket = self._buckets[known]
            del self._at[key], bucket[key]
            if not bucket:
                del self._buckets[known]
                self._unsorted.discard(known)
        if at:
            self._at[key] = at
            self._add(at, key, order)

    def _add(self, at: int, key: str, order: int) -> None:
        buckets = self._buckets
        bucket = buckets.get(at)
        if bucket is not None:
            if order < next(reversed(bucket.values())):
                self._unsorted.add(at)
            bucket[key] = order
            return
        buckets[at] = {key: order}
        heapq.heappush(self._instants, at)
        if len(self._instants) > 2 * len(buckets) + STALE_MAX:
            self._instants = list(buckets)
            heapq.heapify(self._instants)

    def first(self) -> int:
        """The instant at which something is due first; 0: nothing is."""
        instants = self._instants
        while instants:
            if instants[0] in self._buckets:
                return instants[0]
            heapq.heappop(instants)
        return 0

    def due(self, now: int, limit: int) -> list[str]:
        """Keys whose instant has come, the first one first; at most ``limit``."""
        found: list[str] = []
        seen: list[int] = []
        while len(found) < limit:
            at = self.first()
            if not at or at > now:
                break
            if not seen or seen[-1] != at:
                seen.append(at)
                found += islice(self._in_order(at), limit - len(found))
            heapq.heappop(self._instants)
        # Whatever becomes of them now: an instant without a bucket is passed over later.
        for at in seen:
            heapq.heappush(self._instants, at)
        return found

    def _in_order(self, at: int) -> dict[str, int]:
        """The bucket, by order from here on."""
        bucket = self._buckets[at]
        if at in self._unsorted:
            self._unsorted.discard(at)
            bucket = self._buckets[at] = dict(sorted(bucket.items(), key=itemgetter(1)))
        return bucket

    def __iter__(self) -> Iterator[tuple[int, str]]:
        """All of them: instant and key, in the order in which they are due."""
        for at in sorted(self._buckets):
            for key in self._in_order(at):
                yield at, key
