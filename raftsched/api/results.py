"""Results of attempts: from their rows, from this node's disk, or from the node that keeps them."""

from __future__ import annotations

from collections.abc import Iterator

from aiohttp import web

from raftsched.api.context import Context
from raftsched.api.output import CHUNK_BYTES, asked, attempt_of, fetch, number_of
from raftsched.api.problems import Problem
from raftsched.api.tasks import known_task
from raftsched.core.model import ATTEMPT_TERMINAL, Attempt, Task, result_at
from raftsched.core.state import State
from raftsched.core.workflow import ResultAt
from raftsched.peer.errors import OutputGone
from raftsched.peer.service import PeerService


async def of_task(context: Context, request: web.Request) -> web.StreamResponse:
    """What the latest attempt of a task left as its result: the JSON value itself."""
    await context.state(request)
    task = known_task(context, request.match_info["id"])
    return await _answer(context, request, _latest(context.service.state, task))


async def of_attempt(context: Context, request: web.Request) -> web.StreamResponse:
    """What an attempt left as its result: the JSON value itself."""
    number = number_of(request)
    await context.state(request)
    task = known_task(context, request.match_info["id"])
    attempt = attempt_of(context, task.id, number)
    return await _answer(context, request, _of(task.id, attempt))


async def read_result(service: PeerService, task: Task) -> bytes:
    """The JSON that a task left, wherever it is kept.  Raises Problem or OutputGone."""
    at = _latest(service.state, task)
    if not at.result_bytes:
        return at.result
    if at.node == service.config.peer_id:
        return b"".join(_pieces(service, at))
    body = bytearray()
    async with asked(service, at, _target(service, at)) as (found, pieces):
        async for piece in pieces:
            body += piece
            if len(body) > at.result_bytes:
                break
    if found.status != 200 or len(body) != at.result_bytes:
        raise Problem("output-gone", f"node {at.node} answered HTTP {found.status}")
    return bytes(body)


async def _answer(context: Context, request: web.Request, at: ResultAt) -> web.StreamResponse:
    service = context.service
    headers = {**context.headers(), "Content-Type": "application/json"}
    if not at.result_bytes:
        return web.Response(body=at.result, headers=headers)
    if at.node != service.config.peer_id:
        return await fetch(context, request, at, _target(service, at))
    pieces = _pieces(service, at)
    first = next(pieces)  # What is gone is a problem as long as nothing is said.
    response = web.StreamResponse(headers=headers)
    response.content_length = at.result_bytes
    await response.prepare(request)
    await response.write(first)
    for piece in pieces:
        await response.write(piece)
    await response.write_eof()
    return response


def _latest(state: State, task: Task) -> ResultAt:
    """Where the result of a task lies.  Raises Problem when it is nowhere."""
    at = task.result_at
    if at is None:
        if task.extra is not None and task.extra.subtasks:
            raise Problem("no-result", f"task {task.id} was split; its subtasks have the results")
        raise Problem("no-result", f"task {task.id} is {task.status} and has not run")
    if at.task_id == task.id:
        return _of(task.id, task.attempts[-1])
    what = f"attempt {at.attempt} of task {at.task_id}"
    if not at.result and not at.result_bytes:
        raise Problem("no-result", f"{what} left no result")
    if at.result_bytes and not _is_there(state, at):
        raise Problem("output-gone", f"{what} left it, and that task was deleted")
    return at


def _is_there(state: State, at: ResultAt) -> bool:
    """Is it still that task?  What its attempts left goes with it."""
    task = state.tasks.get(at.task_id)
    return task is not None and any(attempt.token == at.token for attempt in task.attempts)


def _of(task_id: str, attempt: Attempt) -> ResultAt:
    """Where the result of an attempt lies.  Raises Problem when there is none at all."""
    if attempt.result or attempt.result_bytes:
        return result_at(task_id, attempt)
    what = f"attempt {attempt.number} of task {task_id}"
    if attempt.status not in ATTEMPT_TERMINAL:
        raise Problem("no-result", f"{what} is {attempt.status} and has no result yet")
    why = f" ({attempt.reason})" if attempt.reason else ""
    raise Problem("no-result", f"{what} ended {attempt.status}{why} and left no result")


def _target(service: PeerService, at: ResultAt) -> str:
    """What its node is asked for: of the attempt as it is known here, not of one yet to come."""
    path = f"/v1/tasks/{at.task_id}/attempts/{at.attempt}/result"
    return f"{path}?consistency=local&min_index={service.state.index}"


def _pieces(service: PeerService, at: ResultAt) -> Iterator[bytes]:
    """The result from this node's disk, if it is the one that was reported.

    Raises OutputGone, mostly with the first piece.
    """
    size = at.result_bytes
    last = service.read_output(at.task_id, at.attempt, "result", size - 1, 2)
    offset = 0
    is_other = last.next_offset != size or not last.eof
    while offset < size and not is_other:
        some = min(CHUNK_BYTES, size - offset)
        data = service.read_output(at.task_id, at.attempt, "result", offset, some).data
        offset += len(data)
        is_other = not data
        if data:
            yield data
    if is_other:
        raise OutputGone(f"the result of attempt {at.attempt} of {at.task_id} is not whole")
