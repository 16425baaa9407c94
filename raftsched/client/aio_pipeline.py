"""Single submissions of many tasks of an event loop, in few requests."""

from __future__ import annotations

import asyncio
from collections.abc import Generator, Sequence
from typing import TYPE_CHECKING, Any, Self

from raftsched.client.batches import line_of
from raftsched.client.errors import ConnectionFailed, OutcomeUnknown, WaitTimeout
from raftsched.client.gathering import LINE_BYTES_MAX, Gathering, Group
from raftsched.client.tasks import document_for

if TYPE_CHECKING:
    from raftsched.client.aio import AsyncClient, AsyncTask


class AsyncSubmission:
    """A task on its way; awaited, it is the task."""

    __slots__ = ("_client", "_group", "_position")

    def __init__(self, client: AsyncClient, group: Group[asyncio.Event], position: int) -> None:
        self._client = client
        self._group = group
        self._position = position

    def __await__(self) -> Generator[Any, None, AsyncTask]:
        return self.result().__await__()

    @property
    def is_done(self) -> bool:
        """Is there an answer, or an error?"""
        return self._group.done.is_set()

    async def result(self, timeout_seconds: float | None = None) -> AsyncTask:
        """The task, of which only the id is known.  Raises its error, or WaitTimeout."""
        if not self._group.done.is_set():
            await self._answered(timeout_seconds)
        return self._client.task_of(self._group.document(self._position))

    async def _answered(self, timeout_seconds: float | None) -> None:
        try:
            async with asyncio.timeout(timeout_seconds):
                await self._group.done.wait()
        except TimeoutError:
            raise WaitTimeout(
                f"the task was not answered within {timeout_seconds:g} s; ask again"
            ) from None


class AsyncPipeline:
    """``async with client.pipeline() as pipe: await pipe.submit(...)``; as `Pipeline`."""

    def __init__(self, client: AsyncClient, requests: int, linger_seconds: float) -> None:
        self._client = client
        self._requests = requests
        self._gathering: Gathering[asyncio.Event] = Gathering(linger_seconds, asyncio.Event)
        self._under_way: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        #: No submission is taken: it was left, or was not entered yet.
        self._is_shut = True
        #: A group was settled: there may be room, or nothing left.
        self._settled = asyncio.Event()

    async def __aenter__(self) -> Self:
        self._is_shut = False
        return self

    async def __aexit__(self, kind: object, *_: object) -> None:
        self._is_shut = True
        self._settled.set()
        if kind is not None:
            self._abandon()
        try:
            self._send()
            while not self._gathering.is_idle:
                await self._one_settled()
        finally:
            # Nothing is left, unless this was cancelled.
            self._abandon()
            under_way = list(self._under_way)
            for task in under_way:
                task.cancel()
            await asyncio.gather(*under_way, return_exceptions=True)
        if kind is None:
            self._gathering.raise_untold()

    async def submit(
        self, /, command: Sequence[str] | None = None, **fields: Any
    ) -> AsyncSubmission:
        """Create one task, as `AsyncClient.submit` does, without waiting for the answer.

        Waits for room while too many are without one.  RuntimeError outside of the block.
        """
        line = line_of(document_for(command, fields))
        while not self._is_shut and not self._gathering.has_room():
            await self._one_settled()
        if self._is_shut:
            raise RuntimeError("the pipeline was left, or was not entered yet")
        if len(line) > LINE_BYTES_MAX:
            group, position = self._gathering.refused(line), 0
            group.done.set()
        else:
            now = asyncio.get_running_loop().time()
            group, position, is_work = self._gathering.add(line, now)
            if is_work:
                self._send()
                # A caller that always finds room would keep everybody else from their turn.
                await asyncio.sleep(0)
        return AsyncSubmission(self._client, group, position)

    def _abandon(self) -> None:
        """Send nothing more."""
        if self._timer is not None:
            self._timer.cancel()
        error = ConnectionFailed("the pipeline was left before it was sent")
        for group in self._gathering.abandon(error):
            group.done.set()

    async def _one_settled(self) -> None:
        self._settled.clear()
        await self._settled.wait()

    def _send(self) -> None:
        """Send what is to be sent now, and come back when the next group has lingered."""
        loop = asyncio.get_running_loop()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while len(self._under_way) < self._requests:
            group = self._gathering.take(loop.time(), flush=self._is_shut)
            if group is None:
                left = self._gathering.seconds_left(loop.time())
                if left is not None:
                    self._timer = loop.call_later(left, self._send)
                return
            task = loop.create_task(self._carry_out(group))
            self._under_way.add(task)

    async def _carry_out(self, group: Group[asyncio.Event]) -> None:
        try:
            group.answer(await self._client.send(group.request()))
        except Exception as error:
            # Whatever it is, those who wait are told.
            group.fail(error)
        except asyncio.CancelledError:
            group.fail(OutcomeUnknown("the pipeline was cancelled while it was under way"))
            raise
        finally:
            task = asyncio.current_task()
            assert task is not None
            self._under_way.discard(task)
            self._gathering.settle(group)
            group.done.set()
            self._settled.set()
            self._send()
