"""Routes of limits: what tasks with the same key share."""

from __future__ import annotations

from typing import Annotated

import msgspec
from aiohttp import web

from raftsched.api.amending import if_match
from raftsched.api.checked import milliseconds
from raftsched.api.context import Context, body_of, decode, flag, no_fields
from raftsched.api.pages import page_by_name
from raftsched.api.policies import Key
from raftsched.api.problems import Problem, check_seen
from raftsched.api.queues import Count
from raftsched.api.times import Duration, instant
from raftsched.core.commands import DeleteLimit, PutLimit
from raftsched.core.model import Limit
from raftsched.core.state import State

Some = Annotated[int, msgspec.Meta(ge=1, le=1_000_000)]


class Rate(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """So many starts in so long, evenly, and ``burst`` of them at once."""

    count: Some
    per: Duration = 1
    burst: Some = 1


class LimitRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is to hold for a key; what is not said is as by default."""

    #: Attempts that may hold it at once; 0: any number.
    count: Count = 1
    rate: Rate | None = None


class LimitView(msgspec.Struct, frozen=True):
    """A limit, and who holds it."""

    key: str
    count: int
    rate: Rate | None
    held: int
    #: When all starts that the burst allows are there again; null without a rate, or since ever.
    full_at: str | None
    #: 0: nothing was set.
    modify_index: int


class LimitPage(msgspec.Struct, frozen=True):
    """Limits, by key."""

    items: list[LimitView]
    next_cursor: str | None
    index: int


_bodies = msgspec.json.Decoder(LimitRequest)
_keys = msgspec.json.Decoder(Key)


async def listing(context: Context, request: web.Request) -> web.StreamResponse:
    """Limits that were set or are held."""
    return context.answer(LimitPage(*await page_by_name(context, request, limit_keys, limit_view)))


def limit_keys(state: State) -> set[str]:
    """Limits that were set or are held."""
    return {*state.limits, *state.limit_use}


async def get(context: Context, request: web.Request) -> web.StreamResponse:
    """One limit; a key for which nothing was set is a mutex."""
    key = _key(request)
    return _answer(context, await context.state(request), key)


async def put(context: Context, request: web.Request) -> web.StreamResponse:
    """Say what holds for a key; who holds it goes on holding it."""
    key, asked = _key(request), decode(_bodies, await body_of(request) or b"{}")
    row = wanted_limit(key, asked)
    if_index = if_match(request)
    if flag(request, "dry_run"):
        await context.service.read()
        known = context.service.state.limits.get(key)
        stands = 0 if known is None else known.modify_index
        check_seen(f"limit {key!r}", stands, if_index)
        return context.answer({"valid": True})
    await context.propose(PutLimit(row, if_index))
    return _answer(context, context.service.state, key)


async def delete(context: Context, request: web.Request) -> web.StreamResponse:
    """Back to a mutex."""
    if request.can_read_body:
        await no_fields(request)
    key = _key(request)
    if flag(request, "dry_run"):
        await context.service.read()
        if key not in context.service.state.limits:
            raise Problem("unknown-limit", f"nothing was set for limit {key!r}")
        return context.answer({"valid": True})
    await context.propose(DeleteLimit(key))
    return web.Response(status=204, headers=context.headers())


def wanted_limit(key: str, asked: LimitRequest) -> Limit:
    """The row that a document asks for.  Raises Problem."""
    rate = asked.rate
    if rate is None:
        return Limit(key, asked.count)
    per_ms = milliseconds(rate.per, "/rate/per")
    if not per_ms:
        raise Problem("invalid", "a time longer than nothing is needed", pointer="/rate/per")
    return Limit(key, asked.count, rate.count, per_ms, rate.burst)


def _key(request: web.Request) -> str:
    return checked_key(request.match_info["key"])


def checked_key(key: str) -> str:
    """A limit's key, which is one that a task could have.  Raises Problem."""
    try:
        _keys.decode(msgspec.json.encode(key))
    except (msgspec.ValidationError, UnicodeEncodeError):
        raise Problem("unknown-limit", f"{key[:100]!a} cannot be a limit's key") from None
    return key


def _answer(context: Context, state: State, key: str) -> web.Response:
    view = limit_view(state, key)
    return context.answer(view, headers={"ETag": f'"{view.modify_index}"'})


def limit_view(state: State, key: str) -> LimitView:
    row = state.limits.get(key, Limit(key))
    rate = Rate(row.rate_count, row.rate_ms / 1000, max(1, row.burst)) if row.rate_count else None
    return LimitView(
        key, row.count, rate, state.limit_use.get(key, 0),
        instant(row.full_at_us // 1_000) if rate else None, row.modify_index,
    )  # fmt: skip
