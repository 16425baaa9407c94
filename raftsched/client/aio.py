"""The asynchronous client: the calls of `Client`, awaited, on aiohttp.

    from raftsched.client import AsyncClient

    async with AsyncClient() as client:
        task = await client.submit(["/usr/bin/true"])
        print((await task.wait())["state"])
        async for task in client.list(state="failed"):
            print(task.id)

Names, arguments, errors and rules are those of `Client`; lists and outputs are asynchronous
iterators.  A client belongs to one event loop.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from typing import Any, Self, TypeVar

from raftsched.client.aio_pipeline import AsyncPipeline
from raftsched.client.aio_transport import AsyncTransport
from raftsched.client.calls import Document, Pages, Plan
from raftsched.client.errors import ClientError, ConnectionFailed
from raftsched.client.gathering import LINGER_SECONDS, REQUESTS_MAX
from raftsched.client.messages import Reply, Request
from raftsched.client.tasks import Following, TaskDocument, TaskOperations
from raftsched.client.trees import Progress
from raftsched.client.tries import Endpoints

T = TypeVar("T")


class AsyncTask(TaskDocument):
    """A task document as the API gave it, with the verbs of the client that fetched it."""

    def __init__(self, client: AsyncClient, document: Mapping[str, Any]) -> None:
        super().__init__(document)
        self._client = client

    async def refresh(self) -> AsyncTask:
        """The task as it is now."""
        return await self._client.get(self.id)

    async def wait(
        self,
        timeout_seconds: float | None = None,
        *,
        progress: Callable[[Progress], object] | None = None,
    ) -> AsyncTask:
        """The task when it has ended; see `AsyncClient.wait`."""
        return await self._client.wait(self.id, timeout_seconds, progress=progress)

    async def progress(self) -> Progress:
        """How many of its subtasks have ended."""
        return await self._client.progress(self.id)

    def results(self) -> AsyncGenerator[Document, None]:
        """What became of its subtasks; see `AsyncClient.results`."""
        return self._client.results(self.id)

    async def cancel(self, reason: str = "") -> AsyncTask:
        """Ask for its end."""
        return await self._client.cancel(self.id, reason)

    async def result(self) -> Any:
        """What it left as its result, fetched if the document has it not; None: nothing."""
        if self.get("result_bytes"):
            return await self._client.result(self.id, int(self["attempt"]) or None)
        return self.get("result")

    def output(self, *, follow: bool = False, **options: Any) -> AsyncGenerator[bytes, None]:
        """Its output; see `AsyncClient.output`."""
        return self._client.output(self.id, follow=follow, **options)


class AsyncClient(TaskOperations):
    """The cluster, from outside.  Shared by the tasks of one event loop; close it when done."""

    def _open(self, endpoints: Endpoints) -> None:
        self._transport = AsyncTransport(endpoints)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close all connections."""
        await self._transport.close()

    async def list(
        self, *, limit: int | None = None, page: int = 100, **filters: Any
    ) -> AsyncIterator[AsyncTask]:
        """Tasks, newest first, as `Client.list` has them."""
        async for document in self.walk(self._tasks(limit, page, filters)):
            yield self.task_of(document)

    async def output(
        self,
        task_id: str,
        attempt: int | None = None,
        *,
        follow: bool = False,
        offset: int = 0,
        tail: int | None = None,
    ) -> AsyncGenerator[bytes, None]:
        """An attempt's output piece by piece, as `Client.output` has it."""
        if not attempt:
            attempt = await self.run(self._latest_attempt(task_id))
        if attempt == 0:
            return
        following = Following(task_id, attempt, follow=follow, offset=offset, tail=tail)
        while True:
            async with self._transport.stream(following.request()) as (headers, pieces):
                following.begin(headers)
                try:
                    async for piece in pieces:
                        yield following.take(piece)
                    return
                except ConnectionFailed:
                    if not following.may_go_on():
                        raise

    async def results(self, task_id: str) -> AsyncGenerator[Document, None]:
        """What became of a task's subtasks, as `Client.results` has it."""
        lines = self._lines(task_id)
        while True:
            async with self._transport.stream(lines.request) as (_, pieces):
                lines.begin()
                try:
                    async for piece in pieces:
                        for line in lines.take(piece):
                            yield line
                    return
                except ConnectionFailed:
                    if not lines.may_go_on():
                        raise

    def pipeline(
        self, *, requests: int = REQUESTS_MAX, linger_seconds: float = LINGER_SECONDS
    ) -> AsyncPipeline:
        """Single submissions gathered into few requests, as `Client.pipeline`."""
        return AsyncPipeline(self, requests, linger_seconds)

    # How plans are carried out

    async def run(self, plan: Plan[T]) -> T:
        """The result of a plan."""
        try:
            request = next(plan)
            while True:
                try:
                    reply = await self.send(request)
                except ClientError as error:
                    request = plan.throw(error)
                else:
                    request = plan.send(reply)
        except StopIteration as end:
            result: T = end.value
            return result

    async def run_task(self, plan: Plan[Document]) -> AsyncTask:
        """The task a plan ends with."""
        return self.task_of(await self.run(plan))

    def task_of(self, document: Document) -> AsyncTask:
        """A document with the verbs of this client."""
        return AsyncTask(self, document)

    async def send(self, request: Request) -> Reply:
        """The answer to one request."""
        return self.seen(await self._transport.send(request))

    async def walk(self, pages: Pages) -> AsyncIterator[Document]:
        """The items of a list."""
        while (request := pages.request()) is not None:
            for item in pages.take(await self.send(request)):
                yield item


__all__ = ["AsyncClient", "AsyncTask"]
