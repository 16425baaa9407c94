"""The end of a task that does not run, and what the end of any task sets free."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import msgspec

from raftsched.core.changes import Changes
from raftsched.core.dependencies import fate_of, with_end
from raftsched.core.handlers import slots
from raftsched.core.handlers.broadcast import split
from raftsched.core.handlers.forks import ROWS_MAX, begin, release
from raftsched.core.lifecycle import HOLDING, move
from raftsched.core.model import TERMINAL, Task, TaskStatus
from raftsched.core.policy import Extra
from raftsched.core.relations import awaited
from raftsched.core.timers import starts_at
from raftsched.core.trees import (
    UNMET,
    awaits_twin,
    is_held,
    is_skipped,
    is_split,
    is_to_be_split,
    parent_of,
)
from raftsched.core.versions import WORKFLOWS
from raftsched.core.workflow import ANY_NUMBER, Fork

#: Why a task of that end is ``expired`` and not ``cancelled``.
DEADLINE = "deadline"
QUEUE_TIMEOUT = "queue-timeout"
#: Begins the reason of a task whose subtasks were stopped because one of them failed too much.
FAILURES = "failures"
#: Reason of a subtask whose twin succeeded first, and of a twin that is of no use any more.
OVERTAKEN = "twin-succeeded"
NOT_NEEDED = "not-needed"
#: Held subtasks that one command ends.
STOPPED_MAX = 2_000


def end(changes: Changes, task: Task, to: TaskStatus, reason: str) -> None:
    """End a task that no node holds."""
    assert task.status not in HOLDING
    changes.put(move(task, to, changes.index, reason, finished_at=changes.state.now, ready_at=0))
    changes.event("task_finished", task.id, detail=to.value)
    set_free(changes, task, to)


def stop(changes: Changes, task: Task, to: TaskStatus, reason: str) -> None:
    """End a task that does not run; of one that a node holds, ask the node to end it.

    ``to`` is what it becomes now; the node's answer makes it ``stopped_as(reason)``.  One that was
    split ends with the last of its subtasks.
    """
    if task.status in HOLDING:
        if task.status is not TaskStatus.CANCELLING:
            changes.put(move(task, TaskStatus.CANCELLING, changes.index, reason))
            changes.event("task_cancelling", task.id, task.node)
            stop_twin(changes, task)
    elif is_split(task):
        _stop_subtasks(changes, task, to, reason)
    else:
        end(changes, task, to, reason)


def fail_split(changes: Changes, task: Task, reason: str) -> None:
    """Stop a fork, or one that is still to be made: it fails with the last of its subtasks."""
    assert task.extra is not None and task.extra.fork is not None
    fork = msgspec.structs.replace(task.extra.fork, has_failed=True)
    extra = msgspec.structs.replace(task.extra, fork=fork)
    task = msgspec.structs.replace(task, extra=extra, modify_index=changes.index)
    changes.put(task)
    stop(changes, task, TaskStatus.FAILED, reason)


def _stop_subtasks(changes: Changes, task: Task, to: TaskStatus, reason: str) -> None:
    assert task.extra is not None
    if task.extra.stopping:
        return
    extra = msgspec.structs.replace(task.extra, stopping=reason)
    task = msgspec.structs.replace(
        task, extra=extra, reason=reason, ready_at=0, modify_index=changes.index
    )
    changes.put(task)
    changes.event("task_changed", task.id, detail="stopping")
    go_on_stopping(changes, task)


def go_on_stopping(changes: Changes, task: Task) -> None:
    """End the subtasks of a task that is being stopped, as many as one command may."""
    assert task.extra is not None
    # The last of them would end the task, and there are those that are held.
    with told_after(changes):
        more = _stop_some(changes, task, stopped_for(task.extra.stopping), task.extra.stopping)
        # With more of them time goes on with it, at once.
        ready_at = changes.state.now if more else 0
        if task.ready_at != ready_at:
            task = msgspec.structs.replace(task, ready_at=ready_at, modify_index=changes.index)
            changes.put(task)
    now = changes.task(task.id)
    assert now is not None and now.extra is not None
    if now.status not in TERMINAL and changes.tally(task.id).ended == now.extra.subtasks:
        join(changes, now)  # There was none to end.


def _stop_some(changes: Changes, task: Task, to: TaskStatus, reason: str) -> bool:
    """Are there more of them?"""
    is_bounded = changes.state.version >= WORKFLOWS
    for subtask in changes.subtasks_under_way(task.id):
        extra = subtask.extra
        if subtask.status is TaskStatus.CANCELLING or (extra is not None and extra.stopping):
            continue
        if is_bounded and len(changes.tasks) > ROWS_MAX:
            return True
        stop(changes, subtask, to, reason)
    tally, ended = changes.tally(task.id), 0
    while ended < STOPPED_MAX and (held_id := tally.next_held()) is not None:
        held = changes.task(held_id)
        assert held is not None
        if is_held(held):
            end(changes, held, to, reason)
            ended += 1
    return ended == STOPPED_MAX


@contextmanager
def told_after(changes: Changes) -> Iterator[None]:
    """Ends are told when all rows are put, or by whoever tells already."""
    was_telling, changes.is_telling = changes.is_telling, True
    yield
    changes.is_telling = was_telling
    if not was_telling:
        tell(changes)


def stopped_as(task: Task) -> TaskStatus:
    """What a ``cancelling`` task becomes when nothing of it runs any more."""
    if task.extra is not None and task.extra.borrowed is not None:
        return TaskStatus.SUCCEEDED
    return stopped_for(task.reason)


def stopped_for(reason: str) -> TaskStatus:
    """What a task becomes that was told to end."""
    return TaskStatus.EXPIRED if reason == DEADLINE else TaskStatus.CANCELLED


def set_free(changes: Changes, task: Task, to: TaskStatus) -> None:
    """A task ended: those that wait for it go on, and with the last part the whole ends.

    ``task`` is the row before.  One end may be the end of others, and theirs of others: they are
    told one after the other, when the rows of the ends are put.
    """
    if changes.state.version < WORKFLOWS:
        _tell(changes, task, to)  # As programs before did it: each end to its own ends first.
        return
    changes.ends.append((task, to))
    if not changes.is_telling:
        tell(changes)


def tell(changes: Changes) -> None:
    """Tell whom it concerns of all ends that nobody was told of."""
    changes.is_telling = True
    while changes.ends:
        _tell(changes, *changes.ends.popleft())
    changes.is_telling = False


def _tell(changes: Changes, task: Task, to: TaskStatus) -> None:
    if task.extra is not None and task.extra.parent:
        stop_twin(changes, task)
        _subtask_ended(changes, task, to, task.extra.parent)
    if task.extra is not None and task.extra.twin_of:
        _twin_ended(changes, task, to, task.extra.twin_of)
    if task.extra is not None and task.extra.schedule:
        slots.ended(changes, task, to)
    waiters = changes.state.relations.waiters.get(task.id, ())
    fresh = changes.awaiting.get(task.id, ())
    for waiting_id in dict.fromkeys([*waiters, *fresh]) if waiters or fresh else ():
        waiting = changes.task(waiting_id)
        if waiting is None or task.id not in awaited(waiting):
            continue
        if waiting.extra is not None and waiting.extra.awaits:
            _dependency_ended(changes, waiting, task.id, to)
        else:
            wake(changes, waiting)


def _dependency_ended(changes: Changes, waiting: Task, ended_id: str, to: TaskStatus) -> None:
    """One of the tasks that it depends on ended: it may run, waits on, or never runs."""
    extra = with_end(waiting.extra or Extra(), ended_id, to)
    waiting = msgspec.structs.replace(waiting, extra=extra, modify_index=changes.index)
    fate = fate_of(extra)
    if fate is None:
        changes.put(waiting)
        changes.event("task_changed", waiting.id, detail="dependency")
    elif fate:
        # What it waited for beyond that does not matter any more.
        extra = msgspec.structs.replace(extra, awaits=())
        wake(changes, msgspec.structs.replace(waiting, extra=extra))
    else:
        changes.put(waiting)
        stop(changes, waiting, TaskStatus.CANCELLED, f"{UNMET}: {ended_id} {to}")


def _subtask_ended(changes: Changes, task: Task, to: TaskStatus, parent_id: str) -> None:
    """Count it; another one takes its place, and the last one ends the whole."""
    tally, parent, ended = changes.tally(parent_id), changes.task(parent_id), changes.task(task.id)
    assert parent is not None and parent.extra is not None and ended is not None
    was_held = task.status is TaskStatus.WAITING and is_held(task)
    tally.ends(to, was_held=was_held, is_skipped=is_skipped(ended))
    if parent.status in TERMINAL:
        return
    fork = parent.extra.fork
    if _is_complete(changes, parent):
        join(changes, parent)
    elif not parent.extra.stopping and fork is not None:
        bad = tally.ended - tally.succeeded - tally.skipped
        if not fork.is_patient and 0 <= fork.failures_max < bad:
            fail_split(changes, parent, f"{FAILURES}: {ended.id} {to}")
        elif tally.has_held:
            release(changes, parent)


def _is_complete(changes: Changes, parent: Task) -> bool:
    """Have all subtasks ended, and come no more?"""
    assert parent.extra is not None
    is_last = parent.extra.stopping != "" or not _gets_more(parent.extra.fork)
    return is_last and changes.tally(parent.id).ended == parent.extra.subtasks


def twin_of(changes: Changes, task: Task) -> Task | None:
    """The twin of a task, if it has one."""
    return changes.task(task.extra.twin) if task.extra is not None and task.extra.twin else None


def stop_twin(changes: Changes, task: Task, *, only_idle: bool = False) -> None:
    """End the twin of a task, if it has one that goes on; ``only_idle``: if no node has it yet."""
    twin = twin_of(changes, task)
    if twin is None or twin.status in TERMINAL or (only_idle and twin.status in HOLDING):
        return
    stop(changes, twin, TaskStatus.CANCELLED, NOT_NEEDED)


def has_twin_running(changes: Changes, task: Task) -> bool:
    """Does a node have its twin, which was not told to end?"""
    twin = twin_of(changes, task)
    return twin is not None and twin.status in HOLDING - {TaskStatus.CANCELLING}


def _twin_ended(changes: Changes, twin: Task, to: TaskStatus, part_id: str) -> None:
    """Its part borrows a success, unless that ended itself or was told to.

    A part that a node holds ends when nothing of it runs any more.
    """
    part, ended = changes.task(part_id), changes.task(twin.id)
    assert part is not None and part.extra is not None and ended is not None
    parent_id = parent_of(part)
    changes.tally(parent_id).twins -= 1
    is_told = part.status in TERMINAL or part.status is TaskStatus.CANCELLING
    if to is TaskStatus.SUCCEEDED and not is_told:
        extra = msgspec.structs.replace(part.extra, borrowed=ended.product)
        part = msgspec.structs.replace(part, extra=extra, modify_index=changes.index)
        stop(changes, part, TaskStatus.SUCCEEDED, OVERTAKEN)
    elif awaits_twin(part):
        end(changes, part, TaskStatus.FAILED, part.reason)
    parent = changes.task(parent_id)
    assert parent is not None
    if parent.status not in TERMINAL and _is_complete(changes, parent):
        join(changes, parent)  # It waited for this one alone.


def _gets_more(fork: Fork | None) -> bool:
    """Are there subtasks to come?"""
    return fork is not None and (fork.is_open or not fork.has_begun)


def join(changes: Changes, parent: Task) -> None:
    """All subtasks have ended, and with them the whole, unless a twin is still to end."""
    assert parent.extra is not None
    if changes.tally(parent.id).twins:
        return
    tally, count, fork = changes.tally(parent.id), parent.extra.subtasks, parent.extra.fork
    bad, stopping = count - tally.succeeded - tally.skipped, parent.extra.stopping
    why = f"{bad} of {count} subtasks did not succeed" if bad else ""
    allowed = 0 if fork is None else fork.failures_max
    if fork is not None and fork.has_failed:
        end(changes, parent, TaskStatus.FAILED, stopping)
    elif stopping and (bad or _gets_more(fork)):
        end(changes, parent, stopped_for(stopping), stopping)
    elif allowed == ANY_NUMBER or bad <= allowed:
        end(changes, parent, TaskStatus.SUCCEEDED, why)
    else:
        end(changes, parent, TaskStatus.FAILED, why)


def wake(changes: Changes, task: Task) -> None:
    """A waiting task is ready, or waits for its time from now on."""
    now, index = changes.state.now, changes.index
    at = starts_at(task.extra, task.created_at) if task.extra is not None else 0
    if at > now:
        changes.put(_waiting_until(task, at, index))
    else:
        make_ready(changes, task, "")


def make_ready(changes: Changes, task: Task, reason: str) -> None:
    """A task that waits or is to be tried again may run now."""
    if task.extra is not None and task.extra.broadcast:
        why_not = split(changes, task)
        if why_not:
            end(changes, task, TaskStatus.FAILED, why_not)
    elif task.extra is not None and task.extra.fork is not None:
        _begin(changes, task)
    else:
        ready = move(task, TaskStatus.QUEUED, changes.index, reason, ready_at=changes.state.now)
        changes.put(ready)
        changes.event("task_queued", task.id, detail=reason)


def _begin(changes: Changes, task: Task) -> None:
    """Make its parts; those that are more than a row are settled, and the first ends told."""
    with told_after(changes):
        for part in begin(changes, task):
            if is_to_be_split(part) and not awaited(part):
                make_ready(changes, part, "")
    begun = changes.task(task.id)
    assert begun is not None and begun.extra is not None
    if begun.status in TERMINAL or begun.ready_at or _gets_more(begun.extra.fork):
        return
    if changes.tally(task.id).ended == begun.extra.subtasks:
        join(changes, begun)


def _waiting_until(task: Task, at: int, index: int) -> Task:
    return Task(
        task.id, task.spec, task.terms, task.created_at, task.create_index, task.order,
        task.status, index, "not-before", task.losses, task.paused, 0, task.attempts, at,
        task.extra,
    )  # fmt: skip
