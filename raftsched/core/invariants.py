"""What must hold of every state, written once: tests, simulation and ``paranoid`` call `check`."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Mapping
from itertools import pairwise
from operator import attrgetter
from typing import Any

from raftsched.core.finished import asked_bytes, weight
from raftsched.core.firings import AT_ONCE
from raftsched.core.handlers import forks
from raftsched.core.indexes import QueueUse, Usage
from raftsched.core.lifecycle import HOLDING
from raftsched.core.model import ATTEMPT_TERMINAL, TERMINAL, AttemptStatus, Task, TaskStatus, Terms
from raftsched.core.policy import Extra, RetryNode
from raftsched.core.products import Product
from raftsched.core.relations import awaited
from raftsched.core.schedule import SLOTS_MAX, UNRECKONED, SlotStatus, slot_key
from raftsched.core.state import State
from raftsched.core.tables import Table
from raftsched.core.template import DOCUMENT_BYTES_MAX, TEMPLATES_MAX
from raftsched.core.timers import due_at
from raftsched.core.trees import awaits_twin, is_held, is_skipped, owner_of, parent_of
from raftsched.core.versions import PAUSED_TWINS, POLICIES


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
    yield from _uses(state, tasks)
    yield from _relations(state, tasks)
    yield from _sums("tasks", state.tasks)
    yield from _sums("keys", state.keys)
    yield from _sums("schedules", state.schedules)
    yield from _sums("slots", state.slots)
    yield from _sums("templates", state.templates)
    yield from _templates(state)


def _ready(state: State, tasks: list[Task]) -> list[str]:
    """Ids of those that may be assigned, in the order in which they have their turn."""
    lanes: dict[tuple[Terms, str], list[tuple[int, int, str]]] = {}
    for task in tasks:
        if task.status is TaskStatus.QUEUED and not task.paused:
            rank = -task.priority
            if state.version >= POLICIES:
                rank = task.created_at - task.priority * state.settings.ageing_ms
            last = "" if task.policy.retry_node is RetryNode.ANY else task.node
            lanes.setdefault((task.terms, last), []).append((rank, task.order, task.id))
    return [task_id for *_, task_id in heapq.merge(*lanes.values())]


def _uses(state: State, tasks: list[Task]) -> Iterator[str]:
    """What queues and limits count."""
    queues: dict[str, QueueUse] = {}
    limits: dict[str, int] = {}
    size = 0
    for task in tasks:
        if task.status not in TERMINAL:
            queues.setdefault(task.queue, QueueUse()).open += 1
            size += asked_bytes(task)
        if task.status in HOLDING:
            queues.setdefault(task.queue, QueueUse()).held += 1
            for key in task.policy.limits:
                limits[key] = limits.get(key, 0) + 1
    for name in sorted({*queues, *state.queue_use}):
        kept, counted = state.queue_use.get(name, QueueUse()), queues.get(name, QueueUse())
        if kept != counted:
            yield f"queue {name}: {kept}, by the rows {counted}"
    if state.limit_use != limits:
        yield f"limits are held {state.limit_use}, by the rows {limits}"
    if state.spec_bytes != size:
        yield f"specifications have {state.spec_bytes} bytes, by the rows {size}"


def _relations(state: State, tasks: list[Task]) -> Iterator[str]:
    """What tasks have to do with time and with one another."""
    due = sorted((due_at(task), task.order, task.id) for task in tasks if due_at(task))
    if list(state.timers) != [(at, task_id) for at, _, task_id in due]:
        yield "the timers differ from the rows"
    unique: dict[str, str] = {}
    waiters: dict[str, list[str]] = {}
    dependents: dict[str, list[str]] = {}
    for task in tasks:
        extra = task.extra
        if extra is None or task.status in TERMINAL:
            continue
        if extra.unique_key:
            unique[f"{task.namespace}\0{extra.unique_key}"] = task.id
        for awaited_id in awaited(task):
            waiters.setdefault(awaited_id, []).append(task.id)
        own = state.relations.root_of(owner_of(task) or task.id)
        needed = [other.task_id for other in extra.depends_on] + _kept(state, task)
        for root in sorted({state.relations.root_of(task_id) for task_id in needed}):
            if root != own:
                dependents.setdefault(root, []).append(task.id)
            if root not in state.tasks:
                yield f"task {task.id} depends on {root}, which is not there"
        if not 0 <= extra.met <= len(extra.depends_on) - len(extra.awaits):
            yield f"task {task.id}: {extra.met} of its dependencies are met"
    yield from _trees(state, tasks)
    yield from _twins(state, tasks)
    yield from _schedules(state, tasks)
    if state.relations.unique != unique:
        yield "the unique keys differ from the rows"
    if _sorted(state.relations.waiters) != _sorted(waiters):
        yield "who waits for another task differs from the rows"
    if _sorted(state.relations.dependents) != _sorted(dependents):
        yield "who depends on another tree differs from the rows"


def _kept(state: State, task: Task) -> list[str]:
    """Ids of the tasks that one is another try of, as far as results of theirs are kept."""
    if task.extra is None or not task.extra.keeps or task.extra.parent:
        return []
    other = state.tasks.get(task.extra.keeps)
    if other is None or other.order >= task.order:
        return []
    return [other.id, *_kept(state, other)]


def _sorted(those: Mapping[str, Iterable[str]]) -> dict[str, list[str]]:
    return {name: sorted(ids) for name, ids in those.items()}


def _schedules(state: State, tasks: list[Task]) -> Iterator[str]:
    """Schedules, their slots, and what runs of them."""
    due: list[tuple[int, str]] = []
    for name, row in state.schedules.items():
        if name != row.name:
            yield f"schedule {row.name} is kept as {name}"
        if not row.paused and row.next_at:
            due.append((AT_ONCE if row.next_at == UNRECKONED else row.next_at, name))
    if sorted(state.firings.due) != sorted(due):
        yield "the instants of schedules differ from the rows"
    runs: dict[str, list[str]] = {}
    for task in tasks:
        if task.extra is not None and task.extra.schedule and task.status not in TERMINAL:
            runs.setdefault(task.extra.schedule, []).append(task.id)
    slots: dict[str, list[int]] = {}
    for key, slot in sorted(state.slots.items(), key=lambda item: item[1].order):
        slots.setdefault(slot.schedule, []).append(slot.at)
        if key != slot_key(slot.schedule, slot.at):
            yield f"a slot of {slot.schedule} is kept as {key}"
        if state.schedules.get(slot.schedule) is None:
            yield f"a slot of {slot.schedule}, which is not there"
        if (slot.status is SlotStatus.FIRED) and not slot.task_id:
            yield f"{slot.schedule} fired at {slot.at} and has no task"
    for name in sorted({*runs, *slots, *state.firings.names()}):
        if state.firings.runs_of(name) != runs.get(name, []):
            yield f"what runs of schedule {name} differs from the rows"
        if state.firings.slots_of(name) != slots.get(name, []):
            yield f"the slots of schedule {name} differ from the rows"
        if len(slots.get(name, [])) > SLOTS_MAX:
            yield f"schedule {name} has {len(slots[name])} slots"


def _templates(state: State) -> Iterator[str]:
    """Templates, and their bounds."""
    if len(state.templates) > TEMPLATES_MAX:
        yield f"there are {len(state.templates)} templates"
    for name, row in state.templates.items():
        if name != row.name:
            yield f"template {row.name} is kept as {name}"
        if row.version < 1 or not 0 < len(row.document) <= DOCUMENT_BYTES_MAX:
            yield f"template {name} has version {row.version}, {len(row.document)} bytes"
        if row.modify_index > state.index and state.index:
            yield f"template {name}: modify_index {row.modify_index} is in the future"


def _is_root(task: Task) -> bool:
    """Terminal, and no part of another task, nor a twin."""
    return task.status in TERMINAL and not owner_of(task)


def _trees(state: State, tasks: list[Task]) -> Iterator[str]:
    """A task and its subtasks."""
    parts: dict[str, list[Task]] = {}
    twins = _by_fork(state, tasks)
    for task in tasks:
        if parent_of(task):
            parts.setdefault(parent_of(task), []).append(task)
        extra, is_ready = task.extra, task.status is TaskStatus.QUEUED
        is_whole = extra is not None and (extra.broadcast or extra.fork is not None)
        if is_whole and (is_ready or task.attempts):
            yield f"task {task.id} runs itself, not as its subtasks"
        if extra is not None and extra.subtasks and state.trees.of(task.id) is None:
            yield f"task {task.id} was split and has no subtasks"
    for parent_id, those in sorted(parts.items()):
        parent, kept = state.tasks.get(parent_id), state.trees.of(parent_id)
        counts: dict[TaskStatus, int] = {}
        for task in those:
            counts[task.status] = counts.get(task.status, 0) + 1
        if kept is None or list(kept.ids) != [task.id for task in those] or kept.counts != counts:
            yield f"the subtasks of {parent_id} differ from the rows"
        if parent is None or parent.extra is None or parent.extra.subtasks != len(those):
            yield f"task {parent_id} does not have the {len(those)} subtasks that name it"
        else:
            yield from _fork(parent, parent.extra, those, twins.get(parent_id, []))
        weighed = sum(weight(t) for t in those if t.finished_at)
        weighed += sum(weight(t) for t in twins.get(parent_id, []) if t.finished_at)
        weighed += sum(state.trees.weight_of(t.id) for t in those)
        if kept is not None and (
            [*kept.held] != [task.id for task in those if is_held(task)]
            or len(kept.under_way) + len(kept.held) + kept.ended != len(those)
            or kept.skipped != sum(map(is_skipped, those))
            or kept.weight != weighed
            or [*kept.twins] != [t.id for t in twins.get(parent_id, []) if not t.finished_at]
        ):
            yield f"what is known of the subtasks of {parent_id} differs from the rows"
    for task in tasks:
        for awaited_id in awaited(task):
            other = state.tasks.get(awaited_id)
            if other is None or other.status in TERMINAL:
                yield f"task {task.id} waits for {awaited_id}, which is over"
    if state.trees.parents() != sorted(parts):
        yield "there are subtasks that the rows do not have"


def _by_fork(state: State, tasks: list[Task]) -> dict[str, list[Task]]:
    """The twins of its subtasks, by the id of each task that has some."""
    found: dict[str, list[Task]] = {}
    for task in tasks:
        part = state.tasks.get(task.extra.twin_of) if task.extra is not None else None
        if part is not None:
            found.setdefault(parent_of(part), []).append(task)
    return found


def _twins(state: State, tasks: list[Task]) -> Iterator[str]:
    """Subtasks that run a second time, and the rows that do."""
    speculative = [task.id for task in tasks if _may_speculate(task)]
    if sorted(state.relations.speculative) != sorted(speculative):
        yield "the forks whose subtasks may have twins differ from the rows"
    for task in tasks:
        if task.extra is None:
            continue
        if task.extra.twin_of:
            part = state.tasks.get(task.extra.twin_of)
            if part is None or part.extra is None or part.extra.twin != task.id:
                yield f"task {task.id} is a twin of {task.extra.twin_of}, which does not name it"
            if len(task.attempts) > 1 or task.status is TaskStatus.RETRYING:
                yield f"task {task.id} is a twin and is tried again"
        twin = state.tasks.get(task.extra.twin) if task.extra.twin else None
        if task.extra.twin and (twin is None or twin.extra is None):
            yield f"task {task.id} has a twin {task.extra.twin}, which is not there"
        is_told = task.status in TERMINAL or task.status is TaskStatus.CANCELLING
        is_told |= task.paused and state.version < PAUSED_TWINS
        if awaits_twin(task) and not (twin is not None and twin.status in HOLDING):
            yield f"task {task.id} waits for a twin that does not run"
        if is_told and twin is not None and _goes_on(twin):
            yield f"task {task.id} is {task.status}, and its twin goes on"
        if task.extra.borrowed is not None:
            yield from _borrowed(task, task.extra, task.extra.borrowed, twin)


def _may_speculate(task: Task) -> bool:
    """May its subtasks have twins now?"""
    fork = None if task.extra is None else task.extra.fork
    if task.extra is None or fork is None or fork.speculation is None or task.status in TERMINAL:
        return False
    return fork.has_begun and not fork.is_open and not task.extra.stopping


def _goes_on(task: Task) -> bool:
    """Neither over nor told to end."""
    return task.status not in TERMINAL and task.status is not TaskStatus.CANCELLING


def _borrowed(task: Task, extra: Extra, borrowed: Product, twin: Task | None) -> Iterator[str]:
    """A task with what another one came to: its twin overtook it, or it is kept and never ran."""
    is_kept = twin is None and extra.keeps != "" and not task.attempts
    is_stopped = twin is not None and task.status is TaskStatus.CANCELLING
    if task.status is not TaskStatus.SUCCEEDED and not is_stopped:
        yield f"task {task.id} is {task.status} with what another one came to"
    if twin is None and not is_kept:
        yield f"task {task.id} has what {borrowed.task_id} came to, and keeps nothing"
    if twin is not None and twin.status is not TaskStatus.SUCCEEDED:
        yield f"task {task.id} has what its twin came to, which did not succeed"
    if twin is not None and twin.product != borrowed:
        yield f"task {task.id} has what {borrowed.task_id} came to, and not its twin"


def _fork(parent: Task, extra: Extra, parts: list[Task], twins: list[Task]) -> Iterator[str]:
    """A task that runs as its parts do."""
    living = len([twin for twin in twins if twin.status not in TERMINAL])
    is_over = not living and all(task.status in TERMINAL for task in parts)
    fork, held = extra.fork, [task for task in parts if is_held(task)]
    is_complete = fork is None or (fork.has_begun and not fork.is_open) or extra.stopping != ""
    if parent.status in TERMINAL and not is_over:
        yield f"task {parent.id} is {parent.status}, and has subtasks that are not over"
    if parent.status not in TERMINAL and is_over and is_complete:
        yield f"task {parent.id} is {parent.status}, and all of its subtasks are over"
    if extra.stopping and not parent.ready_at:
        for task in parts:
            is_told = task.extra is not None and task.extra.stopping != ""
            if _goes_on(task) and not is_told:
                yield f"task {task.id} is {task.status}, and {parent.id} was told to end"
    if fork is None:
        return
    under_way = len([task for task in parts if task.status not in TERMINAL]) - len(held)
    if under_way and not fork.has_begun:
        yield f"task {parent.id} has not begun, and {under_way} of its subtasks have"
    if under_way + living > forks.window(fork):
        yield f"task {parent.id} has {under_way} subtasks under way and {living} twins"
    is_free = fork.has_begun and not (parent.paused or extra.stopping)
    if held and is_free and under_way < forks.window(fork):
        yield f"task {parent.id} holds subtasks though only {under_way} are under way"


def _sums(name: str, table: Table[Any]) -> Iterator[str]:
    """The digest's part of a table, added up anew."""
    if table.sum.now(table.get) != table.sum.recount(table.items()):
        yield f"the digest of the {name} differs from the rows"


def _orders(state: State, tasks: list[Task]) -> Iterator[str]:
    """Every derived order against the one that the rows (in order of creation) give."""
    ready = _ready(state, tasks)
    if list(state.ready) != ready or len(state.ready) != len(ready):
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
    needed = state.relations.dependents
    ended = sorted(
        (task.modify_index, task.id) for task in tasks if _is_root(task) and task.id not in needed
    )
    if list(state.finished) != [task_id for _, task_id in ended]:
        yield "the order of finished tasks differs from the rows"
    expiring = [(record.expires_at, key) for key, record in state.keys.items()]
    oldest = state.oldest_key()
    if (oldest and (oldest[1].expires_at, oldest[0])) != min(expiring, default=None):
        yield "the idempotency key that expires first differs from the rows"
