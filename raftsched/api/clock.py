"""The cluster's clock, set by hand."""

from __future__ import annotations

import datetime as dt
import time
from typing import Annotated

import msgspec
from aiohttp import web

from raftsched.api.context import Context, body_of, decode, flag
from raftsched.api.problems import Problem
from raftsched.api.times import instant
from raftsched.core.commands import ResetClock
from raftsched.core.model import REASON_MAX


class ResetRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Body of a reset; may be empty."""

    #: What the clock is set to; None: what the answering peer's clock says.
    now: Annotated[dt.datetime, msgspec.Meta(tz=True)] | None = None
    #: Who asks, for the logs of all peers.
    by: Annotated[str, msgspec.Meta(max_length=REASON_MAX)] = ""


_requests = msgspec.json.Decoder(ResetRequest)


async def reset(context: Context, request: web.Request) -> web.StreamResponse:
    """Set the cluster's clock, also backwards; every peer logs who did."""
    parsed: ResetRequest = decode(_requests, await body_of(request) or b"{}")
    now = time.time_ns() // 1_000_000
    if parsed.now is not None:
        now = round(parsed.now.timestamp() * 1000)
    if now <= 0:
        raise Problem("invalid", "the clock is set to 1970 or later", pointer="/now")
    if flag(request, "dry_run"):
        return context.answer({"valid": True})
    by = f"{parsed.by or 'somebody'} ({request.remote})"
    before = await context.propose(ResetClock(now, by))
    return context.answer({"before": instant(before), "now": instant(now)})
