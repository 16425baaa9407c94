"""Submitting one task, and what all submissions share: the key, the id, the row."""

from __future__ import annotations

import msgspec
from aiohttp import web

from raftsched.api import fanout
from raftsched.api.context import Context, body_of, decode, flag
from raftsched.api.defaults import with_defaults
from raftsched.api.documents import TaskRequest, to_new_task
from raftsched.api.expansion import expanded, uses_templates
from raftsched.api.forks import check_whole
from raftsched.api.problems import Problem
from raftsched.api.tasks import etag, known_task
from raftsched.api.views import task_view
from raftsched.core.commands import SubmitTasks
from raftsched.core.handlers.answers import unpack
from raftsched.core.model import NewTask
from raftsched.core.outcomes import Submitted
from raftsched.peer.ids import derived_id, request_hash

KEY_CHARACTERS_MAX = 200
#: Longest ``Prefer: wait=``.
PREFER_SECONDS_MAX = 60.0

_requests = msgspec.json.Decoder(TaskRequest)
_plain = msgspec.json.Decoder()


def key_of(request: web.Request) -> str:
    """The idempotency key; empty when there is none."""
    return checked_key(request.headers.get("Idempotency-Key", ""))


def checked_key(key: str) -> str:
    """An idempotency key, or none (empty), of which the state may keep many.  Raises Problem."""
    if len(key) > KEY_CHARACTERS_MAX or (key and not key.isprintable()):
        raise Problem(
            "invalid",
            f"at most {KEY_CHARACTERS_MAX} printable characters",
            pointer="#Idempotency-Key",
        )
    return key


def new_task(context: Context, parsed: TaskRequest, key: str, line: int) -> NewTask:
    """The row of one document, under its own id or a new one.  Raises Problem."""
    if parsed.id is not None:
        task_id = parsed.id
    elif key:
        task_id = derived_id(parsed.namespace, key, line)
    else:
        task_id = context.new_id()
    return to_new_task(parsed, task_id)


async def submit(context: Context, request: web.Request) -> web.StreamResponse:
    """Submit one task."""
    return await submit_document(context, request, await body_of(request), key_of(request))


async def submit_document(
    context: Context, request: web.Request, data: bytes, key: str
) -> web.StreamResponse:
    """Submit the task of a document, under a key or none (empty).  Raises Problem."""
    submitted = await make(context, data, key, dry_run=flag(request, "dry_run"))
    if submitted is None:
        return context.answer({"valid": True})
    return await _answer(context, request, submitted)


async def make(
    context: Context, data: bytes, key: str, *, dry_run: bool = False
) -> Submitted | None:
    """The task of a document, with all its subtasks; None: that was a dry run, and it may be made.

    Raises Problem or PeerError.
    """
    parsed: TaskRequest = decode(_requests, data)
    whole, digest = data, request_hash([_plain.decode(data)]) if key else b""
    if uses_templates(parsed):
        # A template may have been written a moment ago, through another peer.
        state = await context.read()
        try:
            parsed, whole = expanded(state, data)
        except Problem:
            # What the key did stands, whatever became of the template since.
            record = state.keys.get(f"{parsed.namespace}\0{key}") if key else None
            if record is None or record.request_hash != digest or dry_run:
                raise
            return unpack(record.answer)
    check_whole(parsed)
    parsed = with_defaults(context.service.state, parsed, whole)
    new = new_task(context, parsed, key, 0)
    in_pieces = fanout.is_in_pieces(parsed, new)
    items = await fanout.check(parsed.map, new) if in_pieces and parsed.map is not None else ()
    if dry_run:
        return None
    command = SubmitTasks((new,), namespace=parsed.namespace, key=key, request_hash=digest)
    submitted: Submitted = await context.propose(command)
    if in_pieces:
        task_id = submitted.task_ids[0]
        await fanout.push(context, task_id, len(items), fanout.of_items(new.spec, items))
    return submitted


async def _answer(
    context: Context, request: web.Request, submitted: Submitted
) -> web.StreamResponse:
    """The task that was made, now or when the key was used first."""
    task_id = submitted.task_ids[0]
    wait_seconds = _prefer_wait(request)
    if wait_seconds:
        await context.service.wait_finished(task_id, wait_seconds)
    task = known_task(context, task_id)
    headers = {"Location": f"/v1/tasks/{task_id}", "ETag": etag(task)}
    if submitted.replayed:
        headers["Idempotency-Replayed"] = "true"
    is_new = not (submitted.replayed or submitted.existing)
    return context.answer(task_view(task), 201 if is_new else 200, headers)


def _prefer_wait(request: web.Request) -> float:
    prefer = request.headers.get("Prefer", "")
    if not prefer.startswith("wait="):
        return 0.0
    try:
        return min(PREFER_SECONDS_MAX, max(0.0, float(prefer.removeprefix("wait="))))
    except ValueError:
        return 0.0
