"""What a start needs beside a node: its queue open and below its concurrency, its limits free.

A limit is a semaphore, a token bucket, or both; a key without a row is a mutex.  Who holds a
permit is derived from the rows of tasks (``State.limit_use``, ``State.queue_use``), so it is free
again however the attempt ended.  A token, once taken, is not given back.

The bucket is the cell rate algorithm (GCRA, ITU-T I.371): one instant, at which it is full again,
says how full it is.  A token takes ``rate_ms / rate_count`` to come back, in whole microseconds
and rounded up, so that never more start than the rate says.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import msgspec

from raftsched.core.model import Limit, NewTask, Terms
from raftsched.core.outcomes import Reason

if TYPE_CHECKING:
    from raftsched.core.state import State

#: What a `Shut` is about.
QUEUE, LIMIT = "queue", "limit"


class Gate(NamedTuple):
    """All that a start has to pass which is not about a node; one object for tasks alike."""

    queue: str
    limits: tuple[str, ...]


class Shut(NamedTuple):
    """Why a gate lets nobody through now."""

    reason: Reason
    #: `QUEUE` or `LIMIT`.
    kind: str
    #: Of the queue, or the key.
    name: str
    #: When time alone opens it, in milliseconds; 0: time alone does not.
    at: int = 0


def gate_of(asked: Terms | NewTask) -> Gate:
    """What tasks with these terms have to pass."""
    return Gate(asked.queue, asked.policy.limits if asked.policy is not None else ())


def interval_us(limit: Limit) -> int:
    """How long a token of the bucket takes to come back, in microseconds."""
    return -(-limit.rate_ms * 1_000 // limit.rate_count)


def full_at_us(limit: Limit, now: int) -> int:
    """When the bucket is full again, in microseconds; not before ``now``, in milliseconds."""
    return max(limit.full_at_us, now * 1_000)


def settled(limit: Limit, now: int) -> Limit:
    """The row once the clock was set, or the rate changed: its bucket no emptier than empty."""
    if not limit.rate_count:
        return limit
    latest = now * 1_000 + max(1, limit.burst) * interval_us(limit)
    if limit.full_at_us <= latest:
        return limit
    return msgspec.structs.replace(limit, full_at_us=latest)


class Permits:
    """Who may still start, in one pass of the planner or one command of `apply`.

    Counts what the state says and what was let through since; the only place that says whether
    a queue or a limit has room.
    """

    __slots__ = ("_held", "_now", "_queued", "_state", "moved")

    def __init__(self, state: State, now: int) -> None:
        """``now``: the cluster's time in milliseconds."""
        self._state = state
        self._now = now
        #: What was let through here, by queue and by key.
        self._queued: dict[str, int] = {}
        self._held: dict[str, int] = {}
        #: Rows of buckets that tokens were taken of.
        self.moved: dict[str, Limit] = {}

    @property
    def is_needed(self) -> bool:
        """May a task that names no limit find its queue shut?"""
        return bool(self._state.queues)

    def shut(self, gate: Gate) -> Shut | None:
        """Why nobody passes this gate now; None if somebody may."""
        queue = self._state.queues.get(gate.queue)
        if queue is not None:
            if queue.paused:
                return Shut(Reason.QUEUE_PAUSED, QUEUE, gate.queue)
            if queue.concurrency:
                use = self._state.queue_use.get(gate.queue)
                held = 0 if use is None else use.held
                if held + self._queued.get(gate.queue, 0) >= queue.concurrency:
                    return Shut(Reason.QUEUE_BUSY, QUEUE, gate.queue)
        for key in gate.limits:
            found = self._shut_limit(key)
            if found is not None:
                return found
        return None

    def _shut_limit(self, key: str) -> Shut | None:
        limit = self.limit(key)
        held = self._state.limit_use.get(key, 0) + self._held.get(key, 0)
        if limit.count and held >= limit.count:
            return Shut(Reason.LIMIT_HELD, LIMIT, key)
        if limit.rate_count:
            spare_us = (max(1, limit.burst) - 1) * interval_us(limit)
            at_us = full_at_us(limit, self._now) - spare_us
            if at_us > self._now * 1_000:
                return Shut(Reason.LIMIT_HELD, LIMIT, key, -(-at_us // 1_000))
        return None

    def limit(self, key: str) -> Limit:
        """The row of a limit as it is now."""
        return self.moved.get(key) or self._state.limits.get(key) or Limit(key)

    def is_taken(self, shut: Shut) -> bool:
        """Did somebody whom this let through have a part in it?"""
        return shut.name in (self._queued if shut.kind == QUEUE else self._held)

    def take(self, gate: Gate) -> Shut | None:
        """Let one through, unless the gate is shut: then why."""
        found = self.shut(gate)
        if found is not None:
            return found
        self._queued[gate.queue] = self._queued.get(gate.queue, 0) + 1
        for key in gate.limits:
            self._held[key] = self._held.get(key, 0) + 1
            limit = self.limit(key)
            if limit.rate_count:
                full = full_at_us(limit, self._now) + interval_us(limit)
                self.moved[key] = msgspec.structs.replace(limit, full_at_us=full)
        return None
