"""Submitting tasks: the key, the checks, the rows, and what a unique key asks for."""

from __future__ import annotations

from sys import intern
from typing import NamedTuple

import msgspec

from raftsched.core.changes import Changes
from raftsched.core.commands import SubmitTasks
from raftsched.core.dependencies import DEPENDENTS_MAX, begun, fate_of
from raftsched.core.handlers import answers
from raftsched.core.handlers.ends import end, make_ready, stop
from raftsched.core.handlers.forks import hash_of, why_not
from raftsched.core.handlers.keys import earlier, remember
from raftsched.core.handlers.rows import checked_terms, extra_with, is_askable, new_row, overload
from raftsched.core.lifecycle import HOLDING
from raftsched.core.model import TASK_ID_MAX, TERMINAL, NewTask, Task, TaskStatus
from raftsched.core.outcomes import Accepted, Event, Outcome, Reason, Rejected, Submitted
from raftsched.core.policy import Extra
from raftsched.core.relations import awaited
from raftsched.core.trees import is_split, is_to_be_split
from raftsched.core.versions import WORKFLOWS, missing
from raftsched.core.workflow import Fork

_QUEUED = TaskStatus.QUEUED
_WAITING = TaskStatus.WAITING


def submit(changes: Changes, command: SubmitTasks) -> Outcome:
    """Value: `Submitted`."""
    state = changes.state
    known = earlier(changes, command.namespace, command.key, command.request_hash)
    if known is not None:
        return known
    why = missing(command, state.version) if state.version < WORKFLOWS else ""
    if why:
        return Rejected(Reason.NEEDS_VERSION, why)
    if not command.tasks:
        return Rejected(Reason.INVALID, "no tasks")
    refusal = overload(state, command.tasks)
    if refusal is not None:
        return refusal
    ids = [new.id for new in command.tasks]
    creation = _Creation(changes, intern(command.namespace), ids)
    creation.create(command.tasks, ids_are_good=_is_good("".join(ids)))
    refused = creation.refused
    if refused and (command.atomic or len(command.tasks) == 1):
        return refused[0][1]
    if refused:
        ids = [task_id[:TASK_ID_MAX] for task_id in ids]
    submitted = Submitted(tuple(ids), existing=tuple(creation.existing), refused=tuple(refused))
    remember(changes, command.namespace, command.key, command.request_hash, submitted)
    return Accepted(submitted)


def _is_good(task_id: str) -> bool:
    """No white space and nothing that cannot be shown."""
    return task_id.isprintable() and " " not in task_id


class _Conflict(NamedTuple):
    """A unique key is taken."""

    holder: str
    is_refused: bool


class _Creation:
    """The tasks of one submission that pass, and what became of the others."""

    def __init__(self, changes: Changes, namespace: str, ids: list[str]) -> None:
        self._changes = changes
        self._namespace = namespace
        #: What is answered, by position; where a unique key is taken, the id of its holder.
        self._ids = ids
        #: Positions of those that were there, and of those refused.
        self.existing: list[int] = []
        self.refused: list[tuple[int, Rejected]] = []
        #: Unique keys that tasks before in this submission took.
        self._taken: dict[str, str] = {}
        #: Tasks that this submission added to a queue with a bound.
        self._added: dict[str, int] = {}

    def create(self, tasks: tuple[NewTask, ...], *, ids_are_good: bool) -> None:
        """Create those that pass, in order."""
        changes = self._changes
        find, staged, events = changes.find, changes.tasks, changes.events
        known_terms, queues = changes.state.terms, changes.state.queues
        now, index = changes.state.now, changes.index
        namespace = self._namespace
        for position, new in enumerate(tasks):
            task_id = new.id
            number, _, known = find(task_id)
            fields = (
                namespace,
                new.queue,
                new.priority,
                new.cpu_milli,
                new.memory_bytes,
                new.strategy,
                new.attempts_max,
                new.policy,
            )
            terms = known_terms.get(fields) or checked_terms(changes.state, fields)
            if known is not None:
                if known.spec == new.spec and known.terms == terms and _is_same(known, new):
                    self.existing.append(position)
                else:
                    self._refuse(position, Reason.DUPLICATE_ID, task_id)
            elif isinstance(terms, Reason):
                self._refuse(position, terms, task_id)
            elif not (0 < len(task_id) <= TASK_ID_MAX and (ids_are_good or _is_good(task_id))):
                self._refuse(position, Reason.INVALID, task_id)
            elif queues and self._is_full(new):
                self._refuse(position, Reason.QUEUE_FULL, task_id)
            else:
                order = changes.next_order
                changes.next_order = order + 1
                task = Task(task_id, new.spec, terms, now, index, order, _QUEUED, index)
                if new.extra is not None:
                    if not is_askable(new.extra):
                        self._refuse(position, Reason.INVALID, task_id)
                        continue
                    special = self._special(task, new.extra)
                    if isinstance(special, Rejected):
                        self.refused.append((position, special))
                        continue
                    if isinstance(special, _Conflict):
                        self._conflict(position, special)
                        continue
                    task = special
                staged[task_id] = (number, None, task)
                events.append(Event("task_queued", task_id))
                if task.extra is not None:
                    self._settle(task, task.extra)

    def _settle(self, task: Task, extra: Extra) -> None:
        """What is to be done with a new task at once."""
        if fate_of(extra) is False:
            end(self._changes, task, TaskStatus.CANCELLED, "depends-on")
        elif not (extra.after or extra.awaits) and is_to_be_split(task):
            make_ready(self._changes, task, "")

    def _refuse(self, position: int, reason: Reason, task_id: str) -> None:
        self.refused.append((position, answers.refusal(reason, task_id)))

    def _conflict(self, position: int, conflict: _Conflict) -> None:
        self._ids[position] = conflict.holder
        if conflict.is_refused:
            self._refuse(position, Reason.UNIQUE_CONFLICT, conflict.holder)
        else:
            self.existing.append(position)

    def _is_full(self, new: NewTask) -> bool:
        """Has the queue its bound of open tasks?  If not, one more is counted.

        Who has a unique key that is taken adds none: it is not created, or takes a place.
        """
        queue = new.queue
        row = self._changes.state.queues.get(queue)
        if row is None or not row.depth_max:
            return False
        if new.extra is not None and new.extra.unique_key:
            holder = self._holder(f"{self._namespace}\0{new.extra.unique_key}")
            if holder is not None and (
                new.extra.on_conflict != "replace" or _gives_its_place(holder, queue)
            ):
                return False
        use, added = self._changes.state.queue_use.get(queue), self._added.get(queue, 0)
        if (0 if use is None else use.open) + added >= row.depth_max:
            return True
        self._added[queue] = added + 1
        return False

    def _special(self, task: Task, extra: Extra) -> Task | _Conflict | Rejected:
        """The new row of a task that asks for what few ask for."""
        after = ""
        if extra.fork is not None:
            why = why_not(self._changes.state, self._namespace, extra.fork)
            if why:
                return Rejected(Reason.INVALID, why)
            fork = msgspec.structs.replace(extra.fork, parts_hash=hash_of(extra.fork.parts))
            extra = msgspec.structs.replace(extra, fork=fork)
        if extra.depends_on:
            begun_extra = self._begin_waiting(extra)
            if isinstance(begun_extra, Rejected):
                return begun_extra
            extra = begun_extra
            self._changes.await_ends(task.id, extra.awaits)
        if extra.unique_key:
            key = f"{self._namespace}\0{extra.unique_key}"
            holder = self._holder(key)
            if holder is not None:
                if extra.on_conflict != "replace":
                    return _Conflict(holder.id, extra.on_conflict != "return")
                after = self._replace(holder)
            self._taken[key] = task.id
        return new_row(task, extra_with(extra, after), self._changes.state.now)

    def _begin_waiting(self, extra: Extra) -> Extra | Rejected:
        """The same with what it waits for; those that it depends on were there before it."""
        known: dict[str, Task] = {}
        for dependency in extra.depends_on:
            task = self._changes.task(dependency.task_id)
            if task is None:
                return Rejected(Reason.UNKNOWN_DEPENDENCY, dependency.task_id)
            if len(self._changes.state.relations.waiters.get(task.id, ())) >= DEPENDENTS_MAX:
                return Rejected(
                    Reason.OVERLOADED, f"{DEPENDENTS_MAX} tasks may depend on {task.id}"
                )
            known[task.id] = task
        extra = begun(extra, known)
        if fate_of(extra) is not None:
            extra = msgspec.structs.replace(extra, awaits=())
        return extra

    def _holder(self, key: str) -> Task | None:
        """The task that has the key, if it has not ended."""
        task_id = self._taken.get(key) or self._changes.state.relations.unique.get(key)
        task = self._changes.task(task_id) if task_id else None
        return None if task is None or task.status in TERMINAL else task

    def _replace(self, holder: Task) -> str:
        """End the holder of a key; the id of the task that has to end first, or empty."""
        after = ""
        if awaited(holder) and holder.extra is not None:
            after = holder.extra.after
        stop(self._changes, holder, TaskStatus.CANCELLED, "replaced")
        stopped = self._changes.task(holder.id)
        assert stopped is not None
        return after if stopped.status in TERMINAL else holder.id


def _gives_its_place(holder: Task, queue: str) -> bool:
    """Is a task that is replaced in this queue, and over at once?"""
    return holder.terms.queue == queue and holder.status not in HOLDING and not is_split(holder)


def _is_same(known: Task, new: NewTask) -> bool:
    """Does the task that is there ask for the same beside its terms?"""
    if known.extra is None or new.extra is None:
        return known.extra is new.extra
    extra = known.extra
    if is_split(known) or extra.depends_on or extra.fork is not None:
        extra = msgspec.structs.replace(
            extra, subtasks=0, stopping="", awaits=(), met=0,
            fork=_as_asked(extra.fork, new.extra.fork),
        )  # fmt: skip
    return extra_with(extra, new.extra.after) == new.extra


def _as_asked(known: Fork | None, new: Fork | None) -> Fork | None:
    """What ``known`` was before its parts were made, if those were the parts of ``new``."""
    if known is None or new is None or known.parts_hash != hash_of(new.parts):
        return known
    return msgspec.structs.replace(
        known, parts=new.parts, is_open=new.is_open, parts_hash=b"", has_begun=False,
        has_failed=False, open_until=0,
    )  # fmt: skip
