"""What must hold of every state, written once: tests, simulation and ``paranoid`` call `check`."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from raftsched.core.indexes import Usage
from raftsched.core.lifecycle import HOLDING
from raftsched.core.model import ATTEMPT_TERMINAL, TERMINAL, AttemptStatus, TaskStatus
from raftsched.core.planner import AHEAD_MAX
from raftsched.core.state import State


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
    ready: set[str] = set()
    usage: dict[str, Usage] = {}
    held: dict[str, set[str]] = {}
    counts = dict.fromkeys(TaskStatus, 0)
    for task in state.tasks.values():
        counts[task.status] += 1
        if task.status is TaskStatus.QUEUED and not task.paused:
            ready.add(task.id)
        if task.status in HOLDING:
            usage.setdefault(task.node, Usage()).add(task)
            held.setdefault(task.node, set()).add(task.id)
    queue = list(state.ready)
    if len(queue) != len(ready) or set(queue) != ready or len(state.ready) != len(ready):
        yield f"ready queue has {len(queue)} ({len(state.ready)}) tasks, the rows {len(ready)}"
    if counts != state.counts:
        yield "counts by status differ from the rows"
    if state.open_count != sum(n for status, n in counts.items() if status not in TERMINAL):
        yield "open_count differs from the rows"
    for node_id in sorted({*state.usage, *usage}):
        kept, counted = state.usage.get(node_id, Usage()), usage.get(node_id, Usage())
        if kept != counted:
            yield f"node {node_id}: usage {kept}, by the rows {counted}"
        if set(state.by_node.get(node_id, ())) != held.get(node_id, set()):
            yield f"node {node_id}: its assignments differ from the rows"
        node = state.nodes.get(node_id)
        if node is None:
            yield f"node {node_id} holds attempts and is unknown"
        elif counted.attempts > node.slots + AHEAD_MAX and node.incarnation:
            yield f"node {node_id} holds {counted.attempts} attempts"
    listed = [task_id for _, task_id in state.listing.after(None, newest_first=False)]
    if len(listed) != len(state.tasks) or any(i not in state.tasks for i in listed):
        yield "the listing differs from the rows"
    finished = state.oldest_finished()
    if (finished is None) != (state.finished_count == 0):
        yield "the order of finished tasks differs from the rows"
