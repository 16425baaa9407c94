"""The replicated state: tables of immutable rows, and what is derived from them.

Only `State.put_tasks` and its siblings change it, and only ``changes`` and ``handlers`` call those.
Everything under "derived" is rebuilt from the rows after a restore and must then equal what was
kept step by step (``invariants``).
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping, Sequence
from operator import attrgetter

import msgspec

from raftsched.core.digest import as_bytes, row_hash, sum_of
from raftsched.core.indexes import Finished, Listing, ReadyQueue, Usage, in_order
from raftsched.core.lifecycle import HOLDING
from raftsched.core.model import (
    TERMINAL,
    Check,
    KeyRecord,
    Node,
    Settings,
    Task,
    TaskStatus,
    Terms,
)
from raftsched.core.tables import Table, shard_of

#: Number of a task's shard, the row that stands there or None, the row to write.
Staged = tuple[int, Task | None, Task]
#: Different terms kept for sharing; when there are more, all are forgotten and learnt anew.
TERMS_MAX = 10_000

_QUEUED = TaskStatus.QUEUED
#: Numbers of the tables in the digest; they never change.
_TASKS, _KEYS, _NODES, _SCALARS = range(1, 5)


class State:
    """Everything all peers agree on at one index."""

    def __init__(self, cluster_id: str = "") -> None:
        self.cluster_id = cluster_id
        #: Milliseconds since the Unix epoch as the leaders stamped it; falls by `ResetClock` only.
        self.now = 0
        #: Index of the last applied entry.
        self.index = 0
        #: Version of apply's behaviour in force; never falls.
        self.version = 1
        #: How often the clock was set by `ResetClock`.
        self.clock_resets = 0
        #: Highest fencing token ever given plus one; never falls, survives snapshots.
        self.next_token = 1
        #: Highest ``Task.order`` ever given plus one.
        self.next_order = 1
        self.settings = Settings()
        self.tasks: Table[Task] = Table(_TASKS)
        self.nodes: dict[str, Node] = {}
        #: By ``namespace NUL key``.
        self.keys: Table[KeyRecord] = Table(_KEYS)
        #: The latest comparison of the replicas, done or not.
        self.check: Check | None = None
        #: The replicas differ and no digest has a majority: what anybody wants is refused.
        self.suspect = False

        # Derived.
        self.ready = ReadyQueue()
        #: Ids of tasks that hold capacity, per node, by their token.
        self.by_node: dict[str, dict[str, None]] = {}
        self.usage: dict[str, Usage] = {}
        self.counts: dict[TaskStatus, int] = dict.fromkeys(TaskStatus, 0)
        self.open_count = 0
        self.listing = Listing()
        self.finished = Finished()
        #: Heap of (expiry, key).
        self._expiring: list[tuple[int, str]] = []
        #: By their fields; only so that equal ones are kept once.
        self.terms: dict[tuple[str | int, ...], Terms] = {}
        #: Sum of what is not in a table, when the digest was frozen last.
        self._rest = 0

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
        while self._expiring:
            expires_at, key = self._expiring[0]
            record = self.keys.get(key)
            if record is not None and record.expires_at == expires_at:
                return key, record
            heapq.heappop(self._expiring)
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
        tables = self.tasks.sum.now(self.tasks.get) + self.keys.sum.now(self.keys.get)
        return as_bytes(tables + self._sum_rest())

    def freeze_digest(self) -> None:
        """Begin the digest of the state as it stands; the state may go on."""
        self._rest = self._sum_rest()
        self.tasks.sum.freeze()
        self.keys.sum.freeze()

    def frozen_digest(self, limit: int) -> bytes | None:
        """The digest begun last; None: ask again.  Hashes up to ``limit`` rows of each table."""
        tasks = self.tasks.sum.frozen(limit, self.tasks.get)
        keys = self.keys.sum.frozen(limit, self.keys.get)
        if tasks is None or keys is None:
            return None
        return as_bytes(tasks + keys + self._rest)

    def _sum_rest(self) -> int:
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
        nodes = [row_hash(_NODES, node_id, node) for node_id, node in self.nodes.items()]
        return sum_of([row_hash(_SCALARS, "", scalars), *nodes])

    # Writing: the machine only ----------------------------------------------------------------

    def put_tasks(self, staged: Mapping[str, Staged]) -> None:
        """Insert or replace tasks, in order, and keep everything derived right."""
        self.tasks.update(staged)
        self._derive(staged)

    def _derive(self, staged: Mapping[str, Staged]) -> None:
        counts = self.counts
        for _, old, task in staged.values():
            status = task.status
            counts[status] += 1
            was_holding = False
            if old is None:
                self.listing.add(task)
                self.open_count += 1
            else:
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
                    node_id = task.attempts[-1].node
                    self.usage[node_id].add(task.terms)
                    self.by_node[node_id][task.id] = None
                continue
            elif status in TERMINAL:
                self.open_count -= 1
                self.finished.add(task)
            if was_holding:
                assert old is not None
                node_id = old.attempts[-1].node
                self.usage[node_id].subtract(old.terms)
                del self.by_node[node_id][task.id]

    def delete_task(self, task: Task) -> None:
        """Remove a terminal task and its attempts."""
        assert task.status in TERMINAL
        self.tasks.pop(task.id)
        self.counts[task.status] -= 1
        self.listing.remove(task)
        self.finished.remove(task)

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

    def share_terms(self, terms: Terms) -> Terms:
        """Equal terms as one object, as long as there are not too many different ones."""
        fields = msgspec.structs.astuple(terms)
        known = self.terms.get(fields)
        if known is None:
            if len(self.terms) >= TERMS_MAX:
                self.terms.clear()
            known = self.terms[fields] = terms
        return known

    def load(self, tasks: list[Task]) -> None:
        """All tasks of a snapshot, into a state that has its nodes and no task yet.

        Everything derived comes out as it was: each index is filled in its own order.  Their
        hashes are in ``tasks.sum`` already.  Raises ValueError if a task stands there twice.
        """
        tasks = list(in_order(tasks, attrgetter("order")))
        self.tasks.load((shard_of(task.id), task.id, task) for task in tasks)
        self.listing.fill(tasks)
        by_status: dict[TaskStatus, list[Task]] = {status: [] for status in TaskStatus}
        for task in tasks:
            by_status[task.status].append(task)
        self.counts = {status: len(those) for status, those in by_status.items()}
        self.ready.fill(task for task in by_status[_QUEUED] if not task.paused)
        ended = [t for status, those in by_status.items() if status in TERMINAL for t in those]
        self.open_count = len(tasks) - len(ended)
        self.finished.fill(ended)
        held = [t for status, those in by_status.items() if status in HOLDING for t in those]
        for task in in_order(held, attrgetter("token")):
            self.usage[task.node].add(task.terms)
            self.by_node[task.node][task.id] = None

    def load_keys(self, keys: Sequence[tuple[str, KeyRecord]]) -> None:
        """Some idempotency keys of a snapshot.  Raises ValueError if one stands there twice."""
        self.keys.sum.add(keys)
        self.keys.load([(shard_of(key), key, record) for key, record in keys])
        for key, record in keys:
            heapq.heappush(self._expiring, (record.expires_at, key))

    def end_snapshot(self) -> None:
        """The view taken last is not used any more."""
        self.tasks.thaw()
        self.keys.thaw()

    def take_apart(self) -> Iterator[object]:
        """All rows in pieces that are small enough to be freed at a stroke; none stays here.

        For a state that nobody looks at any more.
        """
        yield from self.tasks.take_apart()
        yield from self.keys.take_apart()
