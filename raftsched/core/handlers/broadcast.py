"""A task that is to run on several nodes becomes one subtask for each of them.

Which nodes is decided by the state at the moment in which the task may run: those that are up,
may be given something new, are what its constraints ask for and large enough for it.
"""

from __future__ import annotations

from hashlib import blake2b

import msgspec

from raftsched.core.changes import Changes
from raftsched.core.constraints import NODE_ID
from raftsched.core.handlers.forks import LOOK_AGAIN_MS, NO_ROOM, SPLIT, has_room
from raftsched.core.model import Task, TaskStatus
from raftsched.core.policy import ALL_NODES, USUAL, Constraint, Extra, Op
from raftsched.core.rooms import Room, Rooms
from raftsched.core.timers import deadline_at


def split(changes: Changes, task: Task) -> str:
    """Make the subtasks of a ``waiting`` task; why there can be none, or empty."""
    assert task.extra is not None and task.status is TaskStatus.WAITING
    state, asked = changes.state, task.extra.broadcast
    rooms = [room for room in Rooms(state).all() if not room.refusal and room.suits(task.terms)]
    count = len(rooms) if asked == ALL_NODES else asked
    if not rooms or len(rooms) < count:
        return f"nodes-missing: {len(rooms)} of {max(1, count)} may take it"
    if not has_room(changes, count):
        later = msgspec.structs.replace(
            task, reason=NO_ROOM, ready_at=state.now + LOOK_AGAIN_MS, modify_index=changes.index
        )
        changes.put(later)
        return ""
    if asked != ALL_NODES:
        rooms = sorted(rooms, key=lambda room: _rank(room, task))[:count]
    for number, node_id in enumerate(sorted(room.node.id for room in rooms), 1):
        _add(changes, task, number, node_id)
    extra = msgspec.structs.replace(task.extra, subtasks=count)
    changes.put(
        msgspec.structs.replace(
            task, extra=extra, reason=SPLIT, ready_at=0, modify_index=changes.index
        )
    )
    changes.event("task_changed", task.id, detail="split")
    return ""


def _rank(room: Room, task: Task) -> tuple[int, bytes]:
    """The least busy node first; of equal ones by a hash, so that not all tasks take the same."""
    name = f"{task.id}\0{room.node.id}".encode()
    busy = room.usage.attempts * 1_000 // max(1, room.node.slots)
    return busy, blake2b(name, digest_size=8).digest()


def _add(changes: Changes, task: Task, number: int, node_id: str) -> None:
    """The subtask for one node."""
    task_id = f"{task.id}.{number}"
    while changes.task(task_id) is not None:  # Whoever is called so was there before.
        task_id += "."
    policy = task.terms.policy or USUAL
    there = Constraint(NODE_ID, Op.EQUAL, (node_id,))
    policy = msgspec.structs.replace(policy, constraints=(*policy.constraints, there), affinity=())
    terms = msgspec.structs.replace(task.terms, policy=policy)
    order = changes.next_order
    changes.next_order = order + 1
    changes.put(
        Task(
            task_id,
            task.spec,
            changes.state.share_terms(terms),
            changes.state.now,
            changes.index,
            order,
            TaskStatus.QUEUED,
            changes.index,
            paused=task.paused,
            extra=Extra(deadline=deadline_at(task), parent=task.id),
        )
    )
    changes.tally(task.id).made(task_id, is_held=False)
    changes.event("task_queued", task_id)
