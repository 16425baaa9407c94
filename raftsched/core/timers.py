"""What happens to tasks by time alone: which instant, and what is due first.

Nothing here looks at a clock: `FireTimers` does what is due by ``state.now``, and the leader
proposes it when its own clock says that something is.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from itertools import islice
from operator import itemgetter

from raftsched.core.model import TERMINAL, Task, TaskStatus
from raftsched.core.policy import Extra

#: Instants in the heap beyond twice those that count, before it is made anew.
STALE_MAX = 1_000

_WAITING = TaskStatus.WAITING
_QUEUED = TaskStatus.QUEUED
_RETRYING = TaskStatus.RETRYING
_CANCELLING = TaskStatus.CANCELLING


def due_at(task: Task) -> int:
    """The next instant at which time alone changes the task, in milliseconds; 0: there is none."""
    status = task.status
    if status in TERMINAL or status is _CANCELLING:
        return 0
    if task.extra is not None and task.extra.stopping:
        return 0
    deadline = deadline_at(task)
    found = [deadline] if deadline else []
    if status in (_WAITING, _RETRYING):
        if task.ready_at:
            found.append(task.ready_at)
    elif status is _QUEUED:
        over = queue_timeout_at(task)
        if over:
            found.append(over)
    return min(found, default=0)


def starts_at(extra: Extra, created_at: int) -> int:
    """When a task may run at the earliest, in milliseconds; at most ``created_at``: at once."""
    return max(extra.not_before, created_at + extra.delay_ms)


def deadline_at(task: Task) -> int:
    """When the task is to be over, in milliseconds; 0: never."""
    extra = task.extra
    if extra is None:
        return 0
    if not extra.expires_ms:
        return extra.deadline
    expires_at = task.created_at + extra.expires_ms
    return min(extra.deadline, expires_at) if extra.deadline else expires_at


def queue_timeout_at(task: Task) -> int:
    """When the wait for the first attempt has been too long; 0: never."""
    policy = task.terms.policy
    if policy is None or not policy.queue_timeout_ms or task.attempts:
        return 0
    return (task.ready_at or task.created_at) + policy.queue_timeout_ms


class Timers:
    """Instants by task.  The same tasks have the same order on every peer, however they came.

    Tasks that are due in the same millisecond are a bucket, so that a timer that is taken back is
    gone at once: only instants without a task stay behind in the heap, and those are few and small.
    """

    __slots__ = ("_at", "_buckets", "_instants", "_unsorted")

    def __init__(self) -> None:
        #: By id.
        self._at: dict[str, int] = {}
        #: ``Task.order`` by id, for each instant at which something is due; none is empty.
        self._buckets: dict[int, dict[str, int]] = {}
        #: Heap of instants; some have no bucket any more, some stand here twice.
        self._instants: list[int] = []
        #: Instants whose bucket is not by order.
        self._unsorted: set[int] = set()

    def __len__(self) -> int:
        return len(self._at)

    def set(self, task: Task) -> None:
        """The task as it is now: its timer, or none."""
        at, known = due_at(task), self._at.get(task.id, 0)
        if at == known and (not at or self._buckets[at][task.id] == task.order):
            return
        if known:
            bucket = self._buckets[known]
            del self._at[task.id], bucket[task.id]
            if not bucket:
                del self._buckets[known]
                self._unsorted.discard(known)
        if at:
            self._at[task.id] = at
            self._add(at, task)

    def _add(self, at: int, task: Task) -> None:
        buckets = self._buckets
        bucket = buckets.get(at)
        if bucket is not None:
            if task.order < next(reversed(bucket.values())):
                self._unsorted.add(at)
            bucket[task.id] = task.order
            return
        buckets[at] = {task.id: task.order}
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
        """Ids of tasks whose instant has come, the first one first; at most ``limit``."""
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
        """All of them: instant and id, in the order in which they are due."""
        for at in sorted(self._buckets):
            for task_id in self._in_order(at):
                yield at, task_id
