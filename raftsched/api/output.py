"""Output of attempts: read here, or fetched from the node that has it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator

import aiohttp
from aiohttp import web

from raftsched.api.context import Context, flag, integer
from raftsched.api.problems import CATALOGUE, Problem, unknown_task
from raftsched.core.model import ATTEMPT_TERMINAL, Attempt, Node
from raftsched.peer.errors import OutputGone
from raftsched.peer.service import PeerService

#: Bytes read at once.
CHUNK_BYTES = 64 * 1024
#: A followed file is looked at this often.
FOLLOW_SECONDS = 0.1
#: Another node begins its answer within this time.
CONNECT_SECONDS = 2.0
HEAD_SECONDS = 10.0
#: A program may write nothing for hours, so silence says nothing of its node: after this much of it
#: the node is asked whether it lives, and given as long for its answer.
SILENCE_SECONDS = 5.0


def number_of(request: web.Request) -> int:
    """Which attempt the address names.  Raises Problem."""
    try:
        return int(request.match_info["number"])
    except ValueError:
        raise Problem("not-found", "attempts have numbers") from None


def attempt_of(context: Context, task_id: str, number: int) -> Attempt:
    """The row of an attempt as applied here.  Raises Problem."""
    task = context.service.state.tasks.get(task_id)
    for row in task.attempts if task is not None else ():
        if row.number == number:
            return row
    if task is None:
        raise unknown_task(task_id)
    raise Problem("unknown-task", f"task {task_id!r} has no attempt {number}")


async def output(context: Context, request: web.Request) -> web.StreamResponse:
    """What an attempt wrote, stdout and stderr as they came."""
    if request.query.get("stream", "combined") not in ("combined", ""):
        raise Problem("invalid", "this version keeps both streams together", pointer="?stream")
    task_id = request.match_info["id"]
    number = number_of(request)
    await context.state(request)
    attempt = attempt_of(context, task_id, number)
    if attempt.node != context.service.config.peer_id:
        return await fetch(context, request, attempt.node, str(request.rel_url))
    follow = flag(request, "follow")
    tail = integer(request, "tail", 0, 0, 1 << 40)
    offset = -tail if tail else integer(request, "offset", 0, 0, 1 << 60)
    response = web.StreamResponse(headers=context.headers())
    response.content_type = "application/octet-stream"
    async for start, data in written(context, task_id, number, offset, follow=follow):
        if not response.prepared:
            response.headers["Raftsched-Output-Offset"] = str(start)
            await response.prepare(request)
        if data:
            await response.write(data)
    await response.write_eof()
    return response


async def written(
    context: Context, task_id: str, number: int, offset: int, *, follow: bool
) -> AsyncIterator[tuple[int, bytes]]:
    """What an attempt wrote that ran here, each piece with its offset; there is always a first.

    ``offset``: where it begins, from the end if negative.  Raises Problem or OutputGone.
    """
    is_first = True
    while True:
        attempt = attempt_of(context, task_id, number)
        ended = attempt.status in ATTEMPT_TERMINAL
        try:
            chunk = context.service.read_output(task_id, number, "out", offset, CHUNK_BYTES)
            data, eof = chunk.data, chunk.eof
            start, offset = chunk.next_offset - len(data), chunk.next_offset
        except OutputGone:
            if attempt.output_bytes:
                raise
            data, eof, start = b"", True, max(0, offset)
        if data or is_first:
            is_first = False
            yield start, data
        if not data:
            if eof and (ended or not follow):
                return
            await asyncio.sleep(FOLLOW_SECONDS)


async def fetch(
    context: Context, request: web.Request, node_id: str, target: str
) -> web.StreamResponse:
    """Answer with what the node that ran an attempt says to a GET.  Raises Problem."""
    if "Raftsched-Forwarded" in request.headers:
        raise Problem("output-gone", f"node {node_id} does not have it")
    async with asked(context.service, node_id, target) as (found, pieces):
        return await _pass_on(context, request, pieces, found)


@contextlib.asynccontextmanager
async def asked(
    service: PeerService, node_id: str, target: str
) -> AsyncIterator[tuple[aiohttp.ClientResponse, AsyncIterator[bytes]]]:
    """The answer of the node that ran an attempt to a GET, and its body as it comes.

    Raises Problem, also while the body is read.
    """
    node = service.state.nodes.get(node_id)
    if node is None:
        raise Problem("output-gone", f"node {node_id} is not known any more")
    headers = {
        "Authorization": f"Bearer {service.config.token}",
        "Raftsched-Forwarded": service.config.peer_id,
    }
    timeout = aiohttp.ClientTimeout(total=None, connect=CONNECT_SECONDS)
    async with aiohttp.ClientSession(timeout=timeout) as session:
        with _trouble_of(node):
            async with asyncio.timeout(HEAD_SECONDS):
                found = await session.get(f"{node.address}{target}", headers=headers)
        async with found:
            yield found, _pieces(session, node, found)


async def refusal_of(found: aiohttp.ClientResponse) -> Problem:
    """What another node answered instead of the output, as a problem."""
    try:
        document = await found.json(content_type=None)
        code, text = str(document["code"]), str(document["detail"])
    except (aiohttp.ClientError, ValueError, KeyError, TypeError):
        code, text = "", ""
    if code not in CATALOGUE:
        return Problem("output-gone", f"its node answered HTTP {found.status}")
    return Problem(code, text)


@contextlib.contextmanager
def _trouble_of(node: Node) -> Iterator[None]:
    """Trouble with the other node as a problem; trouble with our caller is none of its."""
    try:
        yield
    except (aiohttp.ClientError, TimeoutError) as error:
        why = str(error) or type(error).__name__
        raise Problem(
            "node-unreachable", f"node {node.id} at {node.address} has it: {why}"
        ) from error


async def _pieces(
    session: aiohttp.ClientSession, node: Node, found: aiohttp.ClientResponse
) -> AsyncIterator[bytes]:
    """The body as it comes, for as long as its node lives."""
    while True:
        with _trouble_of(node):
            try:
                async with asyncio.timeout(SILENCE_SECONDS):
                    data = await found.content.readany()
            except TimeoutError:
                # Of a stopped process the kernel would keep the connection for ever.
                async with (
                    asyncio.timeout(SILENCE_SECONDS),
                    session.get(f"{node.address}/health/live"),
                ):
                    continue
        if not data:
            return
        yield data


async def _pass_on(
    context: Context,
    request: web.Request,
    pieces: AsyncIterator[bytes],
    found: aiohttp.ClientResponse,
) -> web.StreamResponse:
    kept = {**context.headers()}
    for name in ("Raftsched-Output-Offset", "Retry-After"):
        if name in found.headers:
            kept[name] = found.headers[name]
    response = web.StreamResponse(status=found.status, headers=kept)
    response.content_type = found.content_type
    response.content_length = found.content_length
    await response.prepare(request)
    async for data in pieces:
        await response.write(data)
    await response.write_eof()
    return response
