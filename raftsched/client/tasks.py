"""What is asked about tasks, as plans; and a task as it was answered."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from raftsched.client.batches import BatchResult, groups_of, request_of
from raftsched.client.calls import (
    Document,
    Documents,
    Pages,
    Plan,
    new_key,
    operation,
    part,
    query_of,
    task_operation,
)
from raftsched.client.calls import document_of as _document
from raftsched.client.errors import TaskTerminal, WaitTimeout
from raftsched.client.messages import Request
from raftsched.client.trees import TERMINAL_STATES, Lines, Progress, TreeOperations

#: Longest a server is asked to hold one wait.
WAIT_SECONDS_MAX = 30.0
#: Between two looks at how many subtasks have ended.
PROGRESS_SECONDS = 1.0
#: What a server may take longer for many tasks: an edit of 100,000 takes most of it.
MANY_SECONDS = 60.0
#: A followed output is asked for again after so many broken connections without a byte between.
BREAKS_MAX = 5

OFFSET_HEADER = "raftsched-output-offset"
_ONLY_FAILED = {"only": "failed"}


class TaskDocument(dict[str, Any]):
    """A task as the API gave it."""

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


class TaskOperations(TreeOperations):
    """The calls about tasks."""

    @task_operation
    def submit(
        self,
        /,
        command: Sequence[str] | None = None,
        *,
        idempotency_key: str | None = None,
        dry_run: bool = False,
        **fields: Any,
    ) -> Plan[Document]:
        """Create one task; ``fields`` are those of the task document (``name``, ``env``, ...).

        Given the same ``idempotency_key`` it takes effect once.
        """
        key, query = idempotency_key or new_key(), {"dry_run": dry_run}
        body = document_for(command, fields)
        return (yield from self._write("/v1/tasks", body, key=key, query=query))

    @operation
    def submit_batch(
        self,
        tasks: Iterable[Mapping[str, Any]],
        *,
        idempotency_key: str | None = None,
        atomic: bool = False,
        dry_run: bool = False,
        progress: Callable[[int], None] | None = None,
    ) -> Plan[BatchResult]:
        """Create many tasks, drawn from ``tasks`` as they are sent.

        They go out in requests of at most ``BATCH_TASKS_MAX``, each with its own key derived from
        ``idempotency_key``, so the whole call may be repeated.  ``progress`` gets the number of
        tasks answered so far.  ``atomic``: one request, all or none.  ``dry_run``: every task is
        checked and none is created.
        """
        key = idempotency_key or new_key()
        query = query_of({"atomic": atomic, "dry_run": dry_run})
        result = BatchResult()
        for number, lines in enumerate(groups_of(tasks, split=not atomic)):
            result.take((yield request_of(lines, f"{key}-{number}", query)), len(lines))
            if progress is not None:
                progress(len(result.ids))
        return result

    @task_operation
    def get(self, task_id: str) -> Plan[Document]:
        """One task; NotFound when there is none (any more)."""
        return (yield from self._get(task_id))

    @task_operation
    def cancel(self, task_id: str, reason: str = "") -> Plan[Document]:
        """Ask for a task's end; a running one is ``cancelling`` until its node confirms."""
        try:
            return (yield from self._verb(task_id, "cancel", {"reason": reason} if reason else {}))
        except TaskTerminal as error:
            # The first try may have done it; then the task says so, and the refusal is stale.
            if error.after_unknown:
                task = yield from self._get(task_id)
                if task.get("state") == "cancelled":
                    return task
            raise

    @task_operation
    def pause(self, task_id: str) -> Plan[Document]:
        """Keep a task from being started; what runs goes on."""
        return (yield from self._verb(task_id, "pause", {}))

    @task_operation
    def resume(self, task_id: str) -> Plan[Document]:
        """Undo a pause."""
        return (yield from self._verb(task_id, "resume", {}))

    @task_operation
    def run_now(self, task_id: str) -> Plan[Document]:
        """End the wait of a task: its delay, its backoff, its pause."""
        return (yield from self._verb(task_id, "run", {}))

    @task_operation
    def retry(
        self, task_id: str, *, only_failed: bool = False, idempotency_key: str | None = None
    ) -> Plan[Document]:
        """Try a task again that ended and did not succeed: a new one, ``retry_of`` this one.

        ``only_failed``: of its parts those that succeeded are kept, with their results.
        """
        body = _ONLY_FAILED if only_failed else {}
        return (yield from self._verb(task_id, "retry", body, idempotency_key or new_key()))

    @task_operation
    def edit(
        self,
        task_id: str,
        patch: Mapping[str, Any],
        *,
        if_index: int | None = None,
        dry_run: bool = False,
    ) -> Plan[Document]:
        """Change fields of a task that does not run, by a JSON merge patch (None: the default).

        With ``if_index``, a ``modify_index`` seen before, only if nobody changed it since.
        """
        headers = {"Content-Type": "application/json"}
        if if_index is not None:
            headers["If-Match"] = f'"{if_index}"'
        path = f"/v1/tasks/{part(task_id)}{query_of({'dry_run': dry_run})}"
        return _document((yield Request("PATCH", path, json.dumps(patch).encode(), headers)))

    @operation
    def delete(self, task_id: str) -> Plan[None]:
        """Remove an ended task and its attempts; TaskNotTerminal when it has not ended."""
        yield from self._delete(f"/v1/tasks/{part(task_id)}")

    # Many that pass a filter

    @operation
    def cancel_many(self, /, *, reason: str = "", **query: Any) -> Plan[Document]:
        """Cancel all tasks that pass a filter (as for `list`; ``limit``, ``dry_run``)."""
        return (yield from self._many("cancel", query, {"reason": reason} if reason else {}))

    @operation
    def retry_many(self, /, *, only_failed: bool = False, **query: Any) -> Plan[Document]:
        """Try all tasks again that pass a filter (as for `list`; ``limit``, ``dry_run``)."""
        body = _ONLY_FAILED if only_failed else {}
        return (yield from self._many("retry", query, body, repeatable=False))

    @operation
    def pause_many(self, /, **query: Any) -> Plan[Document]:
        """Pause all tasks that pass a filter (as for `list`; ``limit``, ``dry_run``)."""
        return (yield from self._many("pause", query))

    @operation
    def resume_many(self, /, **query: Any) -> Plan[Document]:
        """Undo the pause of all that pass a filter (as for `list`; ``limit``, ``dry_run``)."""
        return (yield from self._many("resume", query))

    @operation
    def run_many(self, /, **query: Any) -> Plan[Document]:
        """End the wait of all tasks that pass a filter (as for `list`; ``limit``, ``dry_run``)."""
        return (yield from self._many("run", query))

    @operation
    def delete_many(self, /, **query: Any) -> Plan[Document]:
        """Remove all ended tasks that pass a filter (as for `list`; ``limit``, ``dry_run``)."""
        return (yield from self._many("delete", query))

    @operation
    def edit_many(self, /, patch: Mapping[str, Any], **query: Any) -> Plan[Document]:
        """Change fields of all tasks that pass a filter and do not run, as `edit` does for one."""
        return (yield from self._many("edit", query, patch))

    # Looking on

    @task_operation
    def wait(
        self,
        task_id: str,
        timeout_seconds: float | None = None,
        *,
        progress: Callable[[Progress], object] | None = None,
    ) -> Plan[Document]:
        """The task when it has ended; WaitTimeout if that is not within ``timeout_seconds``.

        ``progress`` is told about every second, and at the end, how many subtasks have ended.
        """
        deadline = None if timeout_seconds is None else time.monotonic() + timeout_seconds
        path = f"/v1/tasks/{part(task_id)}/wait"
        longest = WAIT_SECONDS_MAX if progress is None else PROGRESS_SECONDS
        while True:
            left = longest if deadline is None else deadline - time.monotonic()
            wait = max(0.0, min(longest, left))
            task = TaskDocument((yield from self._read(path, _waiting(wait), patience=wait)))
            if progress is not None:
                progress((yield from self._progress(task_id)))
            if task.is_terminal:
                return task
            if deadline is not None and time.monotonic() >= deadline:
                raise WaitTimeout(
                    f"task {task_id} is still {task.state} after {timeout_seconds:g} s; "
                    f"wait again or cancel it"
                )

    @task_operation
    def watch_task(
        self, task: TaskDocument, wait_seconds: float = WAIT_SECONDS_MAX
    ) -> Plan[Document]:
        """The task once it is no longer as ``task`` has it, or after ``wait_seconds``."""
        # Not `last_index`: the task may have changed between the two.
        query = {"index": int(task.get("modify_index") or 0), **_waiting(wait_seconds)}
        path = f"/v1/tasks/{part(task.id)}"
        return (yield from self._read(path, query, patience=wait_seconds))

    @operation
    def explain(self, task_id: str) -> Plan[Document]:
        """Why a task does not run: ``verdict``, ``blockers``, ``nodes``, ``position``."""
        return (yield from self._read(f"/v1/tasks/{part(task_id)}/explain"))

    @operation
    def attempts(self, task_id: str) -> Plan[Documents]:
        """All attempts of a task, oldest first."""
        document = yield from self._read(f"/v1/tasks/{part(task_id)}/attempts")
        items: Documents = document.get("items", [])
        return items

    @operation
    def result(self, task_id: str, attempt: int | None = None) -> Plan[Any]:
        """What a task left as its result, however large (None: of the latest attempt).

        Raises NoResult when it left none, or has not ended; OutputGone when the node that keeps it
        does not answer, or has swept it away.
        """
        return (yield self._result(task_id, attempt)).json()

    @operation
    def result_json(self, task_id: str, attempt: int | None = None) -> Plan[bytes]:
        """The same as JSON, byte for byte as it was left."""
        return (yield self._result(task_id, attempt)).body

    def _result(self, task_id: str, attempt: int | None) -> Request:
        of = "" if attempt is None else f"/attempts/{attempt}"
        return self.reading(f"/v1/tasks/{part(task_id)}{of}/result")

    def _get(self, task_id: str) -> Plan[Document]:
        return (yield from self._read(f"/v1/tasks/{part(task_id)}"))

    def _verb(
        self, task_id: str, verb: str, body: Mapping[str, Any], key: str = ""
    ) -> Plan[Document]:
        return (yield from self._write(f"/v1/tasks/{part(task_id)}/{verb}", body, key=key))

    def _many(
        self,
        verb: str,
        query: Mapping[str, Any],
        body: Mapping[str, Any] | None = None,
        *,
        repeatable: bool = True,
    ) -> Plan[Document]:
        path = f"/v1/tasks:{verb}"
        for name, value in query.items():
            if value == "":
                raise ValueError(f"{name} is empty, and would match all")
        return (
            yield from self._write(
                path, body or {}, query=query, repeatable=repeatable, patience=MANY_SECONDS
            )
        )

    def _tasks(self, limit: int | None, page: int, filters: Mapping[str, Any]) -> Pages:
        return Pages(self, "/v1/tasks", filters, page, limit)

    def _lines(self, task_id: str) -> Lines:
        return Lines(self.reading(f"/v1/tasks/{part(task_id)}/results"))

    def _latest_attempt(self, task_id: str) -> Plan[int]:
        return int((yield from self._get(task_id)).get("attempt") or 0)


class Following:
    """How far an attempt's output has been read, over broken connections."""

    def __init__(
        self, task_id: str, attempt: int, *, follow: bool, offset: int, tail: int | None
    ) -> None:
        self._path = f"/v1/tasks/{part(task_id)}/attempts/{attempt}/output"
        self._follow = follow
        self._offset = offset
        self._tail = tail
        self._breaks = 0
        #: It is known where the next byte stands.
        self._is_placed = tail is None

    def request(self) -> Request:
        """The request for what was not read yet."""
        query = {"follow": self._follow, "offset": self._offset, "tail": self._tail}
        return Request("GET", self._path + query_of(query), headers={"Accept": "*/*"})

    def begin(self, headers: Mapping[str, str]) -> None:
        """The answer has begun; its headers say where."""
        if self._tail is not None:
            self._offset, self._tail = int(headers.get(OFFSET_HEADER) or 0), None
            self._is_placed = OFFSET_HEADER in headers

    def take(self, piece: bytes) -> bytes:
        """A piece that was read."""
        self._offset += len(piece)
        self._breaks = 0
        return piece

    def may_go_on(self) -> bool:
        """The connection broke: may it be asked for again, without losing or repeating a byte?"""
        self._breaks += 1
        return self._follow and self._is_placed and self._breaks <= BREAKS_MAX


def document_for(command: Sequence[str] | None, fields: Mapping[str, Any]) -> Document:
    """The task document of a submission."""
    return dict(fields) if command is None else {**fields, "command": list(command)}


def _waiting(seconds: float) -> dict[str, str]:
    return {"wait": f"{seconds:.3f}s"}
