"""Routes of queues: what holds for all tasks of one."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Annotated, Any

import msgspec
from aiohttp import web

from raftsched.api.amending import if_match
from raftsched.api.bulk import BulkRequest
from raftsched.api.checked import checked, milliseconds
from raftsched.api.context import TRIES_MAX, Context, body_of, decode, flag, no_fields
from raftsched.api.defaults import checked_defaults
from raftsched.api.documents import Word
from raftsched.api.many import TASKS_MAX, cancel_all, matching
from raftsched.api.pages import page_by_name
from raftsched.api.problems import Problem, check_seen, overtaken
from raftsched.api.reports import BulkAnswer, Report
from raftsched.api.times import Duration
from raftsched.core.commands import DeleteQueue, PutQueue
from raftsched.core.indexes import QueueUse
from raftsched.core.lifecycle import HOLDING
from raftsched.core.model import TERMINAL, Queue, Task
from raftsched.core.state import State
from raftsched.peer.config import parse_bytes

COUNT_MAX = 1 << 31
Count = Annotated[int, msgspec.Meta(ge=0, le=COUNT_MAX)]


class Retention(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How long finished tasks are kept; 0: as the cluster has it, or no bound."""

    age: Duration = 0
    count: Count = 0
    #: Like ``"256MiB"``: of what runs, results, and the output that is kept with the task.
    bytes: str | int = 0


class QueueRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is to hold for a queue; what is not said is as by default."""

    #: Attempts at once; 0: no limit.
    concurrency: Count = 0
    #: Tasks that have not ended; more are refused.  0: no limit.
    max_depth: Count = 0
    #: Nothing of it is started; not said: as it was.
    paused: bool | None = None
    retention: Retention = Retention()
    #: Fields of the task document, for tasks that do not say them themselves.
    defaults: dict[str, Any] = {}


class QueueView(msgspec.Struct, frozen=True):
    """A queue, and what its tasks come to."""

    name: str
    paused: bool
    concurrency: int
    max_depth: int
    retention: Retention
    defaults: msgspec.Raw
    #: Tasks that have not ended, and those of them that a node has.
    open: int
    running: int
    #: 0: nothing was set.
    modify_index: int


class QueuePage(msgspec.Struct, frozen=True):
    """Queues, by name."""

    items: list[QueueView]
    next_cursor: str | None
    index: int


_bodies = msgspec.json.Decoder(QueueRequest)
_purges = msgspec.json.Decoder(BulkRequest)
_words = msgspec.json.Decoder(Word)
_NOBODY = QueueUse()


async def listing(context: Context, request: web.Request) -> web.StreamResponse:
    """Queues that were set or have tasks."""
    return context.answer(QueuePage(*await page_by_name(context, request, queue_names, queue_view)))


def queue_names(state: State) -> set[str]:
    """Queues that were set or have tasks."""
    return {*state.queues, *(name for name, use in state.queue_use.items() if use.open)}


async def get(context: Context, request: web.Request) -> web.StreamResponse:
    """One queue; any name is one."""
    name = _name(request)
    return _answer(context, await context.state(request), name)


async def put(context: Context, request: web.Request) -> web.StreamResponse:
    """Say what holds for a queue."""
    name, asked = _name(request), decode(_bodies, await body_of(request) or b"{}")
    wanted, dry_run = if_match(request), flag(request, "dry_run")
    await change(context, name, partial(wanted_queue, asked), wanted, dry_run=dry_run)
    return _said(context, name, dry_run)


def wanted_queue(asked: QueueRequest, row: Queue) -> Queue:
    """The row as a document says.  Raises Problem."""
    paused = row.paused if asked.paused is None else asked.paused
    retention = asked.retention
    return msgspec.structs.replace(
        row,
        paused=paused,
        concurrency=asked.concurrency,
        depth_max=asked.max_depth,
        retention_ms=milliseconds(retention.age, "/retention/age"),
        retention_count=retention.count,
        retention_bytes=checked(parse_bytes, retention.bytes, "/retention/bytes"),
        defaults=checked_defaults(asked.defaults),
    )


async def change(
    context: Context,
    name: str,
    wanted: Callable[[Queue], Queue],
    if_index: int = 0,
    *,
    dry_run: bool = False,
) -> None:
    """Store what holds for a queue, made of what held.  Raises Problem or PeerError.

    ``if_index``: the modify index that it must have; 0: any.
    """
    for left in reversed(range(TRIES_MAX)):
        state = await context.read()
        known = state.queues.get(name, Queue(name))
        row = wanted(known)
        check_seen(f"queue {name!r}", known.modify_index, if_index)
        if dry_run:
            return
        try:
            # What it was made of must still stand there.
            await context.propose(PutQueue(row, known.modify_index))
            return
        except Problem as problem:
            if problem.code != "modified" or if_index:
                raise
            if not left:
                raise overtaken(f"queue {name!r}", TRIES_MAX) from None


async def pause(context: Context, request: web.Request) -> web.StreamResponse:
    """Start nothing of a queue; what runs goes on."""
    return await _set_paused(context, request, True)


async def resume(context: Context, request: web.Request) -> web.StreamResponse:
    """Undo a pause."""
    return await _set_paused(context, request, False)


async def _set_paused(context: Context, request: web.Request, paused: bool) -> web.Response:
    await no_fields(request)
    name = _name(request)
    dry_run = flag(request, "dry_run")
    await change(context, name, partial(set_paused, paused), dry_run=dry_run)
    return _said(context, name, dry_run)


def set_paused(paused: bool, row: Queue) -> Queue:
    """The row, paused or not."""
    return msgspec.structs.replace(row, paused=paused)


def _said(context: Context, name: str, dry_run: bool) -> web.Response:
    if dry_run:
        return context.answer({"valid": True})
    return _answer(context, context.service.state, name)


async def delete(context: Context, request: web.Request) -> web.StreamResponse:
    """Back to the defaults; the tasks stay."""
    if request.can_read_body:
        await no_fields(request)
    name = _name(request)
    if flag(request, "dry_run"):
        await context.service.read()
        if name not in context.service.state.queues:
            raise Problem("unknown-queue", f"nothing was set for queue {name!r}")
        return context.answer({"valid": True})
    await context.propose(DeleteQueue(name))
    return web.Response(status=204, headers=context.headers())


async def purge(context: Context, request: web.Request) -> web.StreamResponse:
    """Cancel all tasks of a queue that no node has."""
    name, asked = _name(request), decode(_purges, await body_of(request) or b"{}")
    return context.answer(
        await purged(context, name, asked.reason, dry_run=flag(request, "dry_run"))
    )


async def purged(
    context: Context, name: str, reason: str = "", *, dry_run: bool = False
) -> BulkAnswer:
    """What became of the tasks of a queue that no node has.  Raises Problem or PeerError."""
    await context.read()
    ids, more = await matching(context, lambda task: _is_idle(task, name), TASKS_MAX)
    report = Report(len(ids), more)
    if not dry_run:
        await cancel_all(context, report, ids, reason or "purged", spare_running=True)
    return report.answer()


def _is_idle(task: Task, queue: str) -> bool:
    return task.queue == queue and task.status not in TERMINAL and task.status not in HOLDING


def _name(request: web.Request) -> str:
    return checked_name(request.match_info["name"])


def checked_name(name: str) -> str:
    """A queue's name, which is one that a task could have.  Raises Problem."""
    try:
        _words.decode(msgspec.json.encode(name))
    except (msgspec.ValidationError, UnicodeEncodeError):
        raise Problem("unknown-queue", f"{name[:100]!a} cannot be a queue's name") from None
    return name


def _answer(context: Context, state: State, name: str) -> web.Response:
    view = queue_view(state, name)
    return context.answer(view, headers={"ETag": f'"{view.modify_index}"'})


def queue_view(state: State, name: str) -> QueueView:
    row, use = state.queues.get(name, Queue(name)), state.queue_use.get(name, _NOBODY)
    retention = Retention(row.retention_ms / 1000, row.retention_count, row.retention_bytes)
    return QueueView(
        name, row.paused, row.concurrency, row.depth_max, retention,
        msgspec.Raw(row.defaults or b"{}"), use.open, use.held, row.modify_index,
    )  # fmt: skip
