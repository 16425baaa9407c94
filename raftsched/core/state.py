"""The replicated state: tables of immutable rows, and what is derived from them.

Only `State.write` and its siblings change it, and only ``machine`` calls those.  Everything under
"derived" is rebuilt from the rows after a restore and must then equal what was kept step by step
(``invariants``).
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator

from raftsched.core.indexes import Finished, Listing, ReadyQueue, Usage
from raftsched.core.lifecycle import HOLDING
from raftsched.core.model import (
    TERMINAL,
    KeyRecord,
    Node,
    Settings,
    Task,
    TaskStatus,
)
from raftsched.core.tables import Table


class State:
    """Everything all peers agree on at one index."""

    def __init__(self, cluster_id: str = "") -> None:
        self.cluster_id = cluster_id
        #: Milliseconds since the Unix epoch as the leaders stamped it; never falls.
        self.now = 0
        #: Index of the last applied entry.
        self.index = 0
        #: Version of apply's behaviour in force.
        self.version = 1
        #: Highest fencing token ever given plus one; never falls, survives snapshots.
        self.next_token = 1
        self.settings = Settings()
        self.tasks: Table[Task] = Table()
        self.nodes: dict[str, Node] = {}
        #: By ``namespace NUL key``.
        self.keys: Table[KeyRecord] = Table()

        # Derived.
        self.ready = ReadyQueue()
        #: Ids of tasks that hold capacity, per node.
        self.by_node: dict[str, dict[str, None]] = {}
        self.usage: dict[str, Usage] = {}
        self.counts: dict[TaskStatus, int] = dict.fromkeys(TaskStatus, 0)
        self.open_count = 0
        self.listing = Listing()
        self.finished = Finished()
        #: Heap of (expiry, key).
        self._expiring: list[tuple[int, str]] = []

    # Reading ---------------------------------------------------------------------------------

    def list_tasks(
        self,
        after: tuple[int, str] | None = None,
        *,
        newest_first: bool = True,
    ) -> Iterator[Task]:
        """Tasks behind a cursor ``(create_index, id)``; the state must not change meanwhile."""
        for _, task_id in self.listing.after(after, newest_first=newest_first):
            task = self.tasks.get(task_id)
            assert task is not None
            yield task

    def oldest_finished(self) -> Task | None:
        """The terminal task that ended first."""
        while (found := self.finished.oldest()) is not None:
            index, task_id = found
            task = self.tasks.get(task_id)
            if task is not None and task.status in TERMINAL and task.modify_index == index:
                return task
            self.finished.drop_oldest()
        return None

    def oldest_key(self) -> tuple[str, KeyRecord] | None:
        """The idempotency key that expires first."""
        while self._expiring:
            expires_at, key = self._expiring[0]
            record = self.keys.get(key)
            if record is not None and record.expires_at == expires_at:
                return key, record
            heapq.heappop(self._expiring)
        return None

    @property
    def finished_count(self) -> int:
        """How many tasks are terminal."""
        return len(self.tasks) - self.open_count

    # Writing: the machine only ----------------------------------------------------------------

    def put_task(self, task: Task) -> None:
        """Insert or replace a task and keep everything derived right."""
        old = self.tasks.put(task.id, task)
        status = task.status
        counts = self.counts
        counts[status] += 1
        was_holding = False
        if old is None:
            self.listing.add(task)
            self.open_count += 1
        else:
            was = old.status
            counts[was] -= 1
            was_holding = was in HOLDING
            if was is TaskStatus.QUEUED and not old.paused:
                self.ready.remove(old)
            elif was in TERMINAL:
                return
        if status is TaskStatus.QUEUED:
            if not task.paused:
                self.ready.push(task)
        elif status in HOLDING:
            if not was_holding:
                node_id = task.attempts[-1].node
                self.usage[node_id].add(task)
                self.by_node[node_id][task.id] = None
            return
        elif status in TERMINAL:
            self.open_count -= 1
            self.finished.add(task.modify_index, task.id)
        if was_holding:
            assert old is not None
            node_id = old.attempts[-1].node
            self.usage[node_id].add(old, -1)
            del self.by_node[node_id][task.id]

    def delete_task(self, task: Task) -> None:
        """Remove a terminal task and its attempts."""
        assert task.status in TERMINAL
        self.tasks.pop(task.id)
        self.counts[task.status] -= 1
        self.listing.remove(task)

    def put_node(self, node: Node) -> None:
        """Insert or replace a node."""
        self.nodes[node.id] = node
        self.usage.setdefault(node.id, Usage())
        self.by_node.setdefault(node.id, {})

    def put_key(self, key: str, record: KeyRecord) -> None:
        """Insert or replace an idempotency key."""
        self.keys.put(key, record)
        heapq.heappush(self._expiring, (record.expires_at, key))

    def delete_key(self, key: str) -> None:
        """Forget an idempotency key."""
        self.keys.pop(key)

    def load(self, tasks: list[Task]) -> None:
        """All tasks of a snapshot, into a state that has its nodes and no task yet.

        Queues and pages come out as they were: in order of creation.
        """
        for task in sorted(tasks, key=lambda task: (task.create_index, task.id)):
            self.put_task(task)
        self.finished = Finished()
        for task in sorted(tasks, key=lambda task: task.modify_index):
            if task.status in TERMINAL:
                self.finished.add(task.modify_index, task.id)

    def end_snapshot(self) -> None:
        """The view taken last is not used any more."""
        self.tasks.thaw()
        self.keys.thaw()
