"""A task that was split, and its subtasks."""

from __future__ import annotations

import msgspec
from aiohttp import web

from raftsched.api.context import Context, integer
from raftsched.api.problems import Problem
from raftsched.api.tasks import known_task
from raftsched.api.views import TaskView, task_view
from raftsched.core.model import TaskStatus

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
    state = await context.state(request, task_id)
    task = known_task(context, task_id)
    subtasks = state.trees.of(task_id)
    ids = state.trees.ids_of(task_id)
    found = [state.tasks.get(subtask_id) for subtask_id in ids[first : first + limit]]
    following = str(first + limit) if len(ids) > first + limit else None
    headers = {"Raftsched-Index": str(state.index)}
    if following:
        headers["Link"] = f'<{request.rel_url.update_query(cursor=following)}>; rel="next"'
    view = TreeView(
        task_view(task),
        {} if subtasks is None else dict(sorted(subtasks.counts.items())),
        [task_view(subtask) for subtask in found if subtask is not None],
        following,
        state.index,
    )
    return context.answer(view, headers=headers)


def _first(cursor: str | None) -> int:
    if not cursor:
        return 0
    if not cursor.isdecimal() or not cursor.isascii() or len(cursor) > len(str(CURSOR_MAX)):
        raise Problem("invalid", "not a cursor of this list", pointer="?cursor")
    return int(cursor)
