"""Routes of queues: what holds for all tasks of one."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from aiohttp import web

from raftsched.api.amending import if_match
from raftsched.api.bulk import TASKS_MAX, BulkRequest, Report, cancel_all, matching
from raftsched.api.checked import checked, milliseconds
from raftsched.api.context import Context, body_of, decode, flag, integer, no_fields
from raftsched.api.defaults import checked_defaults
from raftsched.api.documents import Word
from raftsched.api.problems import Problem, modified
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
    limit, after = integer(request, "limit", 50, 1, 1000), request.query.get("cursor", "")
    state = await context.state(request)
    used = [name for name, use in state.queue_use.items() if use.open]
    names = sorted(name for name in {*state.queues, *used} if name > after)
    items = [queue_view(state, name) for name in names[:limit]]
    following = names[limit - 1] if len(names) > limit else None
    return context.answer(QueuePage(items, following, state.index))


async def get(context: Context, request: web.Request) -> web.StreamResponse:
    """One queue; any name is one."""
    name = _name(request)
    return _answer(context, await context.state(request), name)


async def put(context: Context, request: web.Request) -> web.StreamResponse:
    """Say what holds for a queue."""
    name, asked = _name(request), decode(_bodies, await body_of(request) or b"{}")
    await context.service.read()
    row = context.service.state.queues.get(name, Queue(name))
    paused = row.paused if asked.paused is None else asked.paused
    retention = asked.retention
    row = msgspec.structs.replace(
        row,
        paused=paused,
        concurrency=asked.concurrency,
        depth_max=asked.max_depth,
        retention_ms=milliseconds(retention.age, "/retention/age"),
        retention_count=retention.count,
        retention_bytes=checked(parse_bytes, retention.bytes, "/retention/bytes"),
        defaults=checked_defaults(asked.defaults),
    )
    return await _put(context, request, row, if_match(request) or row.modify_index)


async def pause(context: Context, request: web.Request) -> web.StreamResponse:
    """Start nothing of a queue; what runs goes on."""
    return await _set_paused(context, request, True)


async def resume(context: Context, request: web.Request) -> web.StreamResponse:
    """Undo a pause."""
    return await _set_paused(context, request, False)


async def _set_paused(context: Context, request: web.Request, paused: bool) -> web.Response:
    await no_fields(request)
    name = _name(request)
    await context.service.read()
    row = context.service.state.queues.get(name, Queue(name))
    row = msgspec.structs.replace(row, paused=paused)
    return await _put(context, request, row, row.modify_index)


async def _put(context: Context, request: web.Request, row: Queue, if_index: int) -> web.Response:
    if flag(request, "dry_run"):
        known = context.service.state.queues.get(row.name)
        stands = 0 if known is None else known.modify_index
        if if_index and stands != if_index:
            raise modified(f"queue {row.name!r}", stands, if_index)
        return context.answer({"valid": True})
    await context.propose(PutQueue(row, if_index))
    return _answer(context, context.service.state, row.name)


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
    await context.service.read()
    ids, more = await matching(context, lambda task: _is_idle(task, name), TASKS_MAX)
    report = Report(len(ids), more)
    if not flag(request, "dry_run"):
        await cancel_all(context, report, ids, asked.reason or "purged", spare_running=True)
    return report.answer(context)


def _is_idle(task: Task, queue: str) -> bool:
    return task.queue == queue and task.status not in TERMINAL and task.status not in HOLDING


def _name(request: web.Request) -> str:
    """The queue's name in the path, which is one that a task could have."""
    name = request.match_info["name"]
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
