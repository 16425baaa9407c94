"""Routes of one task that exists."""

from __future__ import annotations

import msgspec
from aiohttp import hdrs, web

from raftsched.api.context import Context, body_of, decode, flag, no_fields, seconds
from raftsched.api.problems import part_of_tree, task_not_terminal, task_terminal, unknown_task
from raftsched.api.views import AttemptList, attempt_view, task_view
from raftsched.core.commands import CancelTask, DeleteTask, PauseTask, ResumeTask
from raftsched.core.model import TERMINAL, Task
from raftsched.core.trees import owner_of

REASON_CHARACTERS_MAX = 500


class CancelRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Body of a cancel; may be empty."""

    reason: str = ""


_cancels = msgspec.json.Decoder(CancelRequest)


def known_task(context: Context, task_id: str) -> Task:
    """The task as applied here; a problem when it is not there."""
    task = context.service.state.tasks.get(task_id)
    if task is None:
        raise unknown_task(task_id)
    return task


def etag(task: Task) -> str:
    """The tag of a task: every change of its row has an index of its own."""
    return f'"{task.modify_index}"'


def is_held(request: web.Request, modify_index: int) -> bool:
    """Does the caller of a GET have the row as it is (RFC 9110, section 13.1.2)?"""
    if hdrs.IF_NONE_MATCH not in request.headers or request.method != "GET":
        return False
    held = {held.value for held in request.if_none_match or ()}
    return not held.isdisjoint(("*", str(modify_index)))


def _shown(context: Context, request: web.Request, task: Task) -> web.Response:
    """The task, or 304 when the caller of a GET has it as it is."""
    tag = etag(task)
    if is_held(request, task.modify_index):
        return web.Response(status=304, headers={**context.headers(), "ETag": tag})
    return context.answer(task_view(task), headers={"ETag": tag})


async def get(context: Context, request: web.Request) -> web.StreamResponse:
    """One task."""
    task_id = request.match_info["id"]
    await context.state(request, task_id)
    return _shown(context, request, known_task(context, task_id))


async def wait(context: Context, request: web.Request) -> web.StreamResponse:
    """One task once it has ended, or as it is at the timeout."""
    await context.state(request)
    task_id = request.match_info["id"]
    known_task(context, task_id)
    await context.service.wait_finished(task_id, seconds(request, "wait", 30.0))
    return _shown(context, request, known_task(context, task_id))


async def attempts(context: Context, request: web.Request) -> web.StreamResponse:
    """All attempts of a task, oldest first."""
    task_id = request.match_info["id"]
    await context.state(request, task_id)
    task = known_task(context, task_id)
    return context.answer(AttemptList([attempt_view(task_id, row) for row in task.attempts]))


async def cancel(context: Context, request: web.Request) -> web.StreamResponse:
    """Cancel a task."""
    parsed: CancelRequest = decode(_cancels, await body_of(request) or b"{}")
    reason = parsed.reason[:REASON_CHARACTERS_MAX]
    return await _verb(context, request, CancelTask(request.match_info["id"], reason))


async def pause(context: Context, request: web.Request) -> web.StreamResponse:
    """Keep a task from being assigned."""
    await no_fields(request)
    return await _verb(context, request, PauseTask(request.match_info["id"]))


async def resume(context: Context, request: web.Request) -> web.StreamResponse:
    """Undo a pause."""
    await no_fields(request)
    return await _verb(context, request, ResumeTask(request.match_info["id"]))


async def _verb(
    context: Context, request: web.Request, command: CancelTask | PauseTask | ResumeTask
) -> web.Response:
    if flag(request, "dry_run"):
        await context.service.read()
        task = known_task(context, command.task_id)
        if task.status in TERMINAL:
            raise task_terminal(command, task.status.value)
        return context.answer({"valid": True})
    await context.propose(command)
    return _shown(context, request, known_task(context, command.task_id))


async def delete(context: Context, request: web.Request) -> web.StreamResponse:
    """Remove a task that has ended."""
    if request.can_read_body:
        await no_fields(request)
    task_id = request.match_info["id"]
    if flag(request, "dry_run"):
        await context.service.read()
        task = known_task(context, task_id)
        if task.status not in TERMINAL:
            raise task_not_terminal(task_id, task.status.value)
        if owner_of(task):
            raise part_of_tree(task_id, owner_of(task))
        return context.answer({"valid": True})
    await delete_task(context, task_id)
    return web.Response(status=204, headers=context.headers())


async def delete_task(context: Context, task_id: str) -> None:
    """Remove a task that has ended.  Raises Problem or PeerError."""
    # One that has very many subtasks goes in pieces.
    while await context.propose(DeleteTask(task_id)):
        pass
