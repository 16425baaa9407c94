"""Routes for all tasks that pass a filter: cancel them, try them again.

Found in slices on this peer, then changed by commands that name them: what has changed meanwhile is
passed over by the state, and the answer says how many were.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import msgspec
from aiohttp import web

from raftsched.api.amending import another, retryable
from raftsched.api.context import Context, body_of, decode, flag, integer
from raftsched.api.listing import FILTERS, Scan, filter_of, instant_of
from raftsched.api.problems import Problem
from raftsched.api.tasks import REASON_CHARACTERS_MAX
from raftsched.core.commands import CancelTasks, SubmitTasks, Submitted
from raftsched.core.model import TERMINAL, Task, TaskStatus
from raftsched.core.state import State
from raftsched.peer.ids import uuid7

#: Tasks one request changes at most.
TASKS_MAX = 100_000
#: Tasks one command names.
PART_MAX = 1_000
#: Ids that the answer lists.
IDS_SHOWN_MAX = 100


class BulkRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Body of a bulk change; may be empty.  The filter is in the query, as for a list."""

    reason: str = ""


class BulkAnswer(msgspec.Struct, frozen=True):
    """What a bulk change came to."""

    #: Tasks that passed the filter and could be changed, and those that were.
    matched: int
    changed: int
    #: Of what was changed (of a retry: the new tasks), the first ones.
    ids: list[str]
    #: There may be others behind the limit.
    more: bool


_bodies = msgspec.json.Decoder(BulkRequest)


async def cancel(context: Context, request: web.Request) -> web.StreamResponse:
    """Cancel all tasks that pass the filter of the query."""
    parsed: BulkRequest = decode(_bodies, await body_of(request) or b"{}")
    reason = parsed.reason[:REASON_CHARACTERS_MAX]
    ids, more = await _asked_for(context, request, _is_open)
    changed: list[str] = []
    if not flag(request, "dry_run"):
        for part in _parts(ids):
            changed += await context.propose(CancelTasks(tuple(part), reason))
    return context.answer(BulkAnswer(len(ids), len(changed), changed[:IDS_SHOWN_MAX], more))


async def retry(context: Context, request: web.Request) -> web.StreamResponse:
    """Try all tasks again that pass the filter of the query and did not succeed."""
    decode(_bodies, await body_of(request) or b"{}")
    ids, more = await _asked_for(context, request, _may_retry)
    changed: list[str] = []
    if not flag(request, "dry_run"):
        for part in _parts(ids):
            changed += await _retry(context, context.service.state, part)
    return context.answer(BulkAnswer(len(ids), len(changed), changed[:IDS_SHOWN_MAX], more))


async def _retry(context: Context, state: State, ids: list[str]) -> list[str]:
    """Submit again what may be; ids of the new tasks."""
    by_namespace: dict[str, list[Task]] = {}
    for task_id in ids:
        task = retryable(state, task_id)
        if task is not None:
            by_namespace.setdefault(task.namespace, []).append(task)
    made: list[str] = []
    for namespace, tasks in by_namespace.items():
        new = tuple([another(task, uuid7(state.now)) for task in tasks])
        submitted: Submitted = await context.propose(SubmitTasks(new, namespace=namespace))
        passed_over = {*submitted.existing, *[at for at, _ in submitted.refused]}
        made += [i for at, i in enumerate(submitted.task_ids) if at not in passed_over]
    return made


def _is_open(task: Task) -> bool:
    return task.status not in TERMINAL and task.status is not TaskStatus.CANCELLING


def _may_retry(task: Task) -> bool:
    return task.status in TERMINAL and task.status is not TaskStatus.SUCCEEDED


def _parts(ids: list[str]) -> list[list[str]]:
    return [ids[at : at + PART_MAX] for at in range(0, len(ids), PART_MAX)]


async def _asked_for(
    context: Context, request: web.Request, is_fit: Callable[[Task], bool]
) -> tuple[list[str], bool]:
    """Ids of what passes the filter, newest first, and whether there is more behind the limit."""
    if not any(name in request.query for name in FILTERS):
        raise Problem("invalid", f"give a filter: {', '.join(FILTERS)}", pointer="?state")
    limit = integer(request, "limit", TASKS_MAX, 1, TASKS_MAX)
    passes, since = filter_of(request), instant_of(request, "since") or 0
    await context.service.read()
    return await matching(context, lambda task: is_fit(task) and passes(task), limit, since)


async def matching(
    context: Context, test: Callable[[Task], bool], limit: int, since: int = 0
) -> tuple[list[str], bool]:
    """Ids of tasks that pass, newest first, found in slices; is there more behind the limit?"""
    found: list[str] = []
    place, more = None, True
    while more and len(found) < limit:
        scan: Scan[str] = Scan(test, limit - len(found), place, since, show=_id)
        while not scan.is_done:
            async with context.scanning:
                scan.step(context.service.state)
                await asyncio.sleep(0)
        found += scan.found
        place, more = scan.place, scan.more
    return found, more


def _id(task: Task) -> str:
    return task.id
