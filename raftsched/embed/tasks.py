"""Tasks, one by one, of a peer in a program."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any, Literal, overload

from raftsched.api.amending import edit_task, retry_task
from raftsched.api.explain import explained
from raftsched.api.listing import FILTERS, Scan, filter_of, instant_of
from raftsched.api.problems import Problem
from raftsched.api.submission import checked_key
from raftsched.api.tasks import REASON_CHARACTERS_MAX, delete_task, known_task
from raftsched.client.trees import Progress
from raftsched.core.commands import AnyCommand, CancelTask, PauseTask, ResumeTask, RunNow
from raftsched.core.model import TERMINAL, Attempt, Task, TaskStatus
from raftsched.embed.calling import CALL_SECONDS, Call, Document, as_document, encoded
from raftsched.embed.progress import progress_in
from raftsched.embed.submitting import Submitting

#: Between two looks at how many subtasks have ended.
PROGRESS_SECONDS = 1.0
#: Longest that one look at a task waits for its end.
WAIT_SECONDS = 3_600.0
#: Tasks of one page of a list.
PAGE_MAX = 1_000


class Tasks(Submitting):
    """The calls about single tasks."""

    async def get(self, task_id: str, *, timeout_seconds: float = CALL_SECONDS) -> Task:
        """One task as it is now.  Raises KeyError, or PeerError."""
        with self._calling(timeout_seconds) as call:
            await call.read()
            return known_task(call, task_id)

    async def list(
        self,
        *,
        limit: int | None = None,
        page: int = 100,
        timeout_seconds: float = CALL_SECONDS,
        **filters: Any,
    ) -> AsyncIterator[Task]:
        """Tasks, newest first; ``page`` of them are looked up at once.

        ``filters`` as in the HTTP API: ``state="running,failed"``, ``queue``, ``node``, ``parent``,
        ``schedule``, ``label="key:value"`` or several in a list, ``q``, ``since``, ``until``.
        Raises ValueError or PeerError.
        """
        words = words_of(filters)
        with self._calling(timeout_seconds) as call:
            test, since = filter_of(words), instant_of(words, "since") or 0
            await call.read()
        place, left = None, math.inf if limit is None else limit
        while left > 0:
            size = int(min(max(1, page), PAGE_MAX, left))
            scan: Scan[Task] = Scan(test, size, place, since, show=_as_it_is)
            while not scan.is_done:
                async with self.scanning:
                    scan.step(self.state)
                    await asyncio.sleep(0)
            for task in scan.found:
                yield task
            if not scan.more:
                return
            place, left = scan.place, left - len(scan.found)

    async def wait(
        self,
        task_id: str,
        timeout_seconds: float | None = 3_600.0,
        *,
        progress: Callable[[Progress], object] | None = None,
    ) -> Task:
        """The task once it is terminal (None: however long).  Raises KeyError or TimeoutError.

        While nobody leads, the question whether there is such a task is asked again; ReadTimeout
        when that lasts until the end of the time.  ``progress`` is told about every second, and at
        the end, how many subtasks have ended.
        """
        call = Call(self, math.inf if timeout_seconds is None else timeout_seconds)
        await call.read()
        longest = WAIT_SECONDS if progress is None else PROGRESS_SECONDS
        while True:
            task = await self.wait_finished(task_id, max(0.0, min(longest, call.left)))
            if task is None:
                raise KeyError(task_id)
            if progress is not None:
                progress(progress_in(self.state, task_id))
            if task.status in TERMINAL:
                return task
            if call.left <= 0:
                raise TimeoutError(f"task {task_id} is {task.status} after {timeout_seconds:g} s")

    async def watch_task(
        self, task: Task, wait_seconds: float = 30.0, *, timeout_seconds: float = CALL_SECONDS
    ) -> Task:
        """The task once it is no longer as ``task`` has it, or after ``wait_seconds``.

        Raises KeyError, or PeerError.
        """
        await self._current(timeout_seconds)
        found = await self.wait_changed(task.id, task.modify_index, wait_seconds)
        if found is None:
            raise KeyError(task.id)
        return found

    async def explain(self, task_id: str, *, timeout_seconds: float = CALL_SECONDS) -> Document:
        """Why a task does not run: ``verdict``, ``blockers``, ``nodes``, ``position``, ...

        Raises KeyError, or PeerError.
        """
        with self._calling(timeout_seconds) as call:
            return as_document(explained(call, await call.read(), task_id))

    async def attempts(
        self, task_id: str, *, timeout_seconds: float = CALL_SECONDS
    ) -> tuple[Attempt, ...]:
        """All attempts of a task, oldest first.  Raises KeyError, or PeerError."""
        return (await self.get(task_id, timeout_seconds=timeout_seconds)).attempts

    # Changes

    async def cancel(
        self, task_id: str, reason: str = "", *, timeout_seconds: float = CALL_SECONDS
    ) -> bool:
        """Cancel a task with its subtasks; False when it had already ended.

        Raises KeyError, ValueError when the cluster takes nothing in, or PeerError.
        """
        with self._calling(timeout_seconds) as call:
            try:
                await call.propose(CancelTask(task_id, reason[:REASON_CHARACTERS_MAX]))
            except Problem as problem:
                if problem.code != "task-terminal":
                    raise
                # A try of unknown outcome may have ended it.
                task = known_task(call, task_id)
                return call.was_unknown and task.status is TaskStatus.CANCELLED
            return True

    async def pause(self, task_id: str, *, timeout_seconds: float = CALL_SECONDS) -> Task:
        """Keep a task, and its subtasks, from being started; what runs goes on.

        Raises KeyError, ValueError for one that has ended, or PeerError.
        """
        return await self._change_task(PauseTask(task_id), task_id, timeout_seconds)

    async def resume(self, task_id: str, *, timeout_seconds: float = CALL_SECONDS) -> Task:
        """Undo a pause.  Raises as `pause`."""
        return await self._change_task(ResumeTask(task_id), task_id, timeout_seconds)

    async def run_now(self, task_id: str, *, timeout_seconds: float = CALL_SECONDS) -> Task:
        """End the wait of a task: its delay, its backoff, its pause.  Raises as `pause`."""
        return await self._change_task(RunNow(task_id), task_id, timeout_seconds)

    async def _change_task(self, command: AnyCommand, task_id: str, timeout_seconds: float) -> Task:
        with self._calling(timeout_seconds) as call:
            await call.propose(command)
            return known_task(call, task_id)

    async def retry(
        self,
        task_id: str,
        *,
        only_failed: bool = False,
        idempotency_key: str | None = None,
        timeout_seconds: float = CALL_SECONDS,
    ) -> Task:
        """Try a task again that ended and did not succeed, and return the new one as stored.

        ``only_failed``: of its parts those that succeeded are kept, with their results.  Raises
        KeyError if the task is unknown, ValueError if it cannot be tried again, or PeerError.
        """
        with self._calling(timeout_seconds) as call:
            key = checked_key(idempotency_key or "")
            submitted = await retry_task(call, task_id, key, only_failed=only_failed)
            assert submitted is not None
            return call.made(submitted)

    @overload
    async def edit(
        self,
        task_id: str,
        patch: Mapping[str, Any],
        *,
        if_index: int | None = None,
        dry_run: Literal[False] = False,
        timeout_seconds: float = CALL_SECONDS,
    ) -> Task: ...

    @overload
    async def edit(
        self,
        task_id: str,
        patch: Mapping[str, Any],
        *,
        if_index: int | None = None,
        dry_run: Literal[True],
        timeout_seconds: float = CALL_SECONDS,
    ) -> Document: ...

    async def edit(
        self,
        task_id: str,
        patch: Mapping[str, Any],
        *,
        if_index: int | None = None,
        dry_run: bool = False,
        timeout_seconds: float = CALL_SECONDS,
    ) -> Task | Document:
        """Change fields of a task that does not run, by a JSON merge patch (None: the default).

        With ``if_index``, a ``modify_index`` seen before, only if nobody changed it since.  Raises
        KeyError, ValueError for what is wrong or refused, or PeerError.
        """
        fields = json.loads(encoded(patch))
        with self._calling(timeout_seconds) as call:
            await edit_task(call, task_id, fields, if_index or 0, dry_run=dry_run)
            return {"valid": True} if dry_run else known_task(call, task_id)

    async def delete(self, task_id: str, *, timeout_seconds: float = CALL_SECONDS) -> bool:
        """Remove an ended task with its attempts and subtasks; False: there is none.

        Raises ValueError when it has not ended or others need it, or PeerError.
        """
        with self._calling(timeout_seconds) as call:
            try:
                await delete_task(call, task_id)
            except Problem as problem:
                if problem.code != "unknown-task":
                    raise
                return call.was_unknown
            return True


def words_of(filters: Mapping[str, Any]) -> dict[str, Sequence[str]]:
    """Filters as the words of a query.  Raises ValueError for one that nobody knows."""
    unknown = sorted(set(filters) - set(FILTERS))
    if unknown:
        raise ValueError(f"unknown filter {unknown[0]!r}; known: {', '.join(FILTERS)}")
    return {name: _words(value) for name, value in filters.items() if value is not None}


def _words(value: Any) -> Sequence[str]:
    return [str(word) for word in value] if isinstance(value, tuple | list) else [str(value)]


def _as_it_is(task: Task) -> Task:
    return task
