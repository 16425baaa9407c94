"""Routes of schedules: what is to run again and again."""

from __future__ import annotations

from typing import Any

import msgspec
from aiohttp import hdrs, web

from raftsched.api import scheduling
from raftsched.api.amending import if_match
from raftsched.api.change import Change
from raftsched.api.context import Context, body_of, decode, flag, integer, no_fields
from raftsched.api.pages import page_by_name
from raftsched.api.schedule_views import (
    SchedulePage,
    ScheduleView,
    SlotPage,
    schedule_view,
    slot_views,
)
from raftsched.api.scheduling import check_edit, known_schedule
from raftsched.api.submission import key_of
from raftsched.api.tasks import etag, known_task
from raftsched.api.views import task_view
from raftsched.core.commands import DeleteSchedule, PauseSchedule, TriggerSchedule
from raftsched.core.outcomes import Submitted
from raftsched.core.schedule import edited_at
from raftsched.core.state import State

_plain = msgspec.json.Decoder(dict[str, Any])


def _answer(context: Context, name: str, status: int = 200, **headers: str) -> web.Response:
    row = known_schedule(context.service.state, name)
    headers["ETag"] = f'"{edited_at(row)}"'
    return context.answer(schedule_view(context.service.state, row), status, headers)


async def listing(context: Context, request: web.Request) -> web.StreamResponse:
    """Schedules, by name."""
    return context.answer(SchedulePage(*await page_by_name(context, request, _names, _view)))


def _names(state: State) -> list[str]:
    return [name for name, _ in state.schedules.items()]


def _view(state: State, name: str) -> ScheduleView | None:
    row = state.schedules.get(name)
    return None if row is None else schedule_view(state, row)


async def get(context: Context, request: web.Request) -> web.StreamResponse:
    """One schedule."""
    await context.state(request)
    return _answer(context, request.match_info["name"])


async def create(context: Context, request: web.Request) -> web.StreamResponse:
    """Make a schedule; there must be none of its name."""
    body, key, dry_run = await body_of(request), key_of(request), _is_dry(request)
    change = await scheduling.create(context, body, key, dry_run=dry_run)
    name = change.row.name
    headers = {"Location": f"/v1/schedules/{name}"}
    if change.replayed:
        return _answer(context, name, 200, **headers, **{"Idempotency-Replayed": "true"})
    if dry_run:
        return context.answer(change.plan())
    return _answer(context, name, 201, **headers)


async def put(context: Context, request: web.Request) -> web.StreamResponse:
    """Make a schedule, or replace what and when; how far it is stays."""
    body, name, dry_run = await body_of(request), request.match_info["name"], _is_dry(request)
    is_new = request.headers.get(hdrs.IF_NONE_MATCH, "").strip() == "*"
    change = await scheduling.put(
        context, name, body, if_match(request), is_new=is_new, dry_run=dry_run
    )
    return _changed(context, change, dry_run)


async def edit(context: Context, request: web.Request) -> web.StreamResponse:
    """Change fields of a schedule (RFC 7396: null is the default again)."""
    patch, dry_run = decode(_plain, await body_of(request)), _is_dry(request)
    name, wanted = request.match_info["name"], if_match(request)
    change = await scheduling.edit(context, name, patch, wanted, dry_run=dry_run)
    return _changed(context, change, dry_run)


def _is_dry(request: web.Request) -> bool:
    return flag(request, "dry_run")


def _changed(context: Context, change: Change[Any], dry_run: bool) -> web.Response:
    if dry_run:
        return context.answer(change.plan())
    name = change.row.name
    if change.action != "create":
        return _answer(context, name)
    return _answer(context, name, 201, Location=f"/v1/schedules/{name}")


async def delete(context: Context, request: web.Request) -> web.StreamResponse:
    """Remove a schedule; its tasks stay, or are told to end."""
    if request.can_read_body:
        await no_fields(request)
    name, ends_tasks, wanted = request.match_info["name"], flag(request, "tasks"), if_match(request)
    if _is_dry(request):
        state = await context.read()
        check_edit(name, known_schedule(state, name), wanted)
        count = len(state.firings.runs_of(name)) if ends_tasks else 0
        return context.answer({"valid": True, "tasks": count})
    await context.propose(DeleteSchedule(name, ends_tasks, wanted))
    return web.Response(status=204, headers=context.headers())


async def pause(context: Context, request: web.Request) -> web.StreamResponse:
    """Nothing of it fires until it is resumed; what runs goes on."""
    return await _set_paused(context, request, True)


async def resume(context: Context, request: web.Request) -> web.StreamResponse:
    """Undo a pause: what was due meanwhile does not run."""
    return await _set_paused(context, request, False)


async def _set_paused(context: Context, request: web.Request, paused: bool) -> web.Response:
    await no_fields(request)
    name = request.match_info["name"]
    if _is_dry(request):
        known_schedule(await context.read(), name)
        return context.answer({"valid": True})
    await context.propose(PauseSchedule(name, paused))
    return _answer(context, name)


async def trigger(context: Context, request: web.Request) -> web.StreamResponse:
    """Run it now, beside its instants and whatever runs of it."""
    await no_fields(request)
    name = request.match_info["name"]
    if _is_dry(request):
        known_schedule(await context.read(), name)
        return context.answer({"valid": True})
    submitted: Submitted = await context.propose(TriggerSchedule(name, key_of(request)))
    task_id = submitted.task_ids[0]
    task = known_task(context, task_id)
    headers = {"Location": f"/v1/tasks/{task_id}", "ETag": etag(task)}
    if submitted.replayed:
        headers["Idempotency-Replayed"] = "true"
    return context.answer(task_view(task), 200 if submitted.replayed else 201, headers)


async def slots(context: Context, request: web.Request) -> web.StreamResponse:
    """What became of the instants of a schedule, the latest first."""
    limit = integer(request, "limit", 50, 1, 1000)
    before = integer(request, "cursor", 1 << 62, 0, 1 << 62)
    state = await context.state(request)
    row = known_schedule(state, request.match_info["name"])
    found = [(order, view) for order, view in slot_views(state, row.name) if order < before]
    following = str(found[limit - 1][0]) if len(found) > limit else None
    return context.answer(SlotPage([view for _, view in found[:limit]], following, state.index))


async def backfill(context: Context, request: web.Request) -> web.StreamResponse:
    """Run it for instants of the past that have no run, one after the other."""
    body, name = await body_of(request) or b"{}", request.match_info["name"]
    return context.answer(await scheduling.backfill(context, name, body, dry_run=_is_dry(request)))
