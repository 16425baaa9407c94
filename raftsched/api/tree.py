"""A task that was split, its subtasks, and what became of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import msgspec
from aiohttp import web

from raftsched.api.context import Context, integer
from raftsched.api.problems import Problem
from raftsched.api.tasks import known_task
from raftsched.api.views import TaskView, task_view
from raftsched.core.model import Task, TaskStatus
from raftsched.core.state import State

#: Lines of results between two looks at what else is to be done.
LINES_MAX = 500
#: Highest cursor: what counts as a number.
CURSOR_MAX = 1 << 40


class TreeView(msgspec.Struct, frozen=True):
    """A task with its subtasks, in the order in which they were made, a page at a time."""

    task: TaskView
    #: How many subtasks are in each state; of all of them, not of this page alone.
    counts: dict[TaskStatus, int]
    items: list[TaskView]
    next_cursor: str | None
    index: int


async def get(context: Context, request: web.Request) -> web.StreamResponse:
    """A task and the subtasks that it was split into; none for one that was not."""
    task_id = request.match_info["id"]
    limit = integer(request, "limit", 50, 1, 1000)
    first = _first(request.query.get("cursor"))
    view = tree_of(context, await context.state(request, task_id), task_id, first, limit)
    headers = {"Raftsched-Index": str(view.index)}
    if view.next_cursor:
        headers["Link"] = f'<{request.rel_url.update_query(cursor=view.next_cursor)}>; rel="next"'
    return context.answer(view, headers=headers)


def tree_of(context: Context, state: State, task_id: str, first: int, limit: int) -> TreeView:
    """A task with so many of its subtasks from a number on.  Raises Problem."""
    task = known_task(context, task_id)
    subtasks = state.trees.of(task_id)
    ids = state.trees.ids_of(task_id)
    found = [state.tasks.get(subtask_id) for subtask_id in ids[first : first + limit]]
    following = str(first + limit) if len(ids) > first + limit else None
    return TreeView(
        task_view(task),
        {} if subtasks is None else dict(sorted(subtasks.counts.items())),
        [task_view(subtask) for subtask in found if subtask is not None],
        following,
        state.index,
    )


def _first(cursor: str | None) -> int:
    if not cursor:
        return 0
    if not cursor.isdecimal() or not cursor.isascii() or len(cursor) > len(str(CURSOR_MAX)):
        raise Problem("invalid", "not a cursor of this list", pointer="?cursor")
    return int(cursor)


# Results -------------------------------------------------------------------------------------

_json = msgspec.json.Encoder()


class ResultLine(msgspec.Struct, frozen=True):
    """What became of one subtask."""

    index: int
    id: str
    state: TaskStatus
    reason: str
    result: msgspec.Raw | None
    exit_code: int | None
    #: How many bytes a result has that is too large to stand here; else 0.
    result_bytes: int


async def results(context: Context, request: web.Request) -> web.StreamResponse:
    """The results of a task's subtasks in their order, one JSON line for each."""
    task_id = request.match_info["id"]
    state = await context.state(request, task_id)
    task = known_task(context, task_id)
    if not was_split(task):
        raise Problem("no-subtasks", f"task {task_id} was not split; its own result is in it")
    headers = {
        **context.headers(),
        "Content-Type": "application/x-ndjson",
        "Raftsched-Index": str(state.index),
    }
    response = web.StreamResponse(headers=headers)
    await response.prepare(request)
    async for lines in _lines(context, state.trees.ids_of(task_id)):
        await response.write(lines)
    await response.write_eof()
    return response


async def _lines(context: Context, ids: list[str]) -> AsyncIterator[bytes]:
    for first in range(0, len(ids), LINES_MAX):
        lines = []
        for index, subtask_id in enumerate(ids[first : first + LINES_MAX], first):
            subtask = context.service.state.tasks.get(subtask_id)
            if subtask is not None:
                lines.append(result_line(index, subtask))
        if lines:
            yield b"\n".join(lines) + b"\n"
        await asyncio.sleep(0)


def was_split(task: Task) -> bool:
    """Does it consist of subtasks, if only of those to come?"""
    return task.extra is not None and bool(task.extra.subtasks or task.extra.fork is not None)


def result_line(index: int, task: Task) -> bytes:
    """What became of a subtask, as JSON; ``index``: which one it is of its task's."""
    return _json.encode(_line(index, task))


def _line(index: int, task: Task) -> ResultLine:
    product = task.product
    return ResultLine(
        index,
        task.id,
        task.status,
        task.reason,
        msgspec.Raw(product.result) if product is not None and product.result else None,
        None if product is None else product.exit_code,
        0 if product is None else product.result_bytes,
    )
