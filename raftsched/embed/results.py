"""What tasks left behind, of a peer in a program: results and output, whichever node has them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

from raftsched.api.output import asked, attempt_of, refusal_of, written
from raftsched.api.problems import Problem
from raftsched.api.results import read_result
from raftsched.api.tasks import known_task
from raftsched.client.tasks import Following
from raftsched.embed.calling import CALL_SECONDS, Call, Calling


class Results(Calling):
    """The calls about results and output."""

    async def result(
        self,
        task_id: str,
        attempt: int | None = None,
        *,
        timeout_seconds: float = CALL_SECONDS,
    ) -> Any:
        """What a task left as its result, decoded (None: of the latest attempt).

        Raises KeyError if the task is unknown, LookupError if it left none or has not ended,
        OutputGone when the node that keeps it does not answer or has swept it away, TimeoutError
        or PeerError.
        """
        data = await self.result_json(task_id, attempt, timeout_seconds=timeout_seconds)
        # A large one takes a while, which others need not wait for.
        return await asyncio.to_thread(json.loads, data)

    async def result_json(
        self,
        task_id: str,
        attempt: int | None = None,
        *,
        timeout_seconds: float = CALL_SECONDS,
    ) -> bytes:
        """The same as JSON, byte for byte as it was left."""
        with self._calling(timeout_seconds) as call:
            await call.read()
            async with asyncio.timeout(max(0.0, call.left)):
                return await read_result(call, known_task(call, task_id), attempt or 0)

    async def output(
        self,
        task_id: str,
        attempt: int | None = None,
        *,
        follow: bool = False,
        offset: int = 0,
        tail: int | None = None,
        timeout_seconds: float = CALL_SECONDS,
    ) -> AsyncGenerator[bytes, None]:
        """An attempt's output piece by piece (None: the latest attempt), from ``offset`` on.

        ``tail``: only so many bytes of the end.  ``follow`` goes on until the attempt has ended.
        ``timeout_seconds`` is for the question whether there is one.  Raises KeyError, OutputGone
        when it was rotated away or its node does not answer, or PeerError.
        """
        with self._calling(timeout_seconds) as call:
            await call.read()
            number = attempt or known_task(call, task_id).attempt
            if not number:
                return
            if attempt_of(call, task_id, number).node == self.config.peer_id:
                begin = -tail if tail else offset
                pieces = _here(call, task_id, number, begin, follow=follow)
            else:
                following = Following(task_id, number, follow=follow, offset=offset, tail=tail)
                pieces = _there(call, task_id, number, following)
            async for piece in pieces:
                yield piece


async def _here(
    call: Call, task_id: str, number: int, offset: int, *, follow: bool
) -> AsyncIterator[bytes]:
    async for _, data in written(call, task_id, number, offset, follow=follow):
        if data:
            yield data


async def _there(
    call: Call, task_id: str, number: int, following: Following
) -> AsyncIterator[bytes]:
    """From the node that ran it, over broken connections.  Raises Problem."""
    while True:
        node = attempt_of(call, task_id, number).node
        target = following.request().target
        try:
            async with asked(call.service, node, target) as (found, pieces):
                if found.status != 200:
                    raise await refusal_of(found)
                following.begin(found.headers)
                async for piece in pieces:
                    yield following.take(piece)
                return
        except Problem as problem:
            if problem.code != "node-unreachable" or not following.may_go_on():
                raise
