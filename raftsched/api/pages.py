"""Pages of things that have names: queues, limits, schedules, templates."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import TypeVar

from aiohttp import web

from raftsched.api.context import Context, integer
from raftsched.core.state import State

#: Rows of a page that are shown before everything else has its turn, unless they are large.
SLICE_ROWS = 100

View = TypeVar("View")


async def page_by_name(
    context: Context,
    request: web.Request,
    names: Callable[[State], Iterable[str]],
    show: Callable[[State, str], View | None],
    slice_rows: int = SLICE_ROWS,
) -> tuple[list[View], str | None, int]:
    """A page in the order of names, the cursor of the next one, and the index it is of.

    The state may change while the page is made: ``show`` gives None for what has gone meanwhile.
    """
    limit, after = integer(request, "limit", 50, 1, 1000), request.query.get("cursor", "")
    state = await context.state(request)
    index = state.index
    found = sorted(name for name in names(state) if name > after)
    items = []
    for number, name in enumerate(found[:limit], 1):
        view = show(state, name)
        if view is not None:
            items.append(view)
        if number % slice_rows == 0:
            await asyncio.sleep(0)
    return items, found[limit - 1] if len(found) > limit else None, index
