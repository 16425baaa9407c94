"""What becomes of a slot when its run has ended."""

from __future__ import annotations

import msgspec

from raftsched.core.changes import Changes
from raftsched.core.model import Task, TaskStatus
from raftsched.core.schedule import SlotStatus, slot_key


def ended(changes: Changes, task: Task, to: TaskStatus) -> None:
    """A task of a schedule ended: its slot and its schedule say so."""
    assert task.extra is not None
    name = task.extra.schedule
    key = slot_key(name, task.extra.slot)
    slot, schedule = changes.slot(key), changes.schedule(name)
    if slot is not None and slot.task_id == task.id:
        changes.others.slots[key] = msgspec.structs.replace(slot, status=SlotStatus(to.value))
    if schedule is None or to is TaskStatus.CANCELLED:
        return
    is_good = to is TaskStatus.SUCCEEDED
    changes.others.schedules[name] = msgspec.structs.replace(
        schedule,
        successes=schedule.successes + 1 if is_good else 0,
        failures=0 if is_good else schedule.failures + 1,
    )
