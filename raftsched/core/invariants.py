"""What must hold of every state, written once: tests, simulation and ``paranoid`` call `check`."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from operator import attrgetter
from typing import Any

from raftsched.core.indexes import Usage
from raftsched.core.lifecycle import HOLDING
from raftsched.core.model import ATTEMPT_TERMINAL, TERMINAL, AttemptStatus, Task, TaskStatus
from raftsched.core.state import State
from raftsched.core.tables import Table


def check(state: State) -> list[str]:
    """Every violated invariant as a sentence; empty when all hold."""
    return [*_rows(state), *_derived(state)]


def _rows(state: State) -> Iterator[str]:
    tokens: set[int] = set()
    for task in state.tasks.values():
        attempts = task.attempts
        for attempt in attempts:
            if attempt.token in tokens:
                yield f"token {attempt.token} was given twice"
            tokens.add(attempt.token)
            if attempt.token >= state.next_token:
                yield f"token {attempt.token} is not below next_token {state.next_token}"
        if any(a.token >= b.token for a, b in pairwise(attempts)):
            yield f"task {task.id}: tokens do not rise"
        live = [a for a in attempts if a.status not in ATTEMPT_TERMINAL]
        if len(live) > 1 or (live and live[0] is not attempts[-1]):
            yield f"task {task.id}: more than the latest attempt lives"
        if bool(live) != (task.status in HOLDING):
            yield f"task {task.id} is {task.status} with {len(live)} living attempts"
        if any(a.status is AttemptStatus.SUCCEEDED for a in attempts[:-1]):
            yield f"task {task.id} ran again after it succeeded"
        if [attempt.number for attempt in attempts] != list(range(1, len(attempts) + 1)):
            yield f"task {task.id}: its attempts are not numbered from 1 on"
        if (task.status in TERMINAL) != (task.finished_at > 0):
            yield f"task {task.id} is {task.status}, finished_at {task.finished_at}"
        if task.modify_index > state.index and state.index:
            yield f"task {task.id}: modify_index {task.modify_index} is in the future"


def _derived(state: State) -> Iterator[str]:
    tasks = sorted(state.tasks.values(), key=attrgetter("order"))
    orders = [task.order for task in tasks]
    if any(a >= b for a, b in pairwise([*orders, state.next_order])):
        yield "two tasks have the same order, or one has an order of the future"
    usage: dict[str, Usage] = {}
    counts = dict.fromkeys(TaskStatus, 0)
    for task in tasks:
        counts[task.status] += 1
        if task.status in HOLDING:
            usage.setdefault(task.node, Usage()).add(task.terms)
    if counts != state.counts:
        yield "counts by status differ from the rows"
    if state.open_count != sum(n for status, n in counts.items() if status not in TERMINAL):
        yield "open_count differs from the rows"
    for node_id in sorted({*state.usage, *usage}):
        kept, counted = state.usage.get(node_id, Usage()), usage.get(node_id, Usage())
        if kept != counted:
            yield f"node {node_id}: usage {kept}, by the rows {counted}"
        if node_id not in state.nodes:
            yield f"node {node_id} holds attempts and is unknown"
    yield from _orders(state, tasks)
    yield from _sums("tasks", state.tasks)
    yield from _sums("keys", state.keys)


def _sums(name: str, table: Table[Any]) -> Iterator[str]:
    """The digest's part of a table, added up anew."""
    if table.sum.now(table.get) != table.sum.recount(table.items()):
        yield f"the digest of the {name} differs from the rows"


def _orders(state: State, tasks: list[Task]) -> Iterator[str]:
    """Every derived order against the one that the rows (in order of creation) give."""
    ready = [task for task in tasks if task.status is TaskStatus.QUEUED and not task.paused]
    ready.sort(key=lambda task: -task.priority)
    if list(state.ready) != [task.id for task in ready] or len(state.ready) != len(ready):
        yield "the ready queue differs from the rows"
    if any(state.tasks.get(task.id) is not task for task in state.ready.tasks()):
        yield "the ready queue has a row that was replaced"
    held: dict[str, list[str]] = {}
    for task in sorted(tasks, key=attrgetter("token")):
        if task.status in HOLDING:
            held.setdefault(task.node, []).append(task.id)
    for node_id in sorted({*state.by_node, *held}):
        if list(state.by_node.get(node_id, ())) != held.get(node_id, []):
            yield f"node {node_id}: its assignments differ from the rows"
    listed = [(task.create_index, task.id) for task in tasks]
    if list(state.listing.after(None, newest_first=False)) != sorted(listed):
        yield "the listing differs from the rows"
    if list(state.listing.after(None, newest_first=True)) != sorted(listed, reverse=True):
        yield "the listing from the newest on differs from the rows"
    ended = sorted((task.modify_index, task.id) for task in tasks if task.status in TERMINAL)
    if list(state.finished) != [task_id for _, task_id in ended]:
        yield "the order of finished tasks differs from the rows"
    expiring = [(record.expires_at, key) for key, record in state.keys.items()]
    oldest = state.oldest_key()
    if (oldest and (oldest[1].expires_at, oldest[0])) != min(expiring, default=None):
        yield "the idempotency key that expires first differs from the rows"
