"""What a task document says of others: the tasks that it waits for, and those it consists of."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

import msgspec

from raftsched.api.policies import speculation_of
from raftsched.api.problems import Problem
from raftsched.core.dependencies import DEPENDENCIES_MAX, in_order
from raftsched.core.handlers.forks import PARTS_BYTES_MAX, PARTS_MAX, SUBTASKS_MAX, encode
from raftsched.core.handlers.speculate import why_no_twin
from raftsched.core.items import BadItem, Template, has_places
from raftsched.core.model import NewTask
from raftsched.core.policy import Extra
from raftsched.core.workflow import ANY_NUMBER, Dependency, Fork, On, Speculation

if TYPE_CHECKING:
    from raftsched.api.documents import Map, OnFailure, TaskRequest

#: Of those that are in the submission itself; more of them come in pieces behind it.
INLINE_BYTES_MAX = PARTS_BYTES_MAX // 2

_NAME = re.compile(r"[0-9A-Za-z]([0-9A-Za-z._-]{0,62}[0-9A-Za-z_-])?")
#: Of a range.
NUMBER_MAX = 1 << 53
#: What is said of what runs, and so not of a task that only its subtasks run.
_OF_SUBTASKS = (
    "shell", "env", "cwd", "stdin", "user", "group", "umask", "nice", "rlimits", "before", "after",
    "timeout", "queue_timeout", "retry", "delivery", "idempotent", "on_lease_loss", "lease_seconds",
    "max_losses", "resources", "constraints", "affinity", "placement", "limits",
)  # fmt: skip
#: What a task has that is not a map's item.
_OF_THE_WHOLE = ("depends_on", "not_before", "deadline", "map", "workflow", "broadcast")
_packed = msgspec.msgpack.Encoder()
_json = msgspec.json.Encoder()
_ToNewTask = Callable[["TaskRequest", str], NewTask]


def is_related(request: TaskRequest) -> bool:
    """Does it say anything of other tasks?"""
    concerns_others = bool(request.depends_on) or request.needs != "all"
    return concerns_others or request.map is not None or request.workflow is not None


def check_whole(request: TaskRequest, pointer: str = "") -> None:
    """Of a task that only its subtasks run: is nothing said that is theirs?  Raises Problem."""
    if request.map is None and request.workflow is None:
        return
    usual = type(request)()
    for field in _OF_SUBTASKS:
        if getattr(request, field) != getattr(usual, field):
            raise Problem("invalid", "its subtasks may say this", pointer=f"{pointer}/{field}")


def with_relations(
    request: TaskRequest, extra: Extra | None, to_new_task: _ToNewTask
) -> tuple[Extra, bytes]:
    """What is asked of the task alone, and of others; ``TaskSpec.template``.  Raises Problem."""
    depends_on = _depends_on(request)
    fork, template = None, b""
    if request.workflow is not None:
        fork = _workflow(request, to_new_task)
    elif request.map is not None:
        of_item = template_of(request, request.map, to_new_task)
        template = _packed.encode(of_item)
        fork = _map(request.map, of_item)
        source = fork.items_from
        if source and all(other.task_id != source for other in depends_on):
            depends_on = (*depends_on, Dependency(source))
    if fork is not None and request.broadcast is not None:
        raise Problem("invalid", "its subtasks may say this", pointer="/broadcast")
    needs = _needs(request, depends_on)
    whole = extra or Extra()
    return msgspec.structs.replace(whole, depends_on=depends_on, needs=needs, fork=fork), template


def _depends_on(request: TaskRequest) -> tuple[Dependency, ...]:
    found: dict[str, Dependency] = {}
    for at, other in enumerate(request.depends_on):
        name = other if isinstance(other, str) else other.task
        on = On.SUCCESS if isinstance(other, str) else On(other.on)
        if not name or name in found:
            text = f"{name} is named twice" if name else "a task's id or name is needed"
            raise Problem("invalid", text, pointer=f"/depends_on/{at}")
        found[name] = Dependency(name, on)
    if len(found) > DEPENDENCIES_MAX:
        text = f"a task may wait for {DEPENDENCIES_MAX} others"
        raise Problem("invalid", text, pointer="/depends_on")
    return tuple(found.values())


def _needs(request: TaskRequest, depends_on: tuple[Dependency, ...]) -> int:
    """How many are enough; 0: all."""
    needs = request.needs
    if needs == "all" or (needs == "any" and not depends_on):
        return 0
    count = 1 if needs == "any" else int(needs)
    if count > len(depends_on):
        text = f"{count} are needed, and it depends on {len(depends_on)}"
        raise Problem("invalid", text, pointer="/needs")
    return count


# What it consists of ----------------------------------------------------------------------------


def _failures(on_failure: OnFailure) -> tuple[int, bool]:
    """How many may fail, and whether the others go on after more."""
    if on_failure == "ignore":
        return ANY_NUMBER, True
    if isinstance(on_failure, str):
        return 0, on_failure == "finish"
    return on_failure.allow, False


def _workflow(request: TaskRequest, to_new_task: _ToNewTask) -> Fork:
    assert request.workflow is not None
    documents = request.workflow.tasks
    at = {document.name: number for number, document in enumerate(documents)}
    parts: dict[str, NewTask] = {}
    for number, document in enumerate(documents):
        pointer = f"/workflow/tasks/{number}"
        if not document.name or at[document.name] != number:
            text = "two tasks have this name" if document.name else "a name is needed here"
            raise Problem("invalid", text, pointer=f"{pointer}/name")
        if not _NAME.fullmatch(document.name):
            text = "letters, digits, '.', '_' and '-', at most 64: it becomes a part of an id"
            raise Problem("invalid", text, pointer=f"{pointer}/name")
        parts[document.name] = _part(request, document, pointer, document.name, to_new_task)
    for name, part in parts.items():
        unknown = [o for o in _names(part) if o not in parts]
        if unknown:
            raise Problem(
                "invalid", f"no task of this workflow is called {unknown[0]}",
                pointer=f"/workflow/tasks/{at[name]}/depends_on",
            )  # fmt: skip
    ordered = sorted_by_need(
        {name: _names(part) for name, part in parts.items()}, "/workflow/tasks"
    )
    data = encode([parts[name] for name in ordered])
    if len(data) > PARTS_BYTES_MAX:
        text = f"its tasks have {len(data)} bytes, at most {PARTS_BYTES_MAX}"
        raise Problem("too-large", text, pointer="/workflow/tasks")
    failures_max, is_patient = _failures(request.workflow.on_failure)
    return Fork(data, failures_max=failures_max, is_patient=is_patient)


def _names(part: NewTask) -> list[str]:
    return [] if part.extra is None else [other.task_id for other in part.extra.depends_on]


def sorted_by_need(edges: dict[str, list[str]], pointer: str) -> list[str]:
    """Names, each behind those that it waits for.  Raises Problem for a ring."""
    ordered, ring = in_order(edges)
    if ring and ring[0] == ring[-1]:
        raise Problem("invalid", f"they wait in a ring: {' -> '.join(ring)}", pointer=pointer)
    if ring:
        text = f"{len(ring)} tasks wait for one another, {ring[0]} for the others first"
        raise Problem("invalid", text, pointer=pointer)
    return ordered


def linked(tasks: list[NewTask], names: list[str]) -> Sequence[int]:
    """Where the tasks of a submission stand, each behind those that it waits for.

    ``names``: what they are called; those that wait for a name wait for its id from here on.
    Raises Problem.
    """
    if not any(new.extra is not None and new.extra.depends_on for new in tasks):
        return range(len(tasks))
    if len({new.id for new in tasks}) < len(tasks):
        raise Problem("invalid", "two tasks of this submission have the same id", pointer="/id")
    ids: dict[str, str] = {}
    for name, new in zip(names, tasks, strict=True):
        # Called the same they cannot be told apart; an id stands for itself.
        ids[name] = "" if name in ids else new.id
    ids |= {new.id: new.id for new in tasks}
    for at, new in enumerate(tasks):
        tasks[at] = _linked(new, ids, at)
    ordered = sorted_by_need({new.id: _names(new) for new in tasks}, "/")
    places = {new.id: at for at, new in enumerate(tasks)}
    return [places[task_id] for task_id in ordered]


def _linked(new: NewTask, ids: dict[str, str], line: int) -> NewTask:
    extra = new.extra
    if extra is None or not extra.depends_on:
        return new
    twice = [other.task_id for other in extra.depends_on if ids.get(other.task_id) == ""]
    if twice:
        text = f"several tasks of this submission are called {twice[0]}"
        raise Problem("invalid", text, pointer="/depends_on").of_line(line)
    fork = extra.fork
    if fork is not None and fork.items_from:
        fork = msgspec.structs.replace(fork, items_from=ids.get(fork.items_from, fork.items_from))
    depends_on = [Dependency(ids.get(o.task_id, o.task_id), o.on) for o in extra.depends_on]
    extra = msgspec.structs.replace(extra, depends_on=tuple(depends_on), fork=fork)
    return msgspec.structs.replace(new, extra=extra)


def _part(
    request: TaskRequest, document: TaskRequest, pointer: str, name: str, to_new_task: _ToNewTask
) -> NewTask:
    """A task within another: what it does not say of queue and priority is as the other's."""
    for field in ("id", "unique"):
        if getattr(document, field) is not None:
            raise Problem("invalid", "a task within another has none", pointer=f"{pointer}/{field}")
    if document.namespace not in ("default", request.namespace):
        text = "it is of the namespace of the task around it"
        raise Problem("invalid", text, pointer=f"{pointer}/namespace")
    document = msgspec.structs.replace(
        document,
        queue=request.queue if document.queue == "default" else document.queue,
        priority=request.priority if document.priority == 50 else document.priority,
    )
    check_whole(document, pointer)
    try:
        new = to_new_task(document, name)
    except Problem as problem:
        where = pointer + problem.pointer.rstrip("/")
        raise Problem(problem.code, problem.detail, pointer=where) from None
    if new.extra is not None and new.extra.fork is not None and _comes_later(new.extra.fork):
        text = f"within another task it may have {PARTS_MAX} items and {INLINE_BYTES_MAX} bytes"
        raise Problem("too-large", text, pointer=f"{pointer}/map")
    return new


def _comes_later(fork: Fork) -> bool:
    """Is it the submitter who sends the subtasks?"""
    return fork.is_open and not fork.items_from


# A task for each item -----------------------------------------------------------------------------


def _map(asked: Map, template: NewTask) -> Fork:
    """Open, if its items are too many to be a part of it, or not known yet."""
    given = [name for name in ("items", "range", "source") if getattr(asked, name) is not None]
    if len(given) != 1:
        text = 'give exactly one of "items", "range" and "from"'
        raise Problem("invalid", text, pointer="/map")
    failures_max, is_patient = _failures(asked.on_failure)
    fork = Fork(
        parallel_max=asked.max_parallel, failures_max=failures_max, is_patient=is_patient,
        is_open=True, speculation=_speculation(asked, template),
    )  # fmt: skip
    if asked.source is not None:
        return msgspec.structs.replace(fork, items_from=asked.source)
    items = items_of(asked)
    if len(items) > PARTS_MAX:
        return fork
    parts = [
        msgspec.structs.replace(new, id=str(number))
        for number, new in enumerate(filled(template, items, 0))
    ]
    data = encode(parts) if parts else b""
    if len(data) > INLINE_BYTES_MAX:
        return fork
    return msgspec.structs.replace(fork, parts=data, is_open=False)


def _speculation(asked: Map, template: NewTask) -> Speculation | None:
    found = speculation_of(asked.speculate, "/map/speculate")
    why = why_no_twin(template.policy, template.extra or Extra()) if found is not None else ""
    if why:
        raise Problem("invalid", f"an item cannot run twice: {why}", pointer="/map/speculate")
    return found


def template_of(request: TaskRequest, asked: Map, to_new_task: _ToNewTask) -> NewTask:
    """The task of an item that is not known yet.  Raises Problem."""
    document = asked.task
    if document.shell and isinstance(document.command, str | list):
        words = document.command if isinstance(document.command, list) else [document.command]
        if any(map(has_places, words)):
            text = 'a shell would read the item as its own: write "$RAFTSCHED_ITEM"'
            raise Problem("invalid", text, pointer="/map/task/command")
    new = _part(request, document, "/map/task", "item", to_new_task)
    if new.extra is not None:
        field = next((name for name in _OF_THE_WHOLE if getattr(document, name)), "placement/key")
        text = "an item has none of its own; the whole may"
        raise Problem("invalid", text, pointer=f"/map/task/{field}")
    return new


def items_of(asked: Map) -> Sequence[Any]:
    """The items that the document names.  Raises Problem."""
    if asked.items is not None:
        return asked.items
    numbers = asked.range or []
    is_wide = any(abs(number) > NUMBER_MAX for number in numbers)
    if is_wide or not 1 <= len(numbers) <= 3 or (len(numbers) == 3 and not numbers[2]):
        text = "[stop], [start, stop] or [start, stop, step]; the step is not 0"
        raise Problem("invalid", text, pointer="/map/range")
    found = range(*numbers)
    if len(found) > SUBTASKS_MAX:
        text = f"it has {len(found)} items, at most {SUBTASKS_MAX}"
        raise Problem("too-large", text, pointer="/map/range")
    return found


def hash_of_items(request: TaskRequest, extra: Extra) -> bytes:
    """Of those that follow their submission: under one id there is one list of them."""
    if request.map is None or extra.fork is None or not _comes_later(extra.fork):
        return b""
    items = request.map.range if request.map.items is None else request.map.items
    return blake2b(_json.encode(items), digest_size=16).digest()


def filled(template: NewTask, items: Sequence[Any], first: int) -> Iterator[NewTask]:
    """The tasks of items, the first one with this number.  Raises Problem."""
    of_item = Template(template)
    for number, item in enumerate(items, first):
        try:
            yield of_item.task(number, item)
        except BadItem as error:
            raise Problem("invalid", str(error), pointer=f"/map/items/{number}") from None
