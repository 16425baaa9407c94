"""The runs of a schedule: a task for an instant, and the slot that says so."""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from raftsched.core.changes import Changes
from raftsched.core.cron.stamps import jitter, stamp
from raftsched.core.handlers.ends import make_ready, stop
from raftsched.core.handlers.rows import checked_terms, new_row
from raftsched.core.model import TERMINAL, Task, TaskStatus
from raftsched.core.outcomes import Reason
from raftsched.core.policy import Extra
from raftsched.core.schedule import (
    QUEUED_RUNS_MAX,
    SLOTS_MAX,
    Overlap,
    Schedule,
    Slot,
    SlotStatus,
    slot_key,
)
from raftsched.core.trees import is_to_be_split


class Refused(NamedTuple):
    """No run was made."""

    status: SlotStatus
    reason: str
    code: Reason


OVERLAP = Refused(SlotStatus.SKIPPED, "overlap", Reason.TASK_RUNNING)
OVERLOADED = Refused(SlotStatus.MISSED, "overloaded", Reason.OVERLOADED)
QUEUE_FULL = Refused(SlotStatus.MISSED, "queue-full", Reason.QUEUE_FULL)


class Runs:
    """Of one schedule, while a command makes some."""

    def __init__(self, changes: Changes, schedule: Schedule) -> None:
        self._changes = changes
        self._schedule = schedule
        #: Tasks that have not ended, the oldest first.
        self._open = [*changes.state.firings.runs_of(schedule.name)]
        self._slots = [*changes.state.firings.slots_of(schedule.name)]

    @property
    def now(self) -> int:
        """The cluster's time."""
        return self._changes.state.now

    def note(
        self, at: int, upto: int, count: int, status: SlotStatus, reason: str, task_id: str = ""
    ) -> None:
        """What became of an instant, or of several; the oldest slots make room."""
        changes, name = self._changes, self._schedule.name
        order = changes.next_order
        changes.next_order = order + 1
        key = slot_key(name, at)
        if changes.slot(key) is None:
            self._slots.append(at)
        changes.others.slots[key] = Slot(
            name, at, upto, count, status, task_id, reason, changes.state.now, order
        )
        while len(self._slots) > SLOTS_MAX:
            changes.others.slots[slot_key(name, self._slots.pop(0))] = None

    def free_instant(self, at: int) -> int:
        """The first one from ``at`` on that has no slot."""
        while self._changes.slot(slot_key(self._schedule.name, at)) is not None:
            at += 1
        return at

    def make(self, at: int, overlap: Overlap, reason: str) -> str | Refused:
        """The id of the task for an instant, with its slot; or why there is none (and no slot)."""
        changes, schedule = self._changes, self._schedule
        state = changes.state
        self._open = [task_id for task_id in self._open if self._is_open(task_id)]
        if self._open and overlap is Overlap.SKIP:
            return OVERLAP
        if overlap is Overlap.QUEUE and len(self._open) >= QUEUED_RUNS_MAX:
            return OVERLAP
        if state.open_count + len(changes.tasks) >= state.settings.tasks_open_max:
            return OVERLOADED
        queue, use = state.queues.get(schedule.task.queue), state.queue_use.get(schedule.task.queue)
        if queue is not None and 0 < queue.depth_max <= (0 if use is None else use.open):
            return QUEUE_FULL
        if overlap is Overlap.REPLACE:
            self._end_forerunners()
        waits = overlap in (Overlap.QUEUE, Overlap.REPLACE)
        after = self._open[-1] if self._open and waits else ""
        task_id = self._create(at, after)
        self.note(at, at, 1, SlotStatus.FIRED, reason, task_id)
        return task_id

    def _is_open(self, task_id: str) -> bool:
        task = self._changes.task(task_id)
        return task is not None and task.status not in TERMINAL

    def _end_forerunners(self) -> None:
        for task_id in self._open:
            task = self._changes.task(task_id)
            assert task is not None
            if task.status not in TERMINAL:
                stop(self._changes, task, TaskStatus.CANCELLED, "replaced")
        self._open = [task_id for task_id in self._open if self._is_open(task_id)]

    def _create(self, at: int, after: str) -> str:
        changes, schedule, new = self._changes, self._schedule, self._schedule.task
        terms = checked_terms(
            changes.state,
            (
                schedule.namespace, new.queue, new.priority, new.cpu_milli, new.memory_bytes,
                new.strategy, new.attempts_max, new.policy,
            ),
        )  # fmt: skip
        assert not isinstance(terms, Reason)  # It was checked when the schedule was made.
        order = changes.next_order
        changes.next_order = order + 1
        now, index = changes.state.now, changes.index
        most_ms = schedule.jitter_ms
        extra = msgspec.structs.replace(
            new.extra or Extra(),
            schedule=schedule.name,
            slot=at,
            after=after,
            not_before=at + jitter(schedule.name, at, most_ms) if most_ms else 0,
        )
        task_id = self._free_id(at)
        task = new_row(
            Task(task_id, new.spec, terms, now, index, order, TaskStatus.QUEUED, index), extra, now
        )
        changes.put(task)
        changes.event("task_queued", task_id)
        if not after and is_to_be_split(task):
            make_ready(changes, task, "")
        self._open.append(task_id)
        return task_id

    def _free_id(self, at: int) -> str:
        task_id = first = run_id(self._schedule.name, at)
        number = 1
        while self._changes.task(task_id) is not None:
            number += 1
            task_id = f"{first}-{number}"
        return task_id


def run_id(name: str, at: int) -> str:
    """The id of the run of an instant: ``nightly.20261121T020000Z``."""
    return f"{name}.{stamp(at)}"
