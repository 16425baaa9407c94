"""What is done about schedules, whoever asks: a request over HTTP, or the program around a peer.

Everything here raises Problem for what is wrong or refused, and PeerError.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import msgspec

from raftsched.api.change import Change
from raftsched.api.context import TRIES_MAX, Context, decode
from raftsched.api.defaults import merged
from raftsched.api.problems import Problem, check_seen, of_rejection, overtaken, unknown_schedule
from raftsched.api.schedule_documents import check_fields, differences, given_of, wanted_row
from raftsched.api.schedule_views import UNKNOWN
from raftsched.api.times import instant
from raftsched.core.commands import BackfillSchedule, PutSchedule
from raftsched.core.cron.slots import between
from raftsched.core.cron.texts import instants_ms
from raftsched.core.cron.timing import Fold
from raftsched.core.cron.zones import zone
from raftsched.core.handlers.runs import run_id
from raftsched.core.handlers.schedules import INSTANTS_MAX
from raftsched.core.outcomes import Reason, Rejected
from raftsched.core.reckon import timing_of
from raftsched.core.schedule import Schedule, edited_at, slot_key
from raftsched.core.state import State

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


def known_schedule(state: State, name: str) -> Schedule:
    """The row of a schedule.  Raises Problem."""
    row = state.schedules.get(name)
    if row is None:
        raise unknown_schedule(name)
    return row


async def create(
    context: Context, body: bytes, key: str, *, dry_run: bool = False
) -> Change[Schedule]:
    """Make a schedule; there must be none of its name, but what this key has made."""
    state = await context.read()
    row = wanted_row(state, "", body, context.now_ms(), None, key)
    known = state.schedules.get(row.name)
    if known is None and dry_run:
        return Change(row, "create", [])
    if known is None:
        outcome = await context.outcome(command := PutSchedule(row, is_new=True))
        if not isinstance(outcome, Rejected):
            return Change(outcome.value, "create", [])
        known = context.service.state.schedules.get(row.name)
        if outcome.reason is not Reason.SCHEDULE_EXISTS or known is None:
            raise of_rejection(outcome, command)
    if not key or known.key != key:
        raise of_rejection(Rejected(Reason.SCHEDULE_EXISTS, row.name))
    if known.version == 1 and known.document != row.document:
        raise Problem("idempotency-key-reused", "the key was used with another document")
    return Change(known, "none", [], replayed=True)


async def put(
    context: Context,
    name: str,
    body: bytes,
    if_index: int = 0,
    *,
    is_new: bool = False,
    dry_run: bool = False,
) -> Change[Schedule]:
    """Make a schedule, or replace what and when; how far it is stays.

    ``if_index``: the modify index that it must have (0: any); ``is_new``: there must be none.
    """

    def wanted(state: State) -> Schedule:
        known = state.schedules.get(name)
        row = wanted_row(state, name, body, context.now_ms(), known)
        if is_new and known is not None:
            text = f"there is a schedule {name!r}; ask without If-None-Match to replace it"
            raise Problem("modified", text)
        return row

    tries = 1 if is_new else TRIES_MAX
    return await _on_top(context, name, wanted, if_index, tries=tries, dry_run=dry_run)


async def edit(
    context: Context, name: str, patch: dict[str, Any], if_index: int = 0, *, dry_run: bool = False
) -> Change[Schedule]:
    """Change fields of a schedule (RFC 7396: None is the default again)."""
    check_fields(patch)

    def wanted(state: State) -> Schedule:
        known = known_schedule(state, name)
        try:
            body = _json.encode(merged({**given_of(known), "paused": known.paused}, patch))
        except RecursionError:
            raise Problem("invalid", "it is nested too deep", pointer="/") from None
        return wanted_row(state, known.name, body, context.now_ms(), known)

    return await _on_top(context, name, wanted, if_index, dry_run=dry_run)


async def _on_top(
    context: Context,
    name: str,
    wanted: Callable[[State], Schedule],
    if_index: int,
    *,
    tries: int = TRIES_MAX,
    dry_run: bool = False,
) -> Change[Schedule]:
    """Store a row that is made of what stands there, and again of what came between."""
    for left in reversed(range(tries)):
        row = wanted(await context.read())
        try:
            return await _put(context, row, if_index, dry_run=dry_run)
        except Problem as problem:
            if problem.code not in ("modified", "schedule-exists") or if_index or tries == 1:
                raise
            if not left:
                raise overtaken(f"schedule {name!r}", tries) from None
    raise AssertionError("the last try returns or raises")


async def _put(
    context: Context, row: Schedule, if_index: int, *, dry_run: bool = False
) -> Change[Schedule]:
    """Propose a row, unless what stands there asks for the same."""
    known = context.service.state.schedules.get(row.name)
    check_edit(row.name, known, if_index)
    fields = [] if known is None else differences(known, row)
    if dry_run:
        return Change(row, "create" if known is None else "update" if fields else "none", fields)
    if known is not None and not fields:
        return Change(known, "none", [])
    # What it does not say, such as the pause, is of what stands there, which must be so yet.
    seen = 0 if known is None else edited_at(known)
    made: Schedule = await context.propose(PutSchedule(row, seen, is_new=known is None))
    return Change(made, "update" if made.version > 1 else "create", fields)


def check_edit(name: str, known: Schedule | None, if_index: int) -> None:
    """Was it edited last at the index that it must have (0: any)?  Raises Problem."""
    check_seen(f"schedule {name!r}", 0 if known is None else edited_at(known), if_index)


async def backfill(
    context: Context, name: str, body: bytes, *, dry_run: bool = False
) -> BackfillView:
    """Run it for instants of the past that have no run, one after the other."""
    asked: BackfillRequest = decode(_backfills, body)
    state = await context.read()
    row, now = known_schedule(state, name), context.now_ms()
    due = _due(row, asked, now)
    wanted, more = due[:INSTANTS_MAX], due[INSTANTS_MAX:]
    had = {at for at in wanted if _run_of(state, row.name, at)}
    made: tuple[str, ...] = ()
    if wanted and not (asked.dry_run or dry_run):
        made = await context.propose(BackfillSchedule(row.name, row.version, wanted))
        state = context.service.state
        if context.was_unknown:
            # A try before has made some of them, or all.
            runs = [_run_of(state, row.name, at) for at in wanted if at not in had]
            made = tuple(run for run in runs if run)
        more = _left(state, row.name, wanted, made) or more
    return BackfillView([instant(at) for at in wanted], list(made), instant(more[0] if more else 0))


def _due(row: Schedule, asked: BackfillRequest, now: int) -> tuple[int, ...]:
    """The instants of a range, of which there may be one more than one command makes."""
    try:
        timing = timing_of(row.timing)
        first = _instant(asked.from_, timing.zone, "/from")
        upto = _instant(asked.to, timing.zone, "/to") - 1 if asked.to else now
        if first > upto or upto > now:
            raise Problem("invalid", "it ends after its begin, and not after now", pointer="/to")
        return between(timing, row.name, row.created_at, first - 1, upto, INSTANTS_MAX + 1)
    except UNKNOWN as error:
        raise Problem("needs-version", f"this peer cannot reckon {row.name}: {error}") from None


def _left(
    state: State, name: str, wanted: tuple[int, ...], made: tuple[str, ...]
) -> tuple[int, ...]:
    """Instants for which no run was taken; empty: all have one."""
    last = state.tasks.get(made[-1]) if made else None
    if last is None or last.extra is None:
        return ()
    behind = [at for at in wanted if at > last.extra.slot]
    return tuple(at for at in behind if not _run_of(state, name, at))


def _run_of(state: State, name: str, at: int) -> str:
    """The id of the run that an instant has, as far as that is still known; empty: none."""
    slot, task_id = state.slots.get(slot_key(name, at)), run_id(name, at)
    if slot is not None and slot.task_id:
        return slot.task_id
    return task_id if state.tasks.get(task_id) is not None else ""


def _instant(text: str, zone_name: str, pointer: str) -> int:
    try:
        return instants_ms(text, zone(zone_name), Fold.FIRST)[0]
    except ValueError as error:
        raise Problem("invalid", str(error), pointer=pointer) from None
