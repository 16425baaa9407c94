"""What one command wants written; nothing of it is seen by anybody before `Changes.write`."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from operator import attrgetter
from zlib import crc32

from raftsched.core.commands import Entry
from raftsched.core.model import (
    TERMINAL,
    Attempt,
    KeyRecord,
    Limit,
    Node,
    Queue,
    Task,
    TaskStatus,
)
from raftsched.core.outcomes import Event
from raftsched.core.removal import delete_task, trim
from raftsched.core.schedule import Schedule, Slot
from raftsched.core.state import Staged, State
from raftsched.core.tables import SHARD_MASK
from raftsched.core.template import Template
from raftsched.core.trees import Tally, is_held


class OtherRows:
    """Rows that are not tasks.  None: the row is removed."""

    __slots__ = ("keys", "limits", "nodes", "queues", "schedules", "slots", "templates")

    def __init__(self) -> None:
        self.nodes: dict[str, Node] = {}
        self.keys: dict[str, KeyRecord] = {}
        self.queues: dict[str, Queue | None] = {}
        self.limits: dict[str, Limit | None] = {}
        self.schedules: dict[str, Schedule | None] = {}
        self.slots: dict[str, Slot | None] = {}
        self.templates: dict[str, Template | None] = {}

    def write(self, state: State) -> None:
        """Into the state with all of it; of a schedule that goes, the slots go first."""
        for node in self.nodes.values():
            state.put_node(node)
        for key, record in self.keys.items():
            state.put_key(key, record)
        for name, queue in self.queues.items():
            state.put_queue(name, queue)
        for name, limit in self.limits.items():
            state.put_limit(name, limit)
        for key, slot in self.slots.items():
            state.put_slot(key, slot)
        for name, schedule in self.schedules.items():
            state.put_schedule(name, schedule)
        for name, template in self.templates.items():
            state.put_template(name, template)


class Changes:
    """The rows a handler wants, over the state as it stands."""

    __slots__ = (
        "_others",
        "_shards",
        "_tallies",
        "awaiting",
        "check",
        "deleted",
        "ends",
        "entry",
        "events",
        "index",
        "is_telling",
        "next_order",
        "next_token",
        "state",
        "suspect",
        "tasks",
        "trimmed",
    )

    def __init__(self, state: State, index: int, entry: Entry) -> None:
        #: For reading only.
        self.state = state
        #: The entry that is being applied, and its index.
        self.index = index
        self.entry = entry
        #: By id: the shard, the row that stands in the state, the row to write.
        self.tasks: dict[str, Staged] = {}
        #: Most commands have none, and to make and ask seven tables takes a sixth of their time.
        self._others: OtherRows | None = None
        self.deleted: list[Task] = []
        #: Terminal tasks that lose so many of what is below them, the newest first.
        self.trimmed: list[tuple[Task, int]] = []
        self.events: list[Event] = []
        #: By id: of the tasks that this command made wait for its end.
        self.awaiting: dict[str, list[str]] = {}
        self._tallies: dict[str, Tally] = {}
        #: Ends that nobody has been told of yet; and whether somebody is telling.
        self.ends: deque[tuple[Task, TaskStatus]] = deque()
        self.is_telling = False
        #: Become ``state.next_token`` and ``state.next_order``.
        self.next_token = state.next_token
        self.next_order = state.next_order
        #: Become ``state.check`` and ``state.suspect``.
        self.check = state.check
        self.suspect = state.suspect
        self._shards = state.tasks.shards

    @property
    def others(self) -> OtherRows:
        """The rows to write that are not tasks."""
        if self._others is None:
            self._others = OtherRows()
        return self._others

    def find(self, task_id: str) -> tuple[int, Task | None, Task | None]:
        """The shard, the row that stands in the state, the row as this command leaves it so far.

        For handlers of many tasks: they put ``(shard, stands, new)`` into ``tasks`` themselves.
        """
        staged = self.tasks.get(task_id)
        if staged is not None:
            return staged
        number = crc32(task_id.encode()) & SHARD_MASK
        row = self._shards[number].get(task_id)
        return number, row, row

    def task(self, task_id: str) -> Task | None:
        """The task as this command leaves it so far."""
        return self.find(task_id)[2]

    def tally(self, task_id: str) -> Tally:
        """How the parts of a task are by now."""
        tally = self._tallies.get(task_id)
        if tally is None:
            tally = self._tallies[task_id] = Tally(self.state.trees.of(task_id))
        return tally

    def subtasks_under_way(self, task_id: str) -> list[Task]:
        """The parts of a task that have neither ended nor are held, the oldest first."""
        before, tally = self.state.trees.of(task_id), self.tally(task_id)
        ids = [*(() if before is None else before.under_way), *tally.ids, *tally.released]
        found = [self.task(subtask_id) for subtask_id in dict.fromkeys(ids)]
        open_ones = [t for t in found if t is not None and t.status not in TERMINAL]
        return sorted([t for t in open_ones if not is_held(t)], key=attrgetter("order"))

    def await_ends(self, task_id: str, awaited_ids: Iterable[str]) -> None:
        """A task that this command makes waits for the ends of others."""
        for awaited_id in awaited_ids:
            self.awaiting.setdefault(awaited_id, []).append(task_id)

    def schedule(self, name: str) -> Schedule | None:
        """The schedule as this command leaves it so far."""
        if self._others is not None and name in self._others.schedules:
            return self._others.schedules[name]
        return self.state.schedules.get(name)

    def slot(self, key: str) -> Slot | None:
        """The slot as this command leaves it so far."""
        if self._others is not None and key in self._others.slots:
            return self._others.slots[key]
        return self.state.slots.get(key)

    def put(self, task: Task) -> None:
        """Insert or replace a task."""
        number, stands, _ = self.find(task.id)
        self.tasks[task.id] = (number, stands, task)

    def event(self, kind: str, task_id: str = "", node_id: str = "", detail: str = "") -> None:
        """Tell the shells."""
        self.events.append(Event(kind, task_id, node_id, detail))

    def write(self) -> None:
        """Into the state with all of it."""
        state = self.state
        state.next_token = self.next_token
        state.next_order = self.next_order
        state.check = self.check
        state.suspect = self.suspect
        if self.tasks:
            state.put_tasks(self.tasks)
        if self._others is not None:
            self._others.write(state)
        for task, count in self.trimmed:
            for task_id in trim(state, task, count):
                self.event("task_deleted", task_id)
        for task in self.deleted:
            delete_task(state, task)


def with_latest(task: Task, attempt: Attempt) -> tuple[Attempt, ...]:
    """The task's attempts with the latest one replaced."""
    attempts = task.attempts
    return (attempt,) if len(attempts) == 1 else (*attempts[:-1], attempt)
