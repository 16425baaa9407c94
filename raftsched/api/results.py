"""Results of attempts: from their rows, from this node's disk, or from the node that keeps them."""

from __future__ import annotations

from collections.abc import Iterator

from aiohttp import web

from raftsched.api.context import Context
from raftsched.api.output import CHUNK_BYTES, asked, attempt_of, fetch, number_of
from raftsched.api.problems import Problem
from raftsched.api.tasks import known_task
from raftsched.core.model import ATTEMPT_TERMINAL, Attempt, Task
from raftsched.peer.errors import OutputGone
from raftsched.peer.service import PeerService


async def of_task(context: Context, request: web.Request) -> web.StreamResponse:
    """What the latest attempt of a task left as its result: the JSON value itself."""
    await context.state(request)
    task = known_task(context, request.match_info["id"])
    return await _answer(context, request, task, _latest(task))


async def of_attempt(context: Context, request: web.Request) -> web.StreamResponse:
    """What an attempt left as its result: the JSON value itself."""
    number = number_of(request)
    await context.state(request)
    task = known_task(context, request.match_info["id"])
    return await _answer(context, request, task, attempt_of(context, task.id, number))


async def read_result(service: PeerService, task: Task) -> bytes:
    """The JSON that a task left, wherever it is kept.  Raises Problem or OutputGone."""
    attempt = _latest(task)
    if not attempt.result_bytes:
        return _inline(task, attempt)
    if attempt.node == service.config.peer_id:
        return b"".join(_pieces(service, task, attempt))
    body = bytearray()
    async with asked(service, attempt, _target(service, task, attempt)) as (found, pieces):
        async for piece in pieces:
            body += piece
            if len(body) > attempt.result_bytes:
                break
    if found.status != 200 or len(body) != attempt.result_bytes:
        raise Problem("output-gone", f"node {attempt.node} answered HTTP {found.status}")
    return bytes(body)


async def _answer(
    context: Context, request: web.Request, task: Task, attempt: Attempt
) -> web.StreamResponse:
    service = context.service
    headers = {**context.headers(), "Content-Type": "application/json"}
    if not attempt.result_bytes:
        return web.Response(body=_inline(task, attempt), headers=headers)
    if attempt.node != service.config.peer_id:
        return await fetch(context, request, attempt, _target(service, task, attempt))
    pieces = _pieces(service, task, attempt)
    first = next(pieces)  # What is gone is a problem as long as nothing is said.
    response = web.StreamResponse(headers=headers)
    response.content_length = attempt.result_bytes
    await response.prepare(request)
    await response.write(first)
    for piece in pieces:
        await response.write(piece)
    await response.write_eof()
    return response


def _latest(task: Task) -> Attempt:
    if not task.attempts:
        if task.extra is not None and task.extra.subtasks:
            raise Problem("no-result", f"task {task.id} was split; its subtasks have the results")
        raise Problem("no-result", f"task {task.id} is {task.status} and has not run")
    return task.attempts[-1]


def _inline(task: Task, attempt: Attempt) -> bytes:
    """The result that is in the row.  Raises Problem when there is none at all."""
    if attempt.result:
        return attempt.result
    what = f"attempt {attempt.number} of task {task.id}"
    if attempt.status not in ATTEMPT_TERMINAL:
        raise Problem("no-result", f"{what} is {attempt.status} and has no result yet")
    why = f" ({attempt.reason})" if attempt.reason else ""
    raise Problem("no-result", f"{what} ended {attempt.status}{why} and left no result")


def _target(service: PeerService, task: Task, attempt: Attempt) -> str:
    """What its node is asked for: of the attempt as it is known here, not of one yet to come."""
    path = f"/v1/tasks/{task.id}/attempts/{attempt.number}/result"
    return f"{path}?consistency=local&min_index={service.state.index}"


def _pieces(service: PeerService, task: Task, attempt: Attempt) -> Iterator[bytes]:
    """The result from this node's disk, if it is the one that was reported.

    Raises OutputGone, mostly with the first piece.
    """
    size = attempt.result_bytes
    last = service.read_output(task.id, attempt.number, "result", size - 1, 2)
    offset = 0
    is_other = last.next_offset != size or not last.eof
    while offset < size and not is_other:
        some = min(CHUNK_BYTES, size - offset)
        data = service.read_output(task.id, attempt.number, "result", offset, some).data
        offset += len(data)
        is_other = not data
        if data:
            yield data
    if is_other:
        raise OutputGone(f"the result of attempt {attempt.number} of {task.id} is not whole")
