"""Results of attempts: from their rows, from this node's disk, or from the node that keeps them."""

from __future__ import annotations

from collections.abc import Iterator

from aiohttp import web

from raftsched.api.context import Context
from raftsched.api.output import CHUNK_BYTES, asked, attempt_of, fetch, number_of
from raftsched.api.problems import Problem
from raftsched.api.tasks import known_task
from raftsched.core.model import ATTEMPT_TERMINAL, Attempt, Task
from raftsched.core.products import Product, product_of
from raftsched.core.state import State
from raftsched.peer.errors import OutputGone
from raftsched.peer.service import PeerService


async def of_task(context: Context, request: web.Request) -> web.StreamResponse:
    """What a task left as its result: the JSON value itself."""
    await context.state(request)
    task = known_task(context, request.match_info["id"])
    return await _answer(context, request, _found(context.service.state, task))


async def of_attempt(context: Context, request: web.Request) -> web.StreamResponse:
    """What an attempt left as its result: the JSON value itself."""
    number = number_of(request)
    await context.state(request)
    task = known_task(context, request.match_info["id"])
    attempt = attempt_of(context, task.id, number)
    return await _answer(context, request, _of(task.id, attempt))


async def read_result(context: Context, task: Task, number: int = 0) -> bytes:
    """The JSON that an attempt of a task left (0: the task), wherever it is kept.

    Raises Problem or OutputGone.
    """
    service = context.service
    if number:
        product = _of(task.id, attempt_of(context, task.id, number))
    else:
        product = _found(service.state, task)
    if not product.result_bytes:
        return product.result
    if product.node == service.config.peer_id:
        return b"".join(_pieces(service, product))
    body = bytearray()
    async with asked(service, product.node, _target(service, product)) as (found, pieces):
        async for piece in pieces:
            body += piece
            if len(body) > product.result_bytes:
                break
    if found.status != 200 or len(body) != product.result_bytes:
        raise Problem("output-gone", f"node {product.node} answered HTTP {found.status}")
    return bytes(body)


async def _answer(context: Context, request: web.Request, product: Product) -> web.StreamResponse:
    service = context.service
    headers = {**context.headers(), "Content-Type": "application/json"}
    if not product.result_bytes:
        return web.Response(body=product.result, headers=headers)
    if product.node != service.config.peer_id:
        return await fetch(context, request, product.node, _target(service, product))
    pieces = _pieces(service, product)
    first = next(pieces)  # What is gone is a problem as long as nothing is said.
    response = web.StreamResponse(headers=headers)
    response.content_length = product.result_bytes
    await response.prepare(request)
    await response.write(first)
    for piece in pieces:
        await response.write(piece)
    await response.write_eof()
    return response


def _found(state: State, task: Task) -> Product:
    """What a task came to, which is a result.  Raises Problem when it is nowhere."""
    product = task.product
    if product is None:
        if task.extra is not None and task.extra.subtasks:
            raise Problem("no-result", f"task {task.id} was split; its subtasks have the results")
        raise Problem("no-result", f"task {task.id} is {task.status} and has not run")
    if product.task_id == task.id:
        return _of(task.id, task.attempts[-1])
    what = f"attempt {product.attempt} of task {product.task_id}"
    if not product.result and not product.result_bytes:
        raise Problem("no-result", f"{what} succeeded in its place and left no result")
    if product.result_bytes and product.made_by(state.tasks.get(product.task_id)) is None:
        raise Problem("output-gone", f"{what} left it, and that task was deleted")
    return product


def _of(task_id: str, attempt: Attempt) -> Product:
    """What an attempt came to, which is a result.  Raises Problem when there is none at all."""
    if attempt.result or attempt.result_bytes:
        return product_of(task_id, attempt)
    what = f"attempt {attempt.number} of task {task_id}"
    if attempt.status not in ATTEMPT_TERMINAL:
        raise Problem("no-result", f"{what} is {attempt.status} and has no result yet")
    why = f" ({attempt.reason})" if attempt.reason else ""
    raise Problem("no-result", f"{what} ended {attempt.status}{why} and left no result")


def _target(service: PeerService, product: Product) -> str:
    """What its node is asked for: of the attempt as it is known here, not of one yet to come."""
    path = f"/v1/tasks/{product.task_id}/attempts/{product.attempt}/result"
    return f"{path}?consistency=local&min_index={service.state.index}"


def _pieces(service: PeerService, product: Product) -> Iterator[bytes]:
    """The result from this node's disk, if it is the one that was reported.

    Raises OutputGone, mostly with the first piece.
    """
    size, task_id, number = product.result_bytes, product.task_id, product.attempt
    last = service.read_output(task_id, number, "result", size - 1, 2)
    offset = 0
    is_other = last.next_offset != size or not last.eof
    while offset < size and not is_other:
        some = min(CHUNK_BYTES, size - offset)
        data = service.read_output(task_id, number, "result", offset, some).data
        offset += len(data)
        is_other = not data
        if data:
            yield data
    if is_other:
        raise OutputGone(f"the result of attempt {number} of {task_id} is not whole")
