"""The replicated state: tables of immutable rows, and what is derived from them.

Only `State.write` and its siblings change it, and only ``machine`` calls those.  Everything under
"derived" is rebuilt from the rows after a restore and must then equal what was kept step by step
(``invariants``).
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator

from raftsched.core.indexes import Listing, ReadyQueue, Usage
from raftsched.core.lifecycle import HOLDING
from raftsched.core.model import (
    TERMINAL,
    Attempt,
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
        #: Attempts of a task, oldest first.
        self.attempts: Table[tuple[Attempt, ...]] = Table()
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
        #: Heaps for retention: (index of the end, id) and (expiry, key).
        self._finished: list[tuple[int, str]] = []
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
        while self._finished:
            index, task_id = self._finished[0]
            task = self.tasks.get(task_id)
            if task is not None and task.status in TERMINAL and task.modify_index == index:
                return task
            heapq.heappop(self._finished)
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
        old = self.tasks.get(task.id)
        self.tasks.put(task.id, task)
        status = task.status
        self.counts[status] += 1
        if old is None:
            self.listing.add(task)
            self.open_count += status not in TERMINAL
        else:
            self.counts[old.status] -= 1
            self.open_count += (status not in TERMINAL) - (old.status not in TERMINAL)
            if old.status is TaskStatus.QUEUED and not old.paused:
                self.ready.remove(old)
            elif old.status in HOLDING:
                self._release(old)
        if status is TaskStatus.QUEUED:
            if not task.paused:
                self.ready.push(task)
        elif status in HOLDING:
            self._hold(task)
        elif status in TERMINAL and (old is None or old.status not in TERMINAL):
            heapq.heappush(self._finished, (task.modify_index, task.id))

    def delete_task(self, task: Task) -> None:
        """Remove a terminal task and its attempts."""
        assert task.status in TERMINAL
        self.tasks.pop(task.id)
        self.attempts.pop(task.id)
        self.counts[task.status] -= 1
        self.listing.remove(task)

    def put_attempts(self, task_id: str, attempts: tuple[Attempt, ...]) -> None:
        """Replace the attempts of a task."""
        self.attempts.put(task_id, attempts)

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

    def _hold(self, task: Task) -> None:
        self.usage.setdefault(task.node, Usage()).add(task)
        self.by_node.setdefault(task.node, {})[task.id] = None

    def _release(self, task: Task) -> None:
        self.usage[task.node].add(task, -1)
        del self.by_node[task.node][task.id]

    def end_snapshot(self) -> None:
        """The view taken last is not used any more."""
        for table in (self.tasks, self.attempts, self.keys):
            table.thaw()
