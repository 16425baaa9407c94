"""The replicated state: tables of immutable rows, and what is derived from them.

Only `State.put_tasks` and its siblings change it, with ``loading`` and ``removal``, and only
``changes``, ``handlers`` and ``codec`` call those.  Everything under "derived" is rebuilt from the
rows after a restore and must then equal what was kept step by step (``invariants``).
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from raftsched.core.board import Board
from raftsched.core.digest import as_bytes, row_hash, sum_of
from raftsched.core.finished import FinishedByQueue, asked_bytes, weight
from raftsched.core.firings import Firings
from raftsched.core.indexes import Listing, QueueUses, Usage
from raftsched.core.lifecycle import HOLDING
from raftsched.core.limits import LIMIT, QUEUE
from raftsched.core.model import (
    TERMINAL,
    Check,
    KeyRecord,
    Limit,
    Node,
    Queue,
    Settings,
    Task,
    TaskStatus,
    Terms,
)
from raftsched.core.policy import Policy
from raftsched.core.ready import ReadyQueue
from raftsched.core.relations import Relations
from raftsched.core.schedule import Schedule, Slot
from raftsched.core.tables import Table
from raftsched.core.template import Template
from raftsched.core.timers import Timers
from raftsched.core.trees import Trees, is_split, owner_of
from raftsched.core.versions import POLICIES

#: Number of a task's shard, the row that stands there or None, the row to write.
Staged = tuple[int, Task | None, Task]
#: Of the tables of schedules, slots and templates: there are fewer of them than tasks.
SCHEDULE_SHARDS = 64
#: Different terms kept for sharing; when there are more, all are forgotten and learnt anew.
TERMS_MAX = 10_000

_QUEUED = TaskStatus.QUEUED
_WAITING = TaskStatus.WAITING
_RETRYING = TaskStatus.RETRYING
#: Numbers of the tables in the digest; they never change.
_TASKS, _KEYS, _NODES, _SCALARS, _QUEUES, _LIMITS, _SCHEDULES, _SLOTS, _TEMPLATES = range(1, 10)


class State:
    """Everything all peers agree on at one index."""

    def __init__(self, cluster_id: str = "") -> None:
        self.cluster_id = cluster_id
        #: Milliseconds since the Unix epoch as the leaders stamped it; falls by `ResetClock` only.
        self.now = 0
        #: Index of the last applied entry.
        self.index = 0
        self._version = 1
        #: How often the clock was set by `ResetClock`.
        self.clock_resets = 0
        #: Highest fencing token ever given plus one; never falls, survives snapshots.
        self.next_token = 1
        #: Highest ``Task.order`` ever given plus one.
        self.next_order = 1
        self._settings = Settings()
        self.tasks: Table[Task] = Table(_TASKS)
        self.nodes: dict[str, Node] = {}
        #: By ``namespace NUL key``.
        self.keys: Table[KeyRecord] = Table(_KEYS)
        #: Rows of queues and limits that were set; all others are as their defaults say.
        self.queues: dict[str, Queue] = {}
        self.limits: dict[str, Limit] = {}
        self.schedules: Table[Schedule] = Table(_SCHEDULES, SCHEDULE_SHARDS)
        #: By `schedule.slot_key`.
        self.slots: Table[Slot] = Table(_SLOTS, SCHEDULE_SHARDS)
        self.templates: Table[Template] = Table(_TEMPLATES, SCHEDULE_SHARDS)
        #: The latest comparison of the replicas, done or not.
        self.check: Check | None = None
        #: The replicas differ and no digest has a majority: what anybody wants is refused.
        self.suspect = False

        # Derived.
        self.ready = ReadyQueue()
        #: Where the planner finds its way in it; says nothing that is not in the rows.
        self.board = Board()
        #: Ids of tasks that hold capacity, per node, by their token.
        self.by_node: dict[str, dict[str, None]] = {}
        self.usage: dict[str, Usage] = {}
        #: By node id, ascending: a bit of its own, rising.
        self.node_bits: dict[str, int] = {}
        self.counts: dict[TaskStatus, int] = dict.fromkeys(TaskStatus, 0)
        self.open_count = 0
        #: Bytes of the specifications of tasks that are not terminal.
        self.spec_bytes = 0
        self.listing = Listing()
        #: Of a tree only the task at its root: the others go with it.  Without those that somebody
        #: depends on who has not ended.
        self.finished = FinishedByQueue(self._weigh)
        self.timers = Timers()
        #: By name; a queue that never had a task has none.
        self.queue_use = QueueUses()
        #: Attempts that hold a limit, by its key; none is 0.
        self.limit_use: dict[str, int] = {}
        self.trees = Trees(self.tasks.get)
        self.relations = Relations(self.tasks.get)
        self.firings = Firings()
        #: Heap of (expiry, key).
        self.expiring: list[tuple[int, str]] = []
        #: By their fields; only so that equal ones are kept once.
        self.terms: dict[tuple[str | int | Policy | None, ...], Terms] = {}
        #: Sum of what is not in a table, when the digest was frozen last.
        self._rest = 0

    @property
    def version(self) -> int:
        """Version of apply's behaviour in force; never falls."""
        return self._version

    @version.setter
    def version(self, version: int) -> None:
        self._version = version
        self._set_order()

    @property
    def settings(self) -> Settings:
        """What changes the behaviour of ``apply``."""
        return self._settings

    @settings.setter
    def settings(self, settings: Settings) -> None:
        self._settings = settings
        self._set_order()

    def _set_order(self) -> None:
        """The ready queue goes by what is in force from here on."""
        ageing_ms = self._settings.ageing_ms if self._version >= POLICIES else None
        if self.ready.set_ageing(ageing_ms):
            self.board.reset()

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
        task_id = self.finished.oldest()
        return None if task_id is None else self.tasks.get(task_id)

    def oldest_key(self) -> tuple[str, KeyRecord] | None:
        """The idempotency key that expires first."""
        while self.expiring:
            expires_at, key = self.expiring[0]
            record = self.keys.get(key)
            if record is not None and record.expires_at == expires_at:
                return key, record
            heapq.heappop(self.expiring)
        return None

    def incarnation_of(self, node_id: str) -> str:
        """The incarnation in a node's row, which a new one has to name; empty without a row."""
        node = self.nodes.get(node_id)
        return "" if node is None else node.incarnation

    @property
    def finished_count(self) -> int:
        """How many tasks are terminal."""
        return len(self.tasks) - self.open_count

    # Comparing with other replicas ------------------------------------------------------------

    def digest(self) -> bytes:
        """Of the state as it is.  Changes nothing; takes as long as all rows not hashed yet."""
        return as_bytes(
            sum([table.sum.now(table.get) for table in self._tables]) + self._rest_sum()
        )

    def freeze_digest(self) -> None:
        """Begin the digest of the state as it stands; the state may go on."""
        self._rest = self._rest_sum()
        for table in self._tables:
            table.sum.freeze()

    def frozen_digest(self, limit: int) -> bytes | None:
        """The digest begun last; None: ask again.  Hashes up to ``limit`` rows of each table."""
        total = self._rest
        for found in [table.sum.frozen(limit, table.get) for table in self._tables]:
            if found is None:
                return None
            total += found
        return as_bytes(total)

    @property
    def _tables(self) -> tuple[Table[Any], ...]:
        return self.tasks, self.keys, self.schedules, self.slots, self.templates

    def _rest_sum(self) -> int:
        """Of what is small enough to be hashed whenever the digest is wanted."""
        scalars = (
            self.cluster_id,
            self.now,
            self.version,
            self.clock_resets,
            self.next_token,
            self.next_order,
            self.settings,
            self.check,
            self.suspect,
        )
        rows = [row_hash(_NODES, node_id, node) for node_id, node in self.nodes.items()]
        rows += [row_hash(_QUEUES, name, queue) for name, queue in self.queues.items()]
        rows += [row_hash(_LIMITS, key, limit) for key, limit in self.limits.items()]
        return sum_of([row_hash(_SCALARS, "", scalars), *rows])

    # Writing: the machine only ----------------------------------------------------------------

    def put_tasks(self, staged: Mapping[str, Staged]) -> None:
        """Insert or replace tasks, in order, and keep everything derived right."""
        self.tasks.update(staged)
        self._derive(staged)

    def _derive(self, staged: Mapping[str, Staged]) -> None:
        counts = self.counts
        #: Roots that ended, came to be needed or not to be: could retention have had them before?
        settled: dict[str, bool] = {}
        needed = self.relations.dependents
        for _, old, task in staged.values():
            status = task.status
            counts[status] += 1
            was_holding = False
            if task.extra is not None or task.terms.policy is not None or status is _RETRYING:
                self.timers.put(task)
                if task.extra is not None:
                    for root_id in self._relate(old, task):
                        _, before, _ = staged.get(root_id, (0, self.tasks.get(root_id), None))
                        is_new = before is None or before.status not in TERMINAL
                        was_needed = root_id not in needed
                        settled.setdefault(root_id, not (is_new or was_needed))
            elif old is not None and old.status is _RETRYING:
                self.timers.put(task)
            if old is None:
                self.listing.add(task)
                self.open_count += 1
                self.spec_bytes += asked_bytes(task)
                self.queue_use[task.terms.queue].open += 1
            else:
                if (
                    old.terms is not task.terms
                    or old.spec is not task.spec
                    or old.extra is not task.extra
                ):
                    self._edit(old, task)
                was = old.status
                counts[was] -= 1
                was_holding = was in HOLDING
                if was is _QUEUED and not old.paused:
                    self.ready.remove(old)
                elif was in TERMINAL:
                    continue
            if status is _QUEUED:
                if not task.paused:
                    self.ready.push(task)
            elif status in HOLDING:
                if not was_holding:
                    self.hold(task)
                continue
            elif status in TERMINAL:
                self.open_count -= 1
                self.spec_bytes -= asked_bytes(task)
                self.queue_use[task.terms.queue].open -= 1
                if task.extra is None and not (needed or settled):
                    self.finished.add(task)
                elif not owner_of(task):
                    settled.setdefault(task.id, False)
            if was_holding:
                assert old is not None
                self._let_go(old)
        self._settle(settled)

    def _edit(self, old: Task, task: Task) -> None:
        """A task that is open became another one."""
        self.spec_bytes += asked_bytes(task) - asked_bytes(old)
        self.queue_use[old.terms.queue].open -= 1
        self.queue_use[task.terms.queue].open += 1
        self.timers.put(task)

    def hold(self, task: Task) -> None:
        """An attempt holds what its task asks for."""
        terms, node_id = task.terms, task.attempts[-1].node
        self.usage[node_id].add(terms)
        self.by_node[node_id][task.id] = None
        self.queue_use[terms.queue].held += 1
        if terms.policy is not None:
            for key in terms.policy.limits:
                self.limit_use[key] = self.limit_use.get(key, 0) + 1

    def _let_go(self, task: Task) -> None:
        """The attempt of the row as it stood holds nothing any more."""
        terms, node_id = task.terms, task.attempts[-1].node
        self.usage[node_id].subtract(terms)
        del self.by_node[node_id][task.id]
        self.queue_use[terms.queue].held -= 1
        board = self.board
        if board.parked:
            board.wake(QUEUE, terms.queue)
        if terms.policy is not None:
            for key in terms.policy.limits:
                left = self.limit_use[key] - 1
                if left:
                    self.limit_use[key] = left
                else:
                    del self.limit_use[key]
                if board.parked:
                    board.wake(LIMIT, key)

    def _relate(self, old: Task | None, task: Task) -> Sequence[str]:
        """Keep what a task has to do with others; as `Relations.set`."""
        extra = task.extra
        assert extra is not None
        if extra.parent:
            self.trees.set(extra.parent, old, task)
        elif extra.twin_of:
            self.trees.set_twin(old, task)
        if extra.schedule:
            self.firings.run(extra.schedule, task)
        return self.relations.set(old, task)

    def _settle(self, roots: Mapping[str, bool]) -> None:
        """Roots that retention may have now, or could have before."""
        for task_id, was_kept in roots.items():
            task = self.tasks.get(task_id)
            if task is None or was_kept is self.finished_has(task):
                continue
            if was_kept:
                self.finished.remove(task)
            else:
                self.finished.add(task)

    def finished_has(self, task: Task) -> bool:
        """May retention have it?"""
        return (
            task.status in TERMINAL
            and not owner_of(task)
            and task.id not in self.relations.dependents
        )

    def subtasks(self, task: Task) -> list[Task]:
        """The parts that a task was split into, the oldest first."""
        if not is_split(task):
            return []
        found = [self.tasks.get(task_id) for task_id in self.trees.ids_of(task.id)]
        return [subtask for subtask in found if subtask is not None]

    def twin_of(self, task: Task) -> Task | None:
        """The task that does the same as a part at the same time, or did."""
        return self.tasks.get(task.extra.twin) if task.extra is not None else None

    def with_twins(self, task_ids: Iterable[str]) -> list[str]:
        """The ids, each with that of its twin behind it."""
        found: list[str] = []
        for task_id in task_ids:
            found.append(task_id)
            task = self.tasks.get(task_id)
            if task is not None and task.extra is not None and task.extra.twin:
                found.append(task.extra.twin)
        return found

    def _weigh(self, task: Task) -> int:
        """Of a terminal task with its subtasks."""
        return weight(task) + self.trees.weight_of(task.id)

    def put_node(self, node: Node) -> None:
        """Insert or replace a node."""
        self.nodes[node.id] = node
        self.usage.setdefault(node.id, Usage())
        self.by_node.setdefault(node.id, {})
        if node.id not in self.node_bits:
            self.node_bits = {node_id: 1 << n for n, node_id in enumerate(sorted(self.nodes))}
        self.board.nodes_changed = True

    def put_queue(self, name: str, queue: Queue | None) -> None:
        """Insert, replace or remove a queue's row."""
        if queue is None:
            self.queues.pop(name, None)
        else:
            self.queues[name] = queue
        self.board.wake(QUEUE, name)

    def put_limit(self, key: str, limit: Limit | None) -> None:
        """Insert, replace or remove a limit's row."""
        if limit is None:
            self.limits.pop(key, None)
        else:
            self.limits[key] = limit
        self.board.wake(LIMIT, key)

    def put_schedule(self, name: str, schedule: Schedule | None) -> None:
        """Insert, replace or remove a schedule's row; its slots are removed before."""
        if schedule is None:
            self.schedules.pop(name)
        else:
            self.schedules.put(name, schedule)
        self.firings.schedule(name, schedule)

    def put_slot(self, key: str, slot: Slot | None) -> None:
        """Insert, replace or remove a slot's row."""
        if slot is not None:
            self.firings.slot(slot, self.slots.put(key, slot))
        elif (gone := self.slots.pop(key)) is not None:
            self.firings.forget(gone)

    def put_template(self, name: str, template: Template | None) -> None:
        """Insert, replace or remove a template's row."""
        if template is None:
            self.templates.pop(name)
        else:
            self.templates.put(name, template)

    def put_key(self, key: str, record: KeyRecord) -> None:
        """Insert or replace an idempotency key."""
        self.keys.put(key, record)
        heapq.heappush(self.expiring, (record.expires_at, key))

    def delete_key(self, key: str) -> None:
        """Forget an idempotency key."""
        self.keys.pop(key)

    def share_terms(self, terms: Terms) -> Terms:
        """Equal terms as one object, as long as there are not too many different ones."""
        fields = msgspec.structs.astuple(terms)
        known = self.terms.get(fields)
        if known is None:
            if len(self.terms) >= TERMS_MAX:
                self.terms.clear()
            known = self.terms[fields] = terms
        return known

    def end_snapshot(self) -> None:
        """The view taken last is not used any more."""
        for table in self._tables:
            table.thaw()

    def take_apart(self) -> Iterator[object]:
        """All rows in pieces that are small enough to be freed at a stroke; none stays here.

        For a state that nobody looks at any more.
        """
        for table in self._tables:
            yield from table.take_apart()
