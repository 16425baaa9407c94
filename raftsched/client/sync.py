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
Trouble: see `raftsched.client.errors`.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from typing import Any

from raftsched.client.calls import (
    PAGE_MAX,
    Document,
    Documents,
    document_of,
    new_key,
    part,
    query_of,
)
from raftsched.client.errors import (
    BadReply,
    ConnectionFailed,
    NotFound,
    TaskTerminal,
    WaitTimeout,
)
from raftsched.client.operations import Operations
from raftsched.client.transport import Reply, Request

#: One request of ``submit_batch`` holds at most this many tasks and bytes.
BATCH_TASKS_MAX = 5_000
BATCH_BYTES_MAX = 8 * 1024 * 1024
#: Longest a server is asked to hold one wait.
WAIT_SECONDS_MAX = 30.0

TERMINAL_STATES = frozenset({"succeeded", "failed", "cancelled", "expired", "lost"})


class Task(dict[str, Any]):
    """A task document as the API gave it, with the verbs of the client that fetched it."""

    def __init__(self, client: Client, document: Mapping[str, Any]) -> None:
        super().__init__(document)
        self._client = client

    @property
    def id(self) -> str:
        """The task's id."""
        return str(self["id"])

    @property
    def state(self) -> str:
        """Status word at the time of the answer."""
        return str(self.get("state", ""))

    @property
    def is_terminal(self) -> bool:
        """Has it ended (at the time of the answer)?"""
        return self.state in TERMINAL_STATES

    def refresh(self) -> Task:
        """The task as it is now."""
        return self._client.get(self.id)

    def wait(self, timeout_seconds: float | None = None) -> Task:
        """The task when it has ended; WaitTimeout if that is not in time."""
        return self._client.wait(self.id, timeout_seconds)

    def cancel(self, reason: str = "") -> Task:
        """Ask for its end."""
        return self._client.cancel(self.id, reason)

    def output(self, *, follow: bool = False, **options: Any) -> Generator[bytes, None, None]:
        """Its output; see `Client.output`."""
        return self._client.output(self.id, follow=follow, **options)


class BatchResult:
    """What became of a batch: ids in order (None where refused) and the refusals."""

    def __init__(self) -> None:
        #: None where refused, and everywhere after a dry run.
        self.ids: list[str | None] = []
        #: Position (from 0) and problem document of every task that was refused.
        self.refused: list[tuple[int, Document]] = []

    @property
    def created(self) -> int:
        """How many tasks exist now because of this batch."""
        return sum(1 for task_id in self.ids if task_id is not None)

    @property
    def accepted(self) -> int:
        """How many tasks were not refused."""
        return len(self.ids) - len(self.refused)


class Client(Operations):
    """The cluster, from outside.  Safe to share between threads; close it when done."""

    def submit(
        self,
        command: Sequence[str] | None = None,
        *,
        idempotency_key: str | None = None,
        dry_run: bool = False,
        **fields: Any,
    ) -> Task:
        """Create one task; ``fields`` are those of the task document (``name``, ``env``, ...).

        Given the same ``idempotency_key`` it takes effect once.
        """
        body: Document = dict(fields)
        if command is not None:
            body["command"] = list(command)
        reply = self._write(
            "/v1/tasks", body, key=idempotency_key or new_key(), query={"dry_run": dry_run}
        )
        return self._task(reply)

    def submit_batch(
        self,
        tasks: Iterable[Mapping[str, Any]],
        *,
        idempotency_key: str | None = None,
        atomic: bool = False,
        dry_run: bool = False,
        progress: Callable[[int], None] | None = None,
    ) -> BatchResult:
        """Create many tasks, drawn from ``tasks`` as they are sent.

        They go out in requests of at most ``BATCH_TASKS_MAX``, each with its own key derived from
        ``idempotency_key``, so the whole call may be repeated.  ``progress`` gets the number of
        tasks answered so far.  ``atomic``: one request, all or none.  ``dry_run``: every task is
        checked and none is created.
        """
        key = idempotency_key or new_key()
        result = BatchResult()
        for number, lines in enumerate(_requests(tasks, split=not atomic)):
            request = Request(
                "POST",
                "/v1/tasks:batch" + query_of({"atomic": atomic, "dry_run": dry_run}),
                b"".join(lines),
                {
                    "Content-Type": "application/x-ndjson",
                    "Accept": "application/x-ndjson",
                    "Idempotency-Key": f"{key}-{number}",
                },
            )
            self._take_answers(result, self._send(request), len(lines))
            if progress is not None:
                progress(len(result.ids))
        return result

    def _take_answers(self, result: BatchResult, reply: Reply, expected: int) -> None:
        begin = len(result.ids)
        for line in reply.body.splitlines():
            if not line.strip():
                continue
            try:
                answer = json.loads(line)
            except ValueError:
                raise BadReply(f"{reply.endpoint}: a batch answer is not JSON") from None
            if answer.get("valid") is True:
                result.ids.append(None)
            elif answer.get("code") or "id" not in answer:
                result.refused.append((len(result.ids), answer))
                result.ids.append(None)
            else:
                result.ids.append(str(answer["id"]))
        if len(result.ids) - begin != expected:
            raise BadReply(
                f"{reply.endpoint} answered {len(result.ids) - begin} of {expected} tasks of a "
                "batch; repeat it with the same key to see the rest"
            )

    def get(self, task_id: str) -> Task:
        """One task; NotFound when there is none (any more)."""
        return self._task(self._read(f"/v1/tasks/{part(task_id)}"))

    def list(self, *, limit: int | None = None, page: int = 100, **filters: Any) -> Iterator[Task]:
        """Tasks, newest first as the server orders them, fetched page by page as they are drawn.

        ``filters`` as in the reference: ``state="running,failed"``, ``q=``, ``node=``, ...
        """
        left = limit
        cursor = ""
        while left is None or left > 0:
            size = min(PAGE_MAX, page if left is None else min(page, left))
            reply = self._read("/v1/tasks", {"limit": size, "cursor": cursor, **filters})
            document = document_of(reply)
            for item in document.get("items", ()):
                yield Task(self, item)
                left = None if left is None else left - 1
            cursor = document.get("next_cursor") or ""
            if not cursor:
                return

    def cancel(self, task_id: str, reason: str = "") -> Task:
        """Ask for a task's end; a running one is ``cancelling`` until its node confirms."""
        body = {"reason": reason} if reason else {}
        return self._verb(task_id, "cancel", body)

    def pause(self, task_id: str) -> Task:
        """Keep a task from being started; what runs goes on."""
        return self._verb(task_id, "pause", {})

    def resume(self, task_id: str) -> Task:
        """Undo a pause."""
        return self._verb(task_id, "resume", {})

    def run_now(self, task_id: str) -> Task:
        """End the wait of a task: its delay, its backoff, its pause."""
        return self._verb(task_id, "run", {})

    def retry(self, task_id: str, *, idempotency_key: str | None = None) -> Task:
        """Try a task again that ended and did not succeed: a new one, ``retry_of`` this one."""
        path = f"/v1/tasks/{part(task_id)}/retry"
        return self._task(self._write(path, {}, key=idempotency_key or new_key()))

    def edit(
        self,
        task_id: str,
        patch: Mapping[str, Any],
        *,
        if_index: int | None = None,
        dry_run: bool = False,
    ) -> Task:
        """Change fields of a task that does not run, by a JSON merge patch (None: the default).

        With ``if_index``, a ``modify_index`` seen before, only if nobody changed it since.
        """
        headers = {"Content-Type": "application/json"}
        if if_index is not None:
            headers["If-Match"] = f'"{if_index}"'
        path = f"/v1/tasks/{part(task_id)}{query_of({'dry_run': dry_run})}"
        return self._task(self._send(Request("PATCH", path, json.dumps(patch).encode(), headers)))

    def cancel_many(self, *, reason: str = "", **query: Any) -> Document:
        """Cancel all tasks that pass a filter (as for `list`; ``limit``, ``dry_run``)."""
        body = {"reason": reason} if reason else {}
        return document_of(self._write("/v1/tasks:cancel", body, query=query))

    def retry_many(self, **query: Any) -> Document:
        """Try all tasks again that pass a filter (as for `list`; ``limit``, ``dry_run``)."""
        return document_of(self._write("/v1/tasks:retry", {}, query=query, repeatable=False))

    def pause_many(self, **query: Any) -> Document:
        """Pause all tasks that pass a filter (as for `list`; ``limit``, ``dry_run``)."""
        return document_of(self._write("/v1/tasks:pause", {}, query=query))

    def resume_many(self, **query: Any) -> Document:
        """Undo the pause of all that pass a filter (as for `list`; ``limit``, ``dry_run``)."""
        return document_of(self._write("/v1/tasks:resume", {}, query=query))

    def run_many(self, **query: Any) -> Document:
        """End the wait of all tasks that pass a filter (as for `list`; ``limit``, ``dry_run``)."""
        return document_of(self._write("/v1/tasks:run", {}, query=query))

    def delete_many(self, **query: Any) -> Document:
        """Remove all ended tasks that pass a filter (as for `list`; ``limit``, ``dry_run``)."""
        return document_of(self._write("/v1/tasks:delete", {}, query=query))

    def edit_many(self, patch: Mapping[str, Any], **query: Any) -> Document:
        """Change fields of all tasks that pass a filter and do not run, as `edit` does for one."""
        return document_of(self._write("/v1/tasks:edit", dict(patch), query=query))

    def _verb(self, task_id: str, verb: str, body: Document) -> Task:
        try:
            return self._task(self._write(f"/v1/tasks/{part(task_id)}/{verb}", body))
        except TaskTerminal as error:
            # The first try may have done it; then the task says so, and the refusal is stale.
            if verb == "cancel" and error.after_unknown:
                task = self.get(task_id)
                if task.state == "cancelled":
                    return task
            raise

    def delete(self, task_id: str) -> None:
        """Remove an ended task and its attempts; TaskNotTerminal when it has not ended."""
        try:
            self._send(Request("DELETE", f"/v1/tasks/{part(task_id)}"))
        except NotFound as error:
            if not error.after_unknown:
                raise

    def wait(self, task_id: str, timeout_seconds: float | None = None) -> Task:
        """The task when it has ended; WaitTimeout if that is not within ``timeout_seconds``."""
        deadline = None if timeout_seconds is None else time.monotonic() + timeout_seconds
        while True:
            left = WAIT_SECONDS_MAX if deadline is None else deadline - time.monotonic()
            wait = max(0.0, min(WAIT_SECONDS_MAX, left))
            task = self._task(
                self._read(
                    f"/v1/tasks/{part(task_id)}/wait", {"wait": f"{wait:.3f}s"}, patience=wait
                )
            )
            if task.is_terminal:
                return task
            if deadline is not None and time.monotonic() >= deadline:
                raise WaitTimeout(
                    f"task {task_id} is still {task.state} after {timeout_seconds:g} s; "
                    f"wait again or cancel it"
                )

    def watch_task(self, task: Task, wait_seconds: float = WAIT_SECONDS_MAX) -> Task:
        """The task once it is no longer as ``task`` has it, or after ``wait_seconds``."""
        # Not `last_index`: the task may have changed between the two.
        query = {"index": int(task.get("modify_index") or 0), "wait": f"{wait_seconds:.3f}s"}
        return self._task(self._read(f"/v1/tasks/{part(task.id)}", query, patience=wait_seconds))

    def tree(self, task_id: str) -> Document:
        """The task and its subtasks: ``task``, ``counts`` by state, and all ``items``."""
        items: Documents = []
        query: dict[str, Any] = {"limit": 1_000}
        while True:
            page = document_of(self._read(f"/v1/tasks/{part(task_id)}/tree", query))
            items += page.get("items", [])
            if not page.get("next_cursor"):
                return {**page, "items": items}
            query["cursor"] = page["next_cursor"]

    def explain(self, task_id: str) -> Document:
        """Why a task does not run: ``verdict``, ``blockers``, ``nodes``, ``position``."""
        return document_of(self._read(f"/v1/tasks/{part(task_id)}/explain"))

    def attempts(self, task_id: str) -> Documents:
        """All attempts of a task, oldest first."""
        document = document_of(self._read(f"/v1/tasks/{part(task_id)}/attempts"))
        items: Documents = document.get("items", [])
        return items

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
        number = attempt or int(self.get(task_id).get("attempt") or 0)
        if number == 0:
            return
        path = f"/v1/tasks/{part(task_id)}/attempts/{number}/output"
        breaks = 0
        while True:
            query = {"follow": follow, "offset": offset, "tail": tail}
            headers, pieces = self._transport.stream(
                Request("GET", path + query_of(query), headers={"Accept": "*/*"})
            )
            if tail is not None:
                offset, tail = int(headers.get("raftsched-output-offset") or 0), None
                resumable = "raftsched-output-offset" in headers
            else:
                resumable = True
            try:
                for piece in pieces:
                    offset += len(piece)
                    breaks = 0
                    yield piece
                return
            except ConnectionFailed:
                breaks += 1
                if not follow or not resumable or breaks > 5:
                    raise

    def _task(self, reply: Reply) -> Task:
        return Task(self, document_of(reply))


def _requests(tasks: Iterable[Mapping[str, Any]], *, split: bool) -> Iterator[list[bytes]]:
    """NDJSON lines in groups that fit one request."""
    lines: list[bytes] = []
    size = 0
    for task in tasks:
        line = json.dumps(task, separators=(",", ":")).encode() + b"\n"
        if (
            split
            and lines
            and (len(lines) >= BATCH_TASKS_MAX or size + len(line) > BATCH_BYTES_MAX)
        ):
            yield lines
            lines, size = [], 0
        lines.append(line)
        size += len(line)
    if lines:
        yield lines
