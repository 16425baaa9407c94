"""What happens to tasks by time alone: which instant, and what is due first.

Nothing here looks at a clock: `FireTimers` does what is due by ``state.now``, and the leader
proposes it when its own clock says that something is.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator

from raftsched.core.model import TERMINAL, Task, TaskStatus
from raftsched.core.policy import Extra

#: Entries of the heap beyond twice the number of timers, before it is made anew.
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
    """Instants by task.  The same tasks have the same order on every peer, however they came."""

    __slots__ = ("_at", "_heap")

    def __init__(self) -> None:
        #: Instant and ``Task.order``, by id.
        self._at: dict[str, tuple[int, int]] = {}
        #: (instant, order, id); some do not count any more.
        self._heap: list[tuple[int, int, str]] = []

    def __len__(self) -> int:
        return len(self._at)

    def set(self, task: Task) -> None:
        """The task as it is now: its timer, or none."""
        at = due_at(task)
        if not at:
            self._at.pop(task.id, None)
            return
        timer = (at, task.order)
        if self._at.get(task.id) != timer:
            self._at[task.id] = timer
            heapq.heappush(self._heap, (*timer, task.id))
            if len(self._heap) > 2 * len(self._at) + STALE_MAX:
                self._heap = [(*timer, task_id) for task_id, timer in self._at.items()]
                heapq.heapify(self._heap)

    def first(self) -> tuple[int, str] | None:
        """The instant and the task that is due first."""
        while self._heap:
            at, order, task_id = self._heap[0]
            if self._at.get(task_id) == (at, order):
                return at, task_id
            heapq.heappop(self._heap)
        return None

    def due(self, now: int, limit: int) -> list[str]:
        """Ids of tasks whose instant has come, the first one first; at most ``limit``."""
        found: dict[str, tuple[int, int, str]] = {}
        while len(found) < limit:
            first = self.first()
            if first is None or first[0] > now:
                break
            # A timer that went away and came back stands here twice.
            found[first[1]] = heapq.heappop(self._heap)
        # Whatever becomes of them now: what is written over is passed over later.
        for entry in found.values():
            heapq.heappush(self._heap, entry)
        return list(found)

    def __iter__(self) -> Iterator[tuple[int, str]]:
        """All of them: instant and id, in the order in which they are due."""
        for task_id, (at, _) in sorted(self._at.items(), key=_timer):
            yield at, task_id


def _timer(item: tuple[str, tuple[int, int]]) -> tuple[int, int]:
    return item[1]
