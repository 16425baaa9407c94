"""A task that ended, as a new one that asks for the same: all of it, or only what failed.

Rules
1. A new task has all the parts of the old one.  Of only what failed, those that succeeded name the
   old part (``Extra.keeps``): the state makes them end as that one did, and they are not run.
2. What failed is run again, and so is what waited for it: its inputs are others.  A part is kept if
   it succeeded and enough of what it waited for stays as it is.
3. Parts of a map that are too many for a submission follow it in pieces, as its items did.
4. What a task depended on it depends on again: its inputs.  It waits for none of it.  One that runs
   itself is not tried again without some of them; who is split reads none.
5. The old task is held (``Extra.keeps``) until the new one has ended, if results or parts are taken
   from it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

import msgspec

from raftsched.api.problems import Problem, part_of_tree, task_not_terminal
from raftsched.core.commands import SubmitTasks
from raftsched.core.dependencies import is_met
from raftsched.core.handlers.forks import PARTS_BYTES_MAX, PARTS_MAX, encode
from raftsched.core.model import TASK_ID_MAX, TERMINAL, NewTask, Task, TaskStatus
from raftsched.core.policy import Extra
from raftsched.core.state import State
from raftsched.core.trees import is_skipped, parent_of
from raftsched.core.workflow import Dependency, Fork, On
from raftsched.peer.ids import derived_id, request_hash

#: Before the keys of a retry; no key that is sent may have it.
RETRY_SCOPE = "tasks:retry\0"
_SUCCEEDED = TaskStatus.SUCCEEDED


def check_can_retry(state: State, task: Task, *, only_failed: bool = False) -> None:
    """Raises Problem."""
    root = state.tasks.get(state.relations.root_of(task.id))
    if root is not None and root is not task and root.extra and root.extra.fork is not None:
        raise _of_part(task, root.id)
    if task.status not in TERMINAL:
        raise task_not_terminal(task.id, task.status.value, "tried again")
    extra = task.extra
    is_whole = extra is not None and (extra.fork is not None or extra.broadcast != 0)
    if task.status is _SUCCEEDED and not (only_failed and is_whole):
        raise _succeeded(task)


def _of_part(task: Task, root_id: str) -> Problem:
    problem = part_of_tree(task.id, root_id)
    call = f'POST /v1/tasks/{root_id}/retry with {{"only": "failed"}}'
    text = f"task {task.id} belongs to {root_id}; when that has ended, {call} tries what failed"
    return Problem(problem.code, text, extra=problem.extra)


class PartsGone(Problem):
    """What a task is another try of was deleted before all of its parts were taken over."""

    def __init__(self, task_id: str) -> None:
        gone = f"the parts of {task_id} were deleted before all of them were taken over"
        super().__init__("inputs-gone", f"{gone}; submit it again")


def _succeeded(task: Task) -> Problem:
    return Problem("task-succeeded", f"task {task.id} succeeded; submit it again instead")


class Retry(NamedTuple):
    """A new task for one that ended, and what is to be sent behind it."""

    command: SubmitTasks
    #: So many parts follow in pieces; 0: they are in the task.
    following: int
    #: Those from a number on.  Raises PartsGone.
    parts: Callable[[int], Iterator[NewTask]]


def retry_of(
    look: Callable[[], State], task: Task, key: str, *, only_failed: bool = False, new_id: str
) -> Retry:
    """What makes the new task; ``new_id`` is its id if there is no ``key``.  Raises Problem.

    ``look`` gives the state as it is, also while the parts are sent: a snapshot replaces it.
    """
    state = look()
    check_can_retry(state, task, only_failed=only_failed)
    if key:
        new_id = derived_id(task.namespace, RETRY_SCOPE + key, 0)
    new = another(state, task, new_id, only_failed=only_failed)
    asked = {"retry_of": task.id, "only": "failed"} if only_failed else {"retry_of": task.id}
    command = SubmitTasks(
        (new,),
        namespace=task.namespace,
        key=key and RETRY_SCOPE + key,
        request_hash=request_hash([asked]) if key else b"",
    )
    count = len(state.trees.ids_of(task.id)) if follows(new) else 0
    return Retry(command, count, partial(_parts, look, task, only_failed, count))


def another(state: State, task: Task, new_id: str, *, only_failed: bool = False) -> NewTask:
    """A new task that asks for the same, at once; `follows` says whether its parts are in it.

    Raises Problem for one that is too large, or of which nothing failed.
    """
    tries, extra = _Tries(state, only_failed), task.extra or Extra()
    fork, is_same = tries.whole(task, extra, {}, {}, stays=True)
    if only_failed and is_same:
        raise _succeeded(task)
    depends_on, needs = _inputs(state, task, extra, is_read=fork is None and not extra.broadcast)
    again = msgspec.structs.replace(
        _alone(extra),
        retry_of=task.id,
        delay_ms=0,
        depends_on=depends_on,
        needs=needs,
        broadcast=0 if fork is not None else extra.broadcast,
        fork=fork,
        keeps=task.id if fork is not None and (only_failed or fork.is_open) else "",
    )
    return _new(task, new_id, again)


def _inputs(
    state: State, task: Task, extra: Extra, *, is_read: bool
) -> tuple[tuple[Dependency, ...], int]:
    """What it depended on, so that all that has ended is as it should; and how many that is.

    ``is_read``: it is nothing without what they came to.  Raises Problem if one is gone then.
    """
    found: list[Dependency] = []
    ended = 0
    for dependency in extra.depends_on:
        other = state.tasks.get(dependency.task_id)
        if other is None or other.order >= task.order:  # The id is another task's by now.
            if is_read:
                raise _without_input(task, dependency.task_id)
            continue
        if other.status in TERMINAL:
            ended += 1
            if not is_met(dependency.on, other.status):
                dependency = Dependency(other.id, On.ALWAYS)
        found.append(dependency)
    return (tuple(found), ended) if ended else ((), 0)


def follows(new: NewTask) -> bool:
    """Are its parts to be sent behind it?"""
    fork = None if new.extra is None else new.extra.fork
    return fork is not None and fork.is_open


def _parts(
    look: Callable[[], State], task: Task, only_failed: bool, count: int, first: int
) -> Iterator[NewTask]:
    """The parts of a map once more, from this number on, as `AddSubtasks` takes them."""
    ids = look().trees.ids_of(task.id)
    if len(ids) < count:
        raise PartsGone(task.id)
    for part_id in ids[first:]:
        part = look().tasks.get(part_id)
        if part is None:
            raise PartsGone(task.id)
        is_kept = only_failed and part.status is _SUCCEEDED
        yield _new(part, "", Extra(keeps=part_id) if is_kept else None)


def _new(task: Task, new_id: str, extra: Extra | None) -> NewTask:
    terms = task.terms
    return NewTask(
        new_id, task.spec, terms.queue, terms.priority, terms.cpu_milli, terms.memory_bytes,
        terms.strategy, terms.attempts_max, terms.policy, extra,
    )  # fmt: skip


def _alone(extra: Extra) -> Extra:
    """Without what became of it, and without instants."""
    return msgspec.structs.replace(
        extra, after="", not_before=0, deadline=0, parent="", number=0, subtasks=0, stopping="",
        schedule="", slot=0, awaits=(), met=0, keeps="", twin="", twin_of="", borrowed=None,
    )  # fmt: skip


def _name(parent_id: str, part_id: str, number: int) -> str:
    """What a part is called within its task; its number, if its id does not say it."""
    name = part_id.removeprefix(parent_id + ".").rstrip(".")
    return name if 0 < len(name) <= TASK_ID_MAX and name != part_id else f"part{number}"


class _Tries:
    """The parts of one task, and theirs, once more."""

    def __init__(self, state: State, only_failed: bool) -> None:
        self._state = state
        self._only_failed = only_failed

    def whole(
        self, task: Task, extra: Extra, names: dict[str, str], same: dict[str, Task], *, stays: bool
    ) -> tuple[Fork | None, bool]:
        """What it consisted of, if it did; and whether nothing below it is run.

        ``names``: of the tasks beside it, by their ids; ``same``: those of them of which nothing
        is run; ``stays``: enough of what it waited for does.
        """
        keeps = self._only_failed and stays
        if extra.fork is not None:
            fork, is_same = self._fork(task, extra.fork, names, same, keeps=keeps)
        elif extra.broadcast and extra.subtasks and keeps:
            # Once more on the nodes that it was for, not on those that there are now.
            fork, is_same = self._made(task, Fork(is_patient=True), keeps=keeps)
        else:
            return None, keeps and task.status is _SUCCEEDED
        return fork, is_same and task.status is _SUCCEEDED

    def _fork(
        self,
        task: Task,
        fork: Fork,
        names: dict[str, str],
        same: dict[str, Task],
        *,
        keeps: bool,
    ) -> tuple[Fork, bool]:
        """As it was before its parts were made."""
        again = msgspec.structs.replace(
            fork, is_open=False, items_from="", parts_hash=b"", has_begun=False, has_failed=False,
            open_until=0,
        )  # fmt: skip
        if fork.parts:
            return again, False
        source = fork.items_from
        is_stale = self._only_failed and source in names and source not in same
        if source in names and (fork.is_open or is_stale):
            return msgspec.structs.replace(again, is_open=True, items_from=names[source]), False
        if fork.is_open:
            raise _without_items(task)
        return self._made(task, again, keeps=keeps)

    def _made(self, task: Task, again: Fork, *, keeps: bool) -> tuple[Fork, bool]:
        """With its parts as they are."""
        ids, subtasks = self._state.trees.ids_of(task.id), self._state.trees.of(task.id)
        if len(ids) > PARTS_MAX:
            if parent_of(task):
                text = (
                    f"task {task.id} has {len(ids)} subtasks, at most {PARTS_MAX} are tried again"
                )
                raise Problem("too-large", text + " of one within another; submit it again")
            # Those of so many came in pieces, and wait for nothing.
            is_same = keeps and subtasks is not None and subtasks.succeeded == len(ids)
            return msgspec.structs.replace(again, is_open=True), is_same
        names = {part_id: _name(task.id, part_id, at) for at, part_id in enumerate(ids)}
        parts: list[NewTask] = []
        same: dict[str, Task] = {}
        for part_id in ids:
            part = self._state.tasks.get(part_id)
            assert part is not None
            extra, is_same = self._part(part, names, same, keeps=keeps)
            parts.append(_new(part, names[part_id], extra))
            if is_same:
                same[part_id] = part
        data = encode(parts) if parts else b""
        if len(data) <= PARTS_BYTES_MAX:
            return msgspec.structs.replace(again, parts=data), len(same) == len(ids)
        if not parent_of(task) and all(_is_plain(part.extra) for part in parts):
            return msgspec.structs.replace(again, is_open=True), len(same) == len(ids)
        text = f"the subtasks of {task.id} have {len(data)} bytes, at most {PARTS_BYTES_MAX}"
        raise Problem("too-large", text + " are tried again; submit it again")

    def _part(
        self, part: Task, names: dict[str, str], same: dict[str, Task], *, keeps: bool
    ) -> tuple[Extra | None, bool]:
        """What it asks for beside its terms; and whether nothing of it is run."""
        extra = part.extra or Extra()
        stays = keeps and _stays(extra, same)
        fork, is_same = self.whole(part, extra, names, same, stays=stays)
        again = msgspec.structs.replace(
            _alone(extra),
            depends_on=tuple([Dependency(names[o.task_id], o.on) for o in extra.depends_on]),
            broadcast=0 if fork is not None else extra.broadcast,
            fork=fork,
            keeps=part.id if is_same and part.product is not None else "",
        )
        return None if again == Extra() else again, is_same or (stays and is_skipped(part))


def _stays(extra: Extra, same: dict[str, Task]) -> bool:
    """Is enough of what it waited for as it was?"""
    left = [(o.on, same[o.task_id]) for o in extra.depends_on if o.task_id in same]
    good = [task for on, task in left if is_met(on, task.status)]
    needed = extra.needs or len(extra.depends_on)
    return len(good) >= needed or len(left) == len(extra.depends_on)


def _is_plain(extra: Extra | None) -> bool:
    """Does a part ask for nothing that one which comes in pieces cannot have?"""
    return extra is None or extra == Extra(keeps=extra.keeps)


def _without_input(task: Task, gone_id: str) -> Problem:
    text = f"task {task.id} depended on {gone_id}, which is gone, and with it what that came to"
    return Problem("inputs-gone", f"{text}; submit it again, after what is to come before it now")


def _without_items(task: Task) -> Problem:
    earlier = "" if task.extra is None else task.extra.retry_of
    instead = f"try {earlier} again, which it was another try of" if earlier else "submit it again"
    text = f"task {task.id} does not have all of its items; {instead}"
    return Problem("invalid", text, pointer="/")
