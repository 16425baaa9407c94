"""A task that runs as its subtasks do: making them, and letting them run, not too many at once."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import blake2b

import msgspec

from raftsched.core.changes import Changes
from raftsched.core.dependencies import begun, fate_of, is_met
from raftsched.core.handlers.rows import Fields, checked_terms, is_askable, new_row
from raftsched.core.lifecycle import move
from raftsched.core.model import TASK_ID_MAX, TERMINAL, NewTask, Task, TaskStatus, Terms
from raftsched.core.outcomes import Reason
from raftsched.core.policy import Extra
from raftsched.core.products import Product
from raftsched.core.state import State
from raftsched.core.trees import UNMET, is_held
from raftsched.core.workflow import ANY_NUMBER, Dependency, Fork

#: Subtasks of one task that are let run at once, whatever it asks for: what is done with all of
#: them in one command is bounded by it.
WINDOW = 4_000
#: Parts that a submission names, their bytes, and how deep they may be within one another.
PARTS_MAX = 1_000
PARTS_BYTES_MAX = 1 << 20
NESTING_MAX = 4
#: Subtasks of one task.
SUBTASKS_MAX = 1_000_000
#: Rows after which a command begins nothing more: what is left is done by the next one.
ROWS_MAX = 2_000
#: Longest id of a subtask; it names files.  One that would be longer ends with a hash.
ID_MAX = 180
#: An open one that gets no more subtasks for so long is over.
OPEN_MS = 10 * 60_000
#: Reason of one whose subtasks are under way, of a subtask that is held, of one that is not run
#: again, and of one for whose subtasks there is no room; it is looked at again after so long.
SPLIT = "subtasks"
HELD = "held"
KEPT = "kept"
NO_ROOM = "overloaded"
LOOK_AGAIN_MS = 1_000

_QUEUED = TaskStatus.QUEUED
_WAITING = TaskStatus.WAITING
_decoder = msgspec.msgpack.Decoder(list[NewTask])
_encoder = msgspec.msgpack.Encoder()


def encode(parts: list[NewTask]) -> bytes:
    """What ``Fork.parts`` has."""
    return _encoder.encode(parts)


def hash_of(parts: bytes) -> bytes:
    """What ``Fork.parts_hash`` has; empty for no parts."""
    return blake2b(parts, digest_size=16).digest() if parts else b""


def window(fork: Fork) -> int:
    """How many subtasks may be under way at once."""
    return min(fork.parallel_max or WINDOW, WINDOW)


# What is asked for ------------------------------------------------------------------------------


def why_not(state: State, namespace: str, fork: Fork, depth: int = 1) -> str:
    """Why a fork cannot be taken, in words; empty if it can."""
    if fork.parts_hash or fork.has_begun or fork.has_failed or fork.open_until:
        return "a fork says what only the cluster says"
    if fork.parallel_max < 0 or fork.failures_max < ANY_NUMBER:
        return "a number of a fork is negative"
    if fork.items_from and not fork.is_open:
        return "whose items are another task's is open"
    if fork.speculation is not None and not fork.speculation.is_sane:
        return "a number of its speculation is out of bounds"
    if not fork.parts:
        return ""
    if depth > NESTING_MAX:
        return f"parts have parts of their own, at most {NESTING_MAX} deep"
    if len(fork.parts) > PARTS_BYTES_MAX:
        return f"the parts have {len(fork.parts)} bytes, at most {PARTS_BYTES_MAX}"
    try:
        parts = _decoder.decode(fork.parts)
    except msgspec.DecodeError as error:
        return f"the parts cannot be read: {error}"
    if not 0 < len(parts) <= PARTS_MAX:
        return f"{len(parts)} parts, at most {PARTS_MAX}"
    names: set[str] = set()
    for part in parts:
        why = _why_not_part(state, namespace, fork, part, names, depth)
        if why:
            return f"part {part.id[:TASK_ID_MAX]}: {why}"
        names.add(part.id)
    return ""


def _why_not_part(
    state: State, namespace: str, fork: Fork, part: NewTask, names: set[str], depth: int
) -> str:
    """``names``: of the parts before it."""
    if not 0 < len(part.id) <= TASK_ID_MAX or part.id in names:
        return "each part has a name of its own"
    terms = terms_of(state, namespace, part)
    if isinstance(terms, Reason):
        return str(terms)
    extra = part.extra
    if extra is None:
        return ""
    if (fork.parallel_max or fork.is_open) and not only_keeps(extra):
        return "parts that are let run one after the other wait for nothing else"
    if not is_askable(extra) or extra.unique_key:
        return "it asks for what a part cannot have"
    unknown = [other.task_id for other in extra.depends_on if other.task_id not in names]
    if unknown:
        return f"it depends on {unknown[0]}, which is no part before it"
    if extra.fork is None:
        return ""
    if extra.fork.is_open and not extra.fork.items_from:
        return "nobody says what its subtasks are"
    if extra.fork.items_from and extra.fork.items_from not in names:
        return f"its items come from {extra.fork.items_from}, which is no part before it"
    return why_not(state, namespace, extra.fork, depth + 1)


def only_keeps(extra: Extra) -> bool:
    """Does it say nothing but what it is another try of?"""
    return extra.keeps != "" and extra == Extra(keeps=extra.keeps)


def terms_of(state: State, namespace: str, new: NewTask) -> Terms | Reason:
    """The terms of a new task; or why it cannot be taken."""
    fields = _fields(namespace, new)
    return state.terms.get(fields) or checked_terms(state, fields)


def _fields(namespace: str, new: NewTask) -> Fields:
    return (
        namespace, new.queue, new.priority, new.cpu_milli, new.memory_bytes, new.strategy,
        new.attempts_max, new.policy,
    )  # fmt: skip


# Making them --------------------------------------------------------------------------------------


def begin(changes: Changes, task: Task) -> list[Task]:
    """A ``waiting`` task may run: make its parts, let its subtasks run; the parts made."""
    assert task.extra is not None and task.extra.fork is not None
    fork, state = task.extra.fork, changes.state
    parts = _decoder.decode(fork.parts) if fork.parts else []
    is_full = len(changes.tasks) > ROWS_MAX
    if is_full or not has_room(changes, len(parts)):
        at = state.now if is_full else state.now + LOOK_AGAIN_MS
        reason = task.reason if is_full else NO_ROOM
        later = msgspec.structs.replace(
            task, reason=reason, ready_at=at, modify_index=changes.index
        )
        changes.put(later)
        return []
    fork = msgspec.structs.replace(
        fork,
        parts=b"",
        has_begun=True,
        open_until=state.now + OPEN_MS if fork.is_open else 0,
    )
    extra = msgspec.structs.replace(
        task.extra, fork=fork, subtasks=task.extra.subtasks + len(parts)
    )
    task = msgspec.structs.replace(
        task, extra=extra, reason=SPLIT, ready_at=0, modify_index=changes.index
    )
    changes.put(task)
    changes.event("task_changed", task.id, detail="split")
    made = make(changes, task, parts, 0)
    release(changes, task)
    return made


def has_room(changes: Changes, count: int) -> bool:
    """May there be so many open tasks more?"""
    state = changes.state
    return state.open_count + len(changes.tasks) + count <= state.settings.tasks_open_max


def make(changes: Changes, parent: Task, parts: list[NewTask], first: int) -> list[Task]:
    """Rows for parts, the first one with this number; those beyond the window are held."""
    assert parent.extra is not None and parent.extra.fork is not None
    fork, tally = parent.extra.fork, changes.tally(parent.id)
    may_run = fork.has_begun and not parent.paused
    room = window(fork) - tally.under_way if may_run else 0
    names: dict[str, str] = {}
    made = []
    for number, part in enumerate(parts, first):
        task = _row(changes, parent, part, number, names)
        if task.status in TERMINAL:
            changes.put(task)
            changes.event("task_finished", task.id, detail=task.status.value)
            tally.made_over(task)
            made.append(task)
            continue
        if room <= 0 and task.status is _QUEUED:
            task = move(task, _WAITING, changes.index, HELD, ready_at=0)
            # What is held of a paused task is let go with the others when the pause ends.
            task = msgspec.structs.replace(task, paused=False)
        changes.put(task)
        changes.event("task_queued", task.id)
        is_waiting = task.status is _WAITING and is_held(task)
        tally.made(task.id, is_held=is_waiting)
        room -= not is_waiting
        made.append(task)
    return made


def _row(changes: Changes, parent: Task, part: NewTask, number: int, names: dict[str, str]) -> Task:
    """``names``: ids of the parts before it, by their names; it is added."""
    state = changes.state
    fields = _fields(parent.namespace, part)
    terms = state.terms.get(fields) or checked_terms(state, fields)
    assert not isinstance(terms, Reason)  # It was checked when it was asked for.
    task_id = free_id(changes, part_id(parent.id, part.id or str(number)))
    names[part.id] = task_id
    order = changes.next_order
    changes.next_order = order + 1
    if part.extra is None:
        return Task(
            task_id, part.spec, terms, state.now, changes.index, order, _QUEUED, changes.index,
            paused=parent.paused, extra=Extra(parent=parent.id, number=number),
        )  # fmt: skip
    extra = part.extra
    extra = msgspec.structs.replace(
        extra,
        parent=parent.id,
        number=number,
        depends_on=tuple([Dependency(names[o.task_id], o.on) for o in extra.depends_on]),
        fork=None if extra.fork is None else _fork_of(extra.fork, names),
        borrowed=_kept(changes, parent, part, extra),
    )
    task = Task(
        task_id, part.spec, terms, state.now, changes.index, order, _QUEUED, changes.index,
        paused=parent.paused,
    )  # fmt: skip
    if extra.borrowed is not None:
        return _over(changes, task, extra, TaskStatus.SUCCEEDED, KEPT)
    if extra.depends_on:
        others = [changes.task(other.task_id) for other in extra.depends_on]
        known = {other.id: other for other in others if other is not None}
        extra = begun(extra, known)
        fate = fate_of(extra)
        if fate is not None:
            extra = msgspec.structs.replace(extra, awaits=())
        if fate is False:
            return _over(changes, task, extra, TaskStatus.CANCELLED, _unmet(extra, known))
        changes.await_ends(task_id, extra.awaits)
    return new_row(task, extra, state.now)


def _kept(changes: Changes, parent: Task, part: NewTask, extra: Extra) -> Product | None:
    """What the part came to in an earlier try, and is not to run for again; None: it is to run."""
    old = changes.task(extra.keeps) if extra.keeps else None
    if old is None or extra.fork is not None or extra.broadcast:
        return None
    # The id may be another task's by now.
    is_it = old.namespace == parent.namespace and old.spec == part.spec
    return old.product if is_it and old.status is TaskStatus.SUCCEEDED else None


def _over(changes: Changes, task: Task, extra: Extra, to: TaskStatus, reason: str) -> Task:
    """A new part that is not to run: nobody waits for it yet who would have to be told."""
    task = msgspec.structs.replace(task, status=_WAITING, paused=False, extra=extra)
    return move(task, to, changes.index, reason, finished_at=changes.state.now)


def _unmet(extra: Extra, known: Mapping[str, Task]) -> str:
    """The reason of one that never runs."""
    ends = [(o.on, known[o.task_id]) for o in extra.depends_on if o.task_id in known]
    bad = [t for on, t in ends if t.status in TERMINAL and not is_met(on, t.status)]
    return f"{UNMET}: {bad[-1].id} {bad[-1].status}"


def part_id(parent_id: str, name: str) -> str:
    """The id of a part."""
    return _fitting(f"{parent_id}.{name}")


def twin_id(task_id: str) -> str:
    """The id of a part's twin."""
    return _fitting(f"{task_id}~2")


def _fitting(task_id: str) -> str:
    if len(task_id) <= ID_MAX:
        return task_id
    return f"{task_id[: ID_MAX - 20]}~{blake2b(task_id.encode(), digest_size=8).hexdigest()}"


def free_id(changes: Changes, task_id: str) -> str:
    """The id, or one like it that nobody has."""
    while changes.task(task_id) is not None:  # Whoever is called so was there before.
        task_id += "."
    return task_id


def _fork_of(fork: Fork, names: dict[str, str]) -> Fork:
    return msgspec.structs.replace(
        fork,
        parts_hash=hash_of(fork.parts),
        items_from=names[fork.items_from] if fork.items_from else "",
    )


# Letting them run -----------------------------------------------------------------------------


def release(changes: Changes, parent: Task) -> None:
    """Let as many of the held subtasks run as may."""
    assert parent.extra is not None
    fork = parent.extra.fork
    if fork is None or not fork.has_begun or parent.paused or parent.extra.stopping:
        return
    tally, most = changes.tally(parent.id), window(fork)
    while tally.under_way < most:
        task_id = tally.next_held()
        if task_id is None:
            return
        task = changes.task(task_id)
        assert task is not None
        if not is_held(task):
            continue
        tally.let_go(task_id)
        changes.put(move(task, _QUEUED, changes.index, "", ready_at=changes.state.now))
        changes.event("task_queued", task_id, detail="released")
