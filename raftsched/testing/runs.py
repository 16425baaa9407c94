"""What attempts did, in the world's time, against what was promised about them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import pairwise

from raftsched.core.model import AttemptStatus, Task, TaskStatus
from raftsched.core.policy import Delivery, Extra, OnLeaseLoss
from raftsched.core.retry import wait_ms
from raftsched.core.timers import deadline_at, starts_at
from raftsched.core.trees import parent_of
from raftsched.core.workflow import On
from raftsched.testing.runner import Span

#: Instants of the world are added up: this much is no difference.
EPSILON = 1e-9
#: A deadline is an entry, which takes its time when nobody leads.
LATE_MS = 30_000


def check(spans: Iterable[Span], find: Callable[[str], Task | None]) -> Iterator[str]:
    """Every broken promise as a sentence.  ``find``: the row of a task in the end."""
    by_task: dict[str, list[Span]] = defaultdict(list)
    for span in spans:
        by_task[span.task_id].append(span)
    shared: dict[str, list[Span]] = defaultdict(list)
    for task_id, those in by_task.items():
        those.sort(key=_began)
        task = find(task_id)
        yield from _of_one_task(task_id, those, task)
        if task is not None and not _may_overlap(task):
            for name in _alone(task):
                shared[name] += those
    yield from _of_shared(shared)


def of_rows(tasks: Iterable[Task]) -> Iterator[str]:
    """What the rows of attempts say of times, which are the cluster's: nothing began too early."""
    for task in tasks:
        begins = starts_at(task.extra, task.created_at) if task.extra is not None else 0
        over = deadline_at(task)
        for attempt in task.attempts:
            if attempt.assigned_at < begins:
                yield f"{task.id} was assigned {begins - attempt.assigned_at} ms before its time"
            if over and attempt.assigned_at > over + LATE_MS:
                yield f"{task.id} was assigned {attempt.assigned_at - over} ms after its deadline"
        if task.terms.policy is None:
            continue  # Perhaps of the time before backoffs were in force.
        failures = 0
        for before, after in pairwise(task.attempts):
            if before.status is AttemptStatus.FAILED:
                failures += 1
                early = wait_ms(task.policy, task.id, failures) - (
                    after.assigned_at - before.finished_at
                )
                if early > 0:
                    yield f"{task.id}: attempt {after.number} came {early} ms before its backoff"


def of_trees(tasks: Iterable[Task]) -> Iterator[str]:
    """Subtasks ran where they belong, one a node, and none after the whole had ended."""
    by_id = {task.id: task for task in tasks}
    nodes: dict[str, dict[str, str]] = defaultdict(dict)
    for task in by_id.values():
        parent_id = parent_of(task)
        if not parent_id:
            continue
        parent = by_id.get(parent_id)
        if parent is None or parent.extra is None or parent.extra.broadcast:
            ran = {attempt.node for attempt in task.attempts}
            if len(ran) > 1:
                yield f"{task.id} is for one node and ran on {sorted(ran)}"
            for node_id in ran:
                other = nodes[parent_id].setdefault(node_id, task.id)
                if other != task.id:
                    yield f"{other} and {task.id} both ran on {node_id}"
        over = by_id[parent_id].finished_at if parent_id in by_id else 0
        late = [attempt for attempt in task.attempts if over and attempt.finished_at > over]
        if late or (over and task.finished_at > over):
            yield f"{task.id} went on after the end of {parent_id}"


def of_twins(tasks: Iterable[Task]) -> Iterator[str]:
    """Who ran a second time did so elsewhere, once; and one of both is what it came to."""
    by_id = {task.id: task for task in tasks}
    for task in by_id.values():
        extra = task.extra or Extra()
        if task.status is TaskStatus.SUCCEEDED and extra.fork is None and not extra.broadcast:
            yield from _came_to(task, extra, by_id)
        part = by_id.get(extra.twin_of)
        if part is None or not task.attempts:
            continue
        if len(task.attempts) > 1:
            yield f"{task.id} is a twin and was assigned {len(task.attempts)} times"
        twin, whole = task.attempts[0], by_id.get(parent_of(part))
        for attempt in part.attempts:
            is_beside = attempt.assigned_at < twin.assigned_at < attempt.finished_at
            if is_beside and attempt.node == twin.node:
                yield f"{task.id} was given to {twin.node}, where {part.id} was"
        over = 0 if whole is None else whole.finished_at
        if over and max(twin.finished_at, task.finished_at) > over:
            yield f"{task.id} went on after the end of {parent_of(part)}"


def _came_to(task: Task, extra: Extra, by_id: Mapping[str, Task]) -> Iterator[str]:
    """An attempt of a task that succeeded did, or its twin's, or one of the task that it keeps."""
    product = task.product
    attempt = product.made_by(by_id.get(product.task_id)) if product is not None else None
    if attempt is None and (product is None or not extra.keeps):
        yield f"{task.id} succeeded, and nothing of it ran"
    elif attempt is not None and attempt.status is not AttemptStatus.SUCCEEDED:
        yield f"{task.id} succeeded by the attempt with token {attempt.token}: {attempt.status}"


def of_dependencies(tasks: Iterable[Task]) -> Iterator[str]:
    """Nothing was assigned before what it waits for had come to pass."""
    by_id = {task.id: task for task in tasks}
    for task in by_id.values():
        extra = task.extra
        if extra is None or not extra.depends_on or not task.attempts:
            continue
        begun_at, met = task.attempts[0].assigned_at, 0
        for other in extra.depends_on:
            found = by_id.get(other.task_id)
            if found is None:
                continue
            is_over = 0 < found.finished_at <= begun_at
            succeeded = found.status is TaskStatus.SUCCEEDED
            is_wanted = other.on is On.ALWAYS or succeeded is (other.on is On.SUCCESS)
            met += is_over and is_wanted
        needed = extra.needs or len(extra.depends_on)
        if met < needed:
            yield f"{task.id} was assigned when {met} of {needed} that it waits for were there"


def of_forks(tasks: Iterable[Task]) -> Iterator[str]:
    """No more subtasks were under way than a task lets run at once, and no more with twins."""
    by_id = {task.id: task for task in tasks}
    changes: dict[str, list[tuple[int, int]]] = defaultdict(list)
    for task in by_id.values():
        part = by_id.get(task.extra.twin_of) if task.extra is not None else None
        parent = by_id.get(parent_of(part or task))
        if parent is None or parent.extra is None or parent.extra.fork is None:
            continue
        for attempt in task.attempts if parent.extra.fork.parallel_max else ():
            ended_at = attempt.finished_at or attempt.assigned_at + 1
            changes[parent.id] += [(attempt.assigned_at, 1), (ended_at, -1)]
    for parent_id, those in changes.items():
        extra = by_id[parent_id].extra
        assert extra is not None and extra.fork is not None
        running = 0
        for _, change in sorted(those):  # Ends before begins of the same instant.
            running += change
            if running > extra.fork.parallel_max:
                yield f"{running} subtasks of {parent_id} ran at once"
                break


def _of_shared(shared: dict[str, list[Span]]) -> Iterator[str]:
    for name, those in shared.items():
        those.sort(key=_began)
        for before, after in pairwise(those):
            if before.task_id != after.task_id and _overlap(before, after):
                yield (
                    f"{before.task_id} on {before.node} (to {before.ended}) and {after.task_id} on "
                    f"{after.node} (from {after.began:.4f}) both have {name}"
                )


def _of_one_task(task_id: str, those: list[Span], task: Task | None) -> Iterator[str]:
    """No two attempts ran at once, and none after it succeeded."""
    for before, after in pairwise(those):
        may_overlap = task is not None and _may_overlap(task)
        if _overlap(before, after) and not may_overlap:
            yield (
                f"attempts {before.number} on {before.node} (to {before.ended}) and "
                f"{after.number} on {after.node} (from {after.began:.4f}) of {task_id} overlap"
            )
        if before.token >= after.token:
            yield f"{task_id}: token {after.token} began after {before.token}"
    if task is not None and task.policy.delivery is Delivery.AT_MOST_ONCE and len(those) > 1:
        yield f"{task_id} was started {len(those)} times and may be once"


def _began(span: Span) -> float:
    return span.began


def _overlap(before: Span, after: Span) -> bool:
    return before.ended is None or before.ended > after.began + EPSILON


def _may_overlap(task: Task) -> bool:
    """Did the task ask for it?"""
    return task.policy.idempotent or task.policy.on_lease_loss is OnLeaseLoss.CONTINUE


def _alone(task: Task) -> Iterator[str]:
    """What only one task at a time may have, of what this one has."""
    for key in task.policy.limits:
        yield f"mutex {key}"
    if task.extra is not None and task.extra.unique_key:
        yield f"unique key {task.namespace}/{task.extra.unique_key}"
