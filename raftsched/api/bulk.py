"""Routes for all tasks that pass a filter, which is in the query as for a list (`many`)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Literal

import msgspec
from aiohttp import web

from raftsched.api import many
from raftsched.api.amending import check_names
from raftsched.api.context import Context, body_of, decode, flag, integer, no_fields
from raftsched.api.listing import words_of
from raftsched.api.many import TASKS_MAX, Wanted
from raftsched.api.reports import BulkAnswer


class BulkRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Body of a bulk change; may be empty.  The filter is in the query, as for a list."""

    reason: str = ""


class BulkRetryRequest(BulkRequest, frozen=True, forbid_unknown_fields=True):
    """Body of a bulk retry; may be empty.  The filter is in the query, as for a list."""

    #: Only what failed, and what waited for it: what succeeded is kept.
    only: Literal["failed"] | None = None


_bodies = msgspec.json.Decoder(BulkRequest)
_retries = msgspec.json.Decoder(BulkRetryRequest)
_patches = msgspec.json.Decoder(dict[str, Any])


async def cancel(context: Context, request: web.Request) -> web.StreamResponse:
    """Cancel all tasks that pass the filter of the query."""
    parsed: BulkRequest = decode(_bodies, await body_of(request) or b"{}")
    return context.answer(await many.cancel(context, _wanted(request), parsed.reason))


async def retry(context: Context, request: web.Request) -> web.StreamResponse:
    """Try all tasks again that pass the filter of the query and did not succeed."""
    parsed: BulkRetryRequest = decode(_retries, await body_of(request) or b"{}")
    only_failed = parsed.only is not None
    return context.answer(await many.retry(context, _wanted(request), only_failed=only_failed))


async def pause(context: Context, request: web.Request) -> web.StreamResponse:
    """Pause all tasks that pass the filter of the query."""
    return await _each(context, request, many.pause)


async def resume(context: Context, request: web.Request) -> web.StreamResponse:
    """Undo the pause of all tasks that pass the filter of the query."""
    return await _each(context, request, many.resume)


async def run_now(context: Context, request: web.Request) -> web.StreamResponse:
    """End the wait of all tasks that pass the filter of the query."""
    return await _each(context, request, many.run_now)


async def delete(context: Context, request: web.Request) -> web.StreamResponse:
    """Remove all tasks that pass the filter of the query and have ended."""
    return await _each(context, request, many.delete)


async def _each(
    context: Context,
    request: web.Request,
    change: Callable[[Context, Wanted], Awaitable[BulkAnswer]],
) -> web.Response:
    await no_fields(request)
    return context.answer(await change(context, _wanted(request)))


async def edit(context: Context, request: web.Request) -> web.StreamResponse:
    """Change fields of all tasks that pass the filter of the query and do not run."""
    patch = decode(_patches, await body_of(request))
    check_names(patch)
    return context.answer(await many.edit(context, _wanted(request), patch))


def _wanted(request: web.Request) -> Wanted:
    limit = integer(request, "limit", TASKS_MAX, 1, TASKS_MAX)
    return many.wanted(words_of(request), limit, dry_run=flag(request, "dry_run"))
