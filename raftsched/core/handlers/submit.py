"""Submitting tasks: the key, the checks, the rows, and what a unique key asks for."""

from __future__ import annotations

from sys import intern
from typing import NamedTuple

import msgspec

from raftsched.core.changes import Changes
from raftsched.core.commands import SubmitTasks
from raftsched.core.handlers import answers
from raftsched.core.handlers.ends import make_ready, stop
from raftsched.core.lifecycle import HOLDING
from raftsched.core.model import TASK_ID_MAX, TERMINAL, KeyRecord, NewTask, Task, TaskStatus, Terms
from raftsched.core.outcomes import Accepted, Event, Outcome, Reason, Rejected, Submitted
from raftsched.core.policy import ALL_NODES, BROADCAST_MAX, Extra, Policy
from raftsched.core.state import State, waits_for_another
from raftsched.core.strategies import STRATEGIES, STRATEGIES_FIRST
from raftsched.core.timers import starts_at
from raftsched.core.trees import is_split, is_to_be_split
from raftsched.core.versions import POLICIES, TREES, missing

_QUEUED = TaskStatus.QUEUED
_WAITING = TaskStatus.WAITING
_Fields = tuple[str, str, int, int, int, str, int, Policy | None]


#: The last part of the room for open tasks, in hundredths, is for this priority and higher.
RESERVED_PERCENT = 10
RESERVED_PRIORITY = 50
#: What a row takes in memory beside its specification, about.
ROW_BYTES = 600


def submit(changes: Changes, command: SubmitTasks) -> Outcome:
    """Value: `Submitted`."""
    state = changes.state
    key = f"{command.namespace}\0{command.key}"
    if command.key:
        record = state.keys.get(key)
        if record is not None and record.expires_at > state.now:
            if record.request_hash != command.request_hash:
                return Rejected(Reason.KEY_REUSED, "the key was used with another request")
            return Accepted(answers.unpack(record.answer))
        if record is None and len(state.keys) >= state.settings.keys_max:
            return Rejected(Reason.KEYS_FULL, f"{state.settings.keys_max} keys are held")
    why = missing(command, state.version) if state.version < TREES else ""
    if why:
        return Rejected(Reason.NEEDS_VERSION, why)
    refusal = _refusal(state, command.tasks)
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
    if command.key:
        expires_at = state.now + state.settings.key_retention_ms
        changes.keys[key] = KeyRecord(
            command.request_hash, answers.pack(submitted), changes.index, expires_at
        )
    return Accepted(submitted)


def _refusal(state: State, tasks: tuple[NewTask, ...]) -> Rejected | None:
    """Why none of these can be taken."""
    if not tasks:
        return Rejected(Reason.INVALID, "no tasks")
    limit = state.settings.tasks_open_max
    if _is_over(state, tasks, limit):
        return Rejected(Reason.OVERLOADED, f"{limit} open tasks are allowed")
    if state.version < POLICIES:
        return None
    limit -= limit * RESERVED_PERCENT // 100
    if min([new.priority for new in tasks]) < RESERVED_PRIORITY and _is_over(state, tasks, limit):
        return Rejected(
            Reason.OVERLOADED,
            f"{limit} open tasks are allowed for a priority below {RESERVED_PRIORITY}",
        )
    size = state.spec_bytes + sum([len(new.spec) for new in tasks])
    size += ROW_BYTES * (state.open_count + len(tasks))
    if size > state.settings.open_bytes_max:
        return Rejected(
            Reason.OVERLOADED, f"open tasks may have {state.settings.open_bytes_max} bytes"
        )
    return None


def _is_over(state: State, tasks: tuple[NewTask, ...], limit: int) -> bool:
    """Would there be too many open tasks?  Those that are there already are not counted again."""
    room = limit - state.open_count
    if len(tasks) <= room:
        return False
    fresh = {new.id for new in tasks if new.id not in state.tasks}
    return len(fresh) > max(0, room)


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
                    if isinstance(special, _Conflict):
                        self._conflict(position, special)
                        continue
                    task = special
                staged[task_id] = (number, None, task)
                events.append(Event("task_queued", task_id))
                if task.extra is not None and not task.extra.after and is_to_be_split(task):
                    make_ready(changes, task, "")

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

    def _special(self, task: Task, extra: Extra) -> Task | _Conflict:
        """The new row of a task that asks for what few ask for."""
        after = ""
        if extra.unique_key:
            key = f"{self._namespace}\0{extra.unique_key}"
            holder = self._holder(key)
            if holder is not None:
                if extra.on_conflict != "replace":
                    return _Conflict(holder.id, extra.on_conflict != "return")
                after = self._replace(holder)
            self._taken[key] = task.id
        return new_row(task, extra_with(extra, after), self._changes.state.now)

    def _holder(self, key: str) -> Task | None:
        """The task that has the key, if it has not ended."""
        task_id = self._taken.get(key) or self._changes.state.unique.get(key)
        task = self._changes.task(task_id) if task_id else None
        return None if task is None or task.status in TERMINAL else task

    def _replace(self, holder: Task) -> str:
        """End the holder of a key; the id of the task that has to end first, or empty."""
        after = ""
        if waits_for_another(holder) and holder.extra is not None:
            after = holder.extra.after
        stop(self._changes, holder, TaskStatus.CANCELLED, "replaced")
        stopped = self._changes.task(holder.id)
        assert stopped is not None
        return after if stopped.status in TERMINAL else holder.id


def _gives_its_place(holder: Task, queue: str) -> bool:
    """Is a task that is replaced in this queue, and over at once?"""
    return holder.terms.queue == queue and holder.status not in HOLDING and not is_split(holder)


def extra_with(extra: Extra, after: str) -> Extra:
    """The same with another ``after``."""
    return extra if extra.after == after else msgspec.structs.replace(extra, after=after)


def is_askable(extra: Extra) -> bool:
    """Is there nothing in it that only ``apply`` says?"""
    return (
        not (extra.parent or extra.subtasks or extra.stopping or extra.schedule or extra.slot)
        and ALL_NODES <= extra.broadcast <= BROADCAST_MAX
    )


def new_row(task: Task, extra: Extra, now: int) -> Task:
    """A queued task with what it asks for beside its terms: it may have to wait."""
    status, reason, ready_at = _QUEUED, "", 0
    if extra.after:
        status, reason = _WAITING, "replaces"
    elif (at := starts_at(extra, task.created_at)) > now:
        status, reason, ready_at = _WAITING, "not-before", at
    elif extra.broadcast:
        status = _WAITING  # `make_ready` is the next that is done with it.
    return Task(
        task.id, task.spec, task.terms, task.created_at, task.create_index, task.order,
        status, task.modify_index, reason, task.losses, task.paused, 0, task.attempts, ready_at,
        extra,
    )  # fmt: skip


def _is_same(known: Task, new: NewTask) -> bool:
    """Does the task that is there ask for the same beside its terms?"""
    if known.extra is None or new.extra is None:
        return known.extra is new.extra
    extra = known.extra
    if is_split(known):
        extra = msgspec.structs.replace(extra, subtasks=0, stopping="")
    return extra_with(extra, new.extra.after) == new.extra


def checked_terms(state: State, fields: _Fields) -> Terms | Reason:
    """The terms with these fields, kept once for all tasks that ask the same; or why not."""
    terms = Terms(*fields)
    known = STRATEGIES if state.version >= POLICIES else STRATEGIES_FIRST
    if terms.strategy not in known:
        return Reason.UNKNOWN_STRATEGY
    if not (
        0 <= terms.priority <= 100
        and terms.cpu_milli >= 0
        and terms.memory_bytes >= 0
        and 1 <= terms.attempts_max <= 100
        and (terms.policy is None or _is_sane(terms.policy))
    ):
        return Reason.INVALID
    return state.share_terms(terms)


def _is_sane(policy: Policy) -> bool:
    """No number of it would make ``apply`` do nonsense."""
    numbers = (
        policy.backoff_base_ms,
        policy.backoff_max_ms,
        policy.queue_timeout_ms,
        policy.lease_ms,
        policy.losses_max,
        *[count for _, count in policy.resources],
    )
    # In order and each once: what is counted twice is let go of twice.
    is_sorted = all(
        list(names) == sorted(set(names))
        for names in (policy.limits, [name for name, _ in policy.resources])
    )
    return min(numbers) >= 0 and 0 <= policy.jitter_permille <= 1_000 and is_sorted
