"""What one command wants written; nothing of it is seen by anybody before `Changes.write`."""

from __future__ import annotations

from raftsched.core.commands import Event
from raftsched.core.model import Attempt, KeyRecord, Node, Task
from raftsched.core.state import State


class Changes:
    """The rows a handler wants, over the state as it stands."""

    __slots__ = ("deleted", "events", "index", "keys", "next_token", "nodes", "state", "tasks")

    def __init__(self, state: State, index: int) -> None:
        #: For reading only.
        self.state = state
        #: Index of the entry that is being applied.
        self.index = index
        self.tasks: dict[str, Task] = {}
        self.nodes: dict[str, Node] = {}
        self.keys: dict[str, KeyRecord] = {}
        self.deleted: list[Task] = []
        self.events: list[Event] = []
        #: Becomes ``state.next_token``.
        self.next_token = state.next_token

    def task(self, task_id: str) -> Task | None:
        """The task as this command leaves it so far."""
        return self.tasks.get(task_id) or self.state.tasks.get(task_id)

    def put(self, task: Task) -> None:
        """Insert or replace a task."""
        self.tasks[task.id] = task

    def event(self, kind: str, task_id: str = "", node_id: str = "", detail: str = "") -> None:
        """Tell the shells."""
        self.events.append(Event(kind, task_id, node_id, detail))

    def write(self) -> None:
        """Into the state with all of it."""
        state = self.state
        state.next_token = self.next_token
        for task in self.tasks.values():
            state.put_task(task)
        for node in self.nodes.values():
            state.put_node(node)
        for key, record in self.keys.items():
            state.put_key(key, record)
        for task in self.deleted:
            state.delete_task(task)


def with_latest(task: Task, attempt: Attempt) -> tuple[Attempt, ...]:
    """The task's attempts with the latest one replaced."""
    attempts = task.attempts
    return (attempt,) if len(attempts) == 1 else (*attempts[:-1], attempt)
