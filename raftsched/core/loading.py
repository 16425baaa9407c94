"""A snapshot's rows into a state that has its nodes, queues and limits and nothing else yet.

Hashes are summed on the way; everything derived comes out as it was when the snapshot was taken
(``invariants``).  Only ``codec`` calls these.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from operator import attrgetter

from raftsched.core.finished import asked_bytes
from raftsched.core.indexes import in_order
from raftsched.core.lifecycle import HOLDING
from raftsched.core.model import TERMINAL, KeyRecord, Task, TaskStatus
from raftsched.core.schedule import Schedule, Slot, slot_key
from raftsched.core.state import State
from raftsched.core.tables import shard_of
from raftsched.core.template import Template
from raftsched.core.trees import owner_of, parent_of


def load_templates(state: State, templates: Sequence[Template]) -> None:
    """Some of a snapshot.  Raises ValueError if one stands there twice."""
    named = [(row.name, row) for row in templates]
    state.templates.sum.add(named)
    state.templates.load([(state.templates.shard_of(name), name, row) for name, row in named])


def load_schedules(state: State, schedules: Sequence[Schedule], slots: Sequence[Slot]) -> None:
    """Some of a snapshot.  Raises ValueError if one stands there twice."""
    named = [(schedule.name, schedule) for schedule in schedules]
    state.schedules.sum.add(named)
    state.schedules.load([(state.schedules.shard_of(name), name, row) for name, row in named])
    for name, row in named:
        state.firings.schedule(name, row)
    keyed = [(slot_key(slot.schedule, slot.at), slot) for slot in slots]
    state.slots.sum.add(keyed)
    state.slots.load([(state.slots.shard_of(key), key, slot) for key, slot in keyed])


def end_schedules(state: State) -> None:
    """All schedules and slots of a snapshot are there."""
    for slot in sorted(state.slots.values(), key=attrgetter("order")):
        state.firings.slot(slot, None)


def load_tasks(state: State, tasks: list[Task]) -> None:
    """All tasks of a snapshot, into a state that has its nodes and no task yet.

    Everything derived comes out as it was: each index is filled in its own order.  Their
    hashes are in ``tasks.sum`` already.  Raises ValueError if a task stands there twice.
    """
    tasks = list(in_order(tasks, attrgetter("order")))
    state.tasks.load((shard_of(task.id), task.id, task) for task in tasks)
    state.listing.fill(tasks)
    by_status: dict[TaskStatus, list[Task]] = {status: [] for status in TaskStatus}
    for task in tasks:
        by_status[task.status].append(task)
    state.counts = {status: len(those) for status, those in by_status.items()}
    state.ready.fill(task for task in by_status[TaskStatus.QUEUED] if not task.paused)
    ended = [t for status, those in by_status.items() if status in TERMINAL for t in those]
    state.open_count = len(tasks) - len(ended)
    for task in tasks:
        if parent_id := parent_of(task):
            state.trees.set(parent_id, None, task)
        elif owner_of(task):
            state.trees.set_twin(None, task)
    held = [t for status, those in by_status.items() if status in HOLDING for t in those]
    for task in in_order(held, attrgetter("token")):
        state.hold(task)
    for status, those in by_status.items():
        if status not in TERMINAL:
            for task in those:
                state.queue_use[task.terms.queue].open += 1
                state.spec_bytes += asked_bytes(task)
    for task in tasks:
        if task.status in TERMINAL:
            continue
        if task.extra is not None or task.terms.policy is not None or task.ready_at:
            state.timers.put(task)
        if task.extra is not None:
            state.relations.set(None, task)
            if task.extra.schedule:
                state.firings.run(task.extra.schedule, task)
    needed = state.relations.dependents
    state.finished.fill(t for t in ended if not owner_of(t) and t.id not in needed)


def load_keys(state: State, keys: Sequence[tuple[str, KeyRecord]]) -> None:
    """Some idempotency keys of a snapshot.  Raises ValueError if one stands there twice."""
    state.keys.sum.add(keys)
    state.keys.load([(shard_of(key), key, record) for key, record in keys])
    for key, record in keys:
        heapq.heappush(state.expiring, (record.expires_at, key))
