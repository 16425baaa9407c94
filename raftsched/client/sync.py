"""The synchronous client: the public API as methods, on the standard library alone.

    from raftsched.client import Client

    with Client() as client:                     # finds addresses and token by itself
        task = client.submit(["/usr/bin/true"])
        print(task.wait()["state"])

Rules
1. Every creating request carries an Idempotency-Key; the transport repeats it with the same one.
2. What the server answers is handed on as it is (dicts as in the reference), `Task` adds verbs.
3. Reads carry the highest index this client has seen (``min_index``), so it reads its own writes
   on whichever peer answers.
The calls themselves are plans (`tasks`, `operations`), which `AsyncClient` carries out as well.
Trouble: see `raftsched.client.errors`.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping
from typing import Any, Self, TypeVar

from raftsched.client.batches import BATCH_BYTES_MAX, BATCH_TASKS_MAX, BatchResult
from raftsched.client.calls import Document, Pages, Plan
from raftsched.client.errors import ClientError, ConnectionFailed
from raftsched.client.gathering import LINGER_SECONDS, REQUESTS_MAX
from raftsched.client.messages import Reply, Request
from raftsched.client.pipeline import Pipeline
from raftsched.client.tasks import Following, TaskDocument, TaskOperations
from raftsched.client.transport import Transport
from raftsched.client.trees import TERMINAL_STATES, Progress
from raftsched.client.tries import Endpoints

T = TypeVar("T")


class Task(TaskDocument):
    """A task document as the API gave it, with the verbs of the client that fetched it."""

    def __init__(self, client: Client, document: Mapping[str, Any]) -> None:
        super().__init__(document)
        self._client = client

    def refresh(self) -> Task:
        """The task as it is now."""
        return self._client.get(self.id)

    def wait(
        self,
        timeout_seconds: float | None = None,
        *,
        progress: Callable[[Progress], object] | None = None,
    ) -> Task:
        """The task when it has ended; see `Client.wait`."""
        return self._client.wait(self.id, timeout_seconds, progress=progress)

    def progress(self) -> Progress:
        """How many of its subtasks have ended."""
        return self._client.progress(self.id)

    def results(self) -> Generator[Document, None, None]:
        """What became of its subtasks; see `Client.results`."""
        return self._client.results(self.id)

    def cancel(self, reason: str = "") -> Task:
        """Ask for its end."""
        return self._client.cancel(self.id, reason)

    def result(self) -> Any:
        """What it left as its result, fetched if the document has it not; None: nothing."""
        if self.get("result_bytes"):
            return self._client.result(self.id, int(self["attempt"]) or None)
        return self.get("result")

    def output(self, *, follow: bool = False, **options: Any) -> Generator[bytes, None, None]:
        """Its output; see `Client.output`."""
        return self._client.output(self.id, follow=follow, **options)


class Client(TaskOperations):
    """The cluster, from outside.  Safe to share between threads; close it when done."""

    def _open(self, endpoints: Endpoints) -> None:
        self._transport = Transport(endpoints)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close idle connections."""
        self._transport.close()

    def list(self, *, limit: int | None = None, page: int = 100, **filters: Any) -> Iterator[Task]:
        """Tasks, newest first as the server orders them, fetched page by page as they are drawn.

        ``filters`` as in the reference: ``state="running,failed"``, ``q=``, ``node=``, ...
        """
        for document in self.walk(self._tasks(limit, page, filters)):
            yield self.task_of(document)

    def output(
        self,
        task_id: str,
        attempt: int | None = None,
        *,
        follow: bool = False,
        offset: int = 0,
        tail: int | None = None,
    ) -> Generator[bytes, None, None]:
        """An attempt's output piece by piece (None: the latest attempt).

        ``follow`` goes on until the attempt has ended, over broken connections, without losing or
        repeating a byte.  Raises OutputGone when it was rotated away or its node is down.
        """
        attempt = attempt or self.run(self._latest_attempt(task_id))
        if attempt == 0:
            return
        following = Following(task_id, attempt, follow=follow, offset=offset, tail=tail)
        while True:
            headers, pieces = self._transport.stream(following.request())
            following.begin(headers)
            try:
                for piece in pieces:
                    yield following.take(piece)
                return
            except ConnectionFailed:
                if not following.may_go_on():
                    raise

    def results(self, task_id: str) -> Generator[Document, None, None]:
        """What became of a task's subtasks, in their order, drawn line by line.

        Each has ``index``, ``id``, ``state``, ``reason``, ``result`` (None also of one that is too
        large to stand there: `result` fetches it, as its ``result_bytes`` says) and ``exit_code``.
        Raises NotFound, or Conflict for a task that was not split.
        """
        lines = self._lines(task_id)
        while True:
            _, pieces = self._transport.stream(lines.request)
            lines.begin()
            try:
                for piece in pieces:
                    yield from lines.take(piece)
                return
            except ConnectionFailed:
                if not lines.may_go_on():
                    raise

    def pipeline(
        self, *, requests: int = REQUESTS_MAX, linger_seconds: float = LINGER_SECONDS
    ) -> Pipeline:
        """Single submissions gathered into few requests, of which ``requests`` are under way.

        A submission waits up to ``linger_seconds`` for others to go with.
        """
        return Pipeline(self, requests, linger_seconds)

    # How plans are carried out

    def run(self, plan: Plan[T]) -> T:
        """The result of a plan."""
        try:
            request = next(plan)
            while True:
                try:
                    reply = self.send(request)
                except ClientError as error:
                    request = plan.throw(error)
                else:
                    request = plan.send(reply)
        except StopIteration as end:
            result: T = end.value
            return result

    def run_task(self, plan: Plan[Document]) -> Task:
        """The task a plan ends with."""
        return self.task_of(self.run(plan))

    def task_of(self, document: Document) -> Task:
        """A document with the verbs of this client."""
        return Task(self, document)

    def send(self, request: Request) -> Reply:
        """The answer to one request."""
        return self.seen(self._transport.send(request))

    def walk(self, pages: Pages) -> Iterator[Document]:
        """The items of a list."""
        while (request := pages.request()) is not None:
            yield from pages.take(self.send(request))


__all__ = [
    "BATCH_BYTES_MAX",
    "BATCH_TASKS_MAX",
    "TERMINAL_STATES",
    "BatchResult",
    "Client",
    "Progress",
    "Task",
]
