"""Routes of the group's members: who is in it, and how that changes."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from aiohttp import web

from raftsched.api.context import Context, body_of, decode, flag, no_fields, seconds
from raftsched.api.problems import Problem
from raftsched.peer.config import (
    ConfigError,
    PeerAddress,
    check_peer_id,
    split_address,
)
from raftsched.peer.messages import MemberRow

_Text = Annotated[str, msgspec.Meta(max_length=300)]


class AddRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Body of an addition: the new peer, and where it listens."""

    id: _Text
    raft: _Text
    api: _Text
    #: A member that leaves once the new one votes.
    replaces: _Text = ""


class MembersView(msgspec.Struct, frozen=True):
    """The members, and how far a change of them is."""

    #: All that was asked for is committed.
    done: bool
    #: What it waits for; it goes on by itself.
    waits_for: str
    items: tuple[MemberRow, ...]


_requests = msgspec.json.Decoder(AddRequest)


async def listing(context: Context, request: web.Request) -> web.StreamResponse:
    """The members of the group, as the leader knows them."""
    told = await context.service.change_members({}, "", 1.0)
    return context.answer(MembersView(told.is_done, told.detail, told.rows))


async def add(context: Context, request: web.Request) -> web.StreamResponse:
    """Add a peer, or replace one; 202 when it is begun and not done after ``wait``."""
    asked: AddRequest = decode(_requests, await body_of(request))
    _check(asked)
    address = PeerAddress(asked.raft, asked.api)
    return await _change(context, request, {asked.id: address}, asked.replaces)


async def remove(context: Context, request: web.Request) -> web.StreamResponse:
    """Remove a peer for good; 202 when it is begun and not done after ``wait``."""
    if request.can_read_body:
        await no_fields(request)
    return await _change(context, request, {}, request.match_info["id"])


async def _change(
    context: Context, request: web.Request, new: dict[str, PeerAddress], old: str
) -> web.StreamResponse:
    wait_seconds = seconds(request, "wait", 5.0)
    if flag(request, "dry_run"):
        return context.answer({"valid": True})
    told = await context.service.change_members(new, old, wait_seconds)
    view: Any = MembersView(told.is_done, told.detail, told.rows)
    return context.answer(view, 200 if told.is_done else 202)


def _check(asked: AddRequest) -> None:
    for name in ("raft", "api"):
        try:
            split_address(name, getattr(asked, name))
        except ConfigError as error:
            raise Problem("invalid", str(error), pointer=f"/{name}") from None
    try:
        check_peer_id(asked.id)
    except ConfigError as error:
        raise Problem("invalid", str(error), pointer="/id") from None
