"""Routes of schedules: what is to run again and again."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

import msgspec
from aiohttp import hdrs, web

from raftsched.api.amending import if_match
from raftsched.api.context import Context, body_of, decode, flag, integer, no_fields
from raftsched.api.defaults import merged
from raftsched.api.problems import Problem, modified, of_rejection, unknown_schedule
from raftsched.api.schedule_documents import check_fields, differences, given_of, wanted_row
from raftsched.api.schedule_views import (
    UNKNOWN,
    SchedulePage,
    SlotPage,
    schedule_view,
    slot_views,
)
from raftsched.api.submission import key_of
from raftsched.api.tasks import etag, known_task
from raftsched.api.times import instant
from raftsched.api.views import task_view
from raftsched.core.commands import (
    BackfillSchedule,
    DeleteSchedule,
    PauseSchedule,
    PutSchedule,
    TriggerSchedule,
)
from raftsched.core.cron.slots import between
from raftsched.core.cron.texts import instants_ms
from raftsched.core.cron.timing import Fold
from raftsched.core.cron.zones import zone
from raftsched.core.handlers.runs import run_id
from raftsched.core.handlers.schedules import INSTANTS_MAX
from raftsched.core.outcomes import Reason, Rejected, Submitted
from raftsched.core.reckon import timing_of
from raftsched.core.schedule import Schedule, edited_at, slot_key

#: A change of a schedule that somebody else changes meanwhile is tried so often.
TRIES_MAX = 5
#: Schedules of a page that are shown before everything else has its turn.
SLICE_ROWS = 100

_Text = Annotated[str, msgspec.Meta(max_length=100)]


class BackfillRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which instants are to run: from one on, and before the other."""

    from_: _Text = msgspec.field(name="from")
    #: Not said: now.
    to: _Text = ""
    dry_run: bool = False


class BackfillView(msgspec.Struct, frozen=True):
    """What became of a backfill."""

    #: Instants that were due in the range, the first 1,000.
    instants: list[str | None]
    #: Those of the tasks that were made; instants that have a run are passed over.
    tasks: list[str]
    #: From here on there is more to do; null: there is not.
    next_from: str | None


_plain = msgspec.json.Decoder(dict[str, Any])
_backfills = msgspec.json.Decoder(BackfillRequest)
_json = msgspec.json.Encoder()


def known_schedule(context: Context, request: web.Request) -> Schedule:
    """The row of the schedule that the address names.  Raises Problem."""
    name = request.match_info["name"]
    row = context.service.state.schedules.get(name)
    if row is None:
        raise unknown_schedule(name)
    return row


def _answer(context: Context, name: str, status: int = 200, **headers: str) -> web.Response:
    row = context.service.state.schedules.get(name)
    if row is None:
        raise unknown_schedule(name)
    headers["ETag"] = f'"{edited_at(row)}"'
    return context.answer(schedule_view(context.service.state, row), status, headers)


async def listing(context: Context, request: web.Request) -> web.StreamResponse:
    """Schedules, by name."""
    limit, after = integer(request, "limit", 50, 1, 1000), request.query.get("cursor", "")
    state = await context.state(request)
    index = state.index
    names = sorted(name for name, _ in state.schedules.items() if name > after)
    items = []
    for number, name in enumerate(names[:limit]):
        row = state.schedules.get(name)
        if row is not None:
            items.append(schedule_view(state, row))
        if number % SLICE_ROWS == SLICE_ROWS - 1:
            await asyncio.sleep(0)
    following = names[limit - 1] if len(names) > limit else None
    return context.answer(SchedulePage(items, following, index))


async def get(context: Context, request: web.Request) -> web.StreamResponse:
    """One schedule."""
    await context.state(request)
    return _answer(context, request.match_info["name"])


async def create(context: Context, request: web.Request) -> web.StreamResponse:
    """Make a schedule; there must be none of its name."""
    body, key = await body_of(request), key_of(request)
    state = await context.service.read()
    row = wanted_row(state, "", body, context.now_ms(), None, key)
    known = state.schedules.get(row.name)
    if known is None and flag(request, "dry_run"):
        return context.answer({"valid": True, "action": "create", "fields": []})
    if known is None:
        outcome = await context.service.propose(command := PutSchedule(row, is_new=True))
        known = state.schedules.get(row.name)
        if not isinstance(outcome, Rejected):
            return _answer(context, row.name, 201, Location=f"/v1/schedules/{row.name}")
        if outcome.reason is not Reason.SCHEDULE_EXISTS or known is None:
            raise of_rejection(outcome, command)
    if not key or known.key != key:
        raise of_rejection(Rejected(Reason.SCHEDULE_EXISTS, row.name))
    if known.version == 1 and known.document != row.document:
        raise Problem("idempotency-key-reused", "the key was used with another document")
    headers = {"Location": f"/v1/schedules/{row.name}", "Idempotency-Replayed": "true"}
    return _answer(context, row.name, 200, **headers)


async def put(context: Context, request: web.Request) -> web.StreamResponse:
    """Make a schedule, or replace what and when; how far it is stays."""
    body, name = await body_of(request), request.match_info["name"]
    state = await context.service.read()
    known = state.schedules.get(name)
    row = wanted_row(state, name, body, context.now_ms(), known)
    is_new = request.headers.get(hdrs.IF_NONE_MATCH, "").strip() == "*"
    if is_new and known is not None:
        text = f"there is a schedule {name!r}; ask without If-None-Match to replace it"
        raise Problem("modified", text)
    return await _put(context, request, row, if_match(request), is_new=is_new)


async def edit(context: Context, request: web.Request) -> web.StreamResponse:
    """Change fields of a schedule (RFC 7396: null is the default again)."""
    patch, wanted = decode(_plain, await body_of(request)), if_match(request)
    check_fields(patch)
    for left in reversed(range(TRIES_MAX)):
        await context.service.read()
        known = known_schedule(context, request)
        try:
            body = _json.encode(merged({**given_of(known), "paused": known.paused}, patch))
        except RecursionError:
            raise Problem("invalid", "it is nested too deep", pointer="/") from None
        row = wanted_row(context.service.state, known.name, body, context.now_ms(), known)
        try:
            # What the patch was merged into must still stand there.
            return await _put(context, request, row, wanted or edited_at(known))
        except Problem as problem:
            # It goes on top of what somebody else changed meanwhile.
            if problem.code != "modified" or wanted or not left:
                raise
    raise AssertionError("the last try returns or raises")


async def _put(
    context: Context, request: web.Request, row: Schedule, if_index: int, *, is_new: bool = False
) -> web.Response:
    """Propose a row, unless what stands there asks for the same."""
    known = context.service.state.schedules.get(row.name)
    stands = 0 if known is None else edited_at(known)
    if if_index and stands != if_index:
        raise modified(f"schedule {row.name!r}", stands, if_index)
    fields = [] if known is None else differences(known, row)
    if flag(request, "dry_run"):
        action = "create" if known is None else "update" if fields else "none"
        return context.answer({"valid": True, "action": action, "fields": fields})
    if known is not None and not fields:
        return _answer(context, row.name)
    made: Schedule = await context.propose(PutSchedule(row, if_index, is_new))
    if made.version > 1:
        return _answer(context, row.name)
    return _answer(context, row.name, 201, Location=f"/v1/schedules/{row.name}")


async def delete(context: Context, request: web.Request) -> web.StreamResponse:
    """Remove a schedule; its tasks stay, or are told to end."""
    if request.can_read_body:
        await no_fields(request)
    name, ends_tasks, wanted = request.match_info["name"], flag(request, "tasks"), if_match(request)
    if flag(request, "dry_run"):
        state = await context.service.read()
        row = known_schedule(context, request)
        if wanted and edited_at(row) != wanted:
            raise modified(f"schedule {name!r}", edited_at(row), wanted)
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
    if flag(request, "dry_run"):
        await context.service.read()
        known_schedule(context, request)
        return context.answer({"valid": True})
    await context.propose(PauseSchedule(request.match_info["name"], paused))
    return _answer(context, request.match_info["name"])


async def trigger(context: Context, request: web.Request) -> web.StreamResponse:
    """Run it now, beside its instants and whatever runs of it."""
    await no_fields(request)
    if flag(request, "dry_run"):
        await context.service.read()
        known_schedule(context, request)
        return context.answer({"valid": True})
    command = TriggerSchedule(request.match_info["name"], key_of(request))
    submitted: Submitted = await context.propose(command)
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
    row = known_schedule(context, request)
    found = [(order, view) for order, view in slot_views(state, row.name) if order < before]
    following = str(found[limit - 1][0]) if len(found) > limit else None
    return context.answer(SlotPage([view for _, view in found[:limit]], following, state.index))


async def backfill(context: Context, request: web.Request) -> web.StreamResponse:
    """Run it for instants of the past that have no run, one after the other."""
    asked: BackfillRequest = decode(_backfills, await body_of(request) or b"{}")
    await context.service.read()
    row = known_schedule(context, request)
    now = context.now_ms()
    try:
        timing = timing_of(row.timing)
        first = _instant(asked.from_, timing.zone, "/from")
        upto = _instant(asked.to, timing.zone, "/to") - 1 if asked.to else now
        if first > upto or upto > now:
            raise Problem("invalid", "it ends after its begin, and not after now", pointer="/to")
        due = between(timing, row.name, row.created_at, first - 1, upto, INSTANTS_MAX + 1)
    except UNKNOWN as error:
        raise Problem("needs-version", f"this peer cannot reckon {row.name}: {error}") from None
    wanted, more = due[:INSTANTS_MAX], due[INSTANTS_MAX:]
    made: tuple[str, ...] = ()
    if wanted and not (asked.dry_run or flag(request, "dry_run")):
        made = await context.propose(BackfillSchedule(row.name, row.version, wanted))
        more = _left(context, row.name, wanted, made) or more
    view = BackfillView([instant(at) for at in wanted], list(made), instant(more[0] if more else 0))
    return context.answer(view)


def _left(
    context: Context, name: str, wanted: tuple[int, ...], made: tuple[str, ...]
) -> tuple[int, ...]:
    """Instants for which no run was taken; empty: all have one."""
    state = context.service.state
    last = state.tasks.get(made[-1]) if made else None
    if last is None or last.extra is None:
        return ()
    behind = [at for at in wanted if at > last.extra.slot]
    without = [at for at in behind if state.tasks.get(run_id(name, at)) is None]
    slots = [(at, state.slots.get(slot_key(name, at))) for at in without]
    return tuple(at for at, slot in slots if slot is None or not slot.task_id)


def _instant(text: str, zone_name: str, pointer: str) -> int:
    try:
        return instants_ms(text, zone(zone_name), Fold.FIRST)[0]
    except ValueError as error:
        raise Problem("invalid", str(error), pointer=pointer) from None
