"""Tasks with subtasks, of a peer in a program: maps, workflows and broadcasts."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from typing import Any, Literal, overload

from raftsched.api.problems import Problem
from raftsched.api.tasks import known_task
from raftsched.api.tree import LINES_MAX, result_line, tree_of, was_split
from raftsched.client.calls import Documents
from raftsched.client.trees import Progress, map_document
from raftsched.core.model import Task
from raftsched.embed.calling import CALL_SECONDS, Document, as_document
from raftsched.embed.progress import progress_in
from raftsched.embed.tasks import PAGE_MAX, Tasks


class Trees(Tasks):
    """The calls about tasks with subtasks."""

    @overload
    async def map(
        self,
        task: Sequence[str] | Mapping[str, Any],
        items: Iterable[Any] | str,
        *,
        max_parallel: int = 0,
        on_failure: str | Mapping[str, Any] = "fail_fast",
        speculate: bool | Mapping[str, Any] = False,
        idempotency_key: str | None = None,
        dry_run: Literal[False] = False,
        timeout_seconds: float = CALL_SECONDS,
        **document: Any,
    ) -> Task: ...

    @overload
    async def map(
        self,
        task: Sequence[str] | Mapping[str, Any],
        items: Iterable[Any] | str,
        *,
        max_parallel: int = 0,
        on_failure: str | Mapping[str, Any] = "fail_fast",
        speculate: bool | Mapping[str, Any] = False,
        idempotency_key: str | None = None,
        dry_run: Literal[True],
        timeout_seconds: float = CALL_SECONDS,
        **document: Any,
    ) -> Document: ...

    async def map(
        self,
        task: Sequence[str] | Mapping[str, Any],
        items: Iterable[Any] | str,
        *,
        max_parallel: int = 0,
        on_failure: str | Mapping[str, Any] = "fail_fast",
        speculate: bool | Mapping[str, Any] = False,
        idempotency_key: str | None = None,
        dry_run: bool = False,
        timeout_seconds: float = CALL_SECONDS,
        **document: Any,
    ) -> Task | Document:
        """Run a command, or what a task document says, once for each item, as `Client.map`.

        ``document`` and errors are those of `submit`.
        """
        whole = map_document(
            task, items, max_parallel=max_parallel, on_failure=on_failure, speculate=speculate
        )
        return await self._submitted(
            {**document, "map": whole}, idempotency_key, dry_run, timeout_seconds
        )

    async def tree(
        self, task_id: str, limit: int | None = None, *, timeout_seconds: float = CALL_SECONDS
    ) -> Document:
        """The task and its subtasks: ``task``, ``counts`` by state, and ``items`` (None: all).

        Raises KeyError, or PeerError.
        """
        with self._calling(timeout_seconds) as call:
            await call.read()
            items: Documents = []
            left = math.inf if limit is None else limit
            while True:
                size = int(min(PAGE_MAX, left))
                page = as_document(tree_of(call, self.state, task_id, len(items), size))
                items += page["items"]
                left -= size
                if page["next_cursor"] is None or left <= 0:
                    return {**page, "items": items}
                await asyncio.sleep(0)

    async def progress(self, task_id: str, *, timeout_seconds: float = CALL_SECONDS) -> Progress:
        """How many subtasks of a task have ended, as `Client.progress`.  Raises KeyError."""
        return progress_in(await self._current(timeout_seconds), task_id)

    async def results(
        self, task_id: str, *, timeout_seconds: float = CALL_SECONDS
    ) -> AsyncGenerator[Document, None]:
        """What became of a task's subtasks, in their order, as `Client.results`.

        Raises KeyError if the task is unknown, LookupError if it was not split, or PeerError.
        """
        with self._calling(timeout_seconds) as call:
            ids = (await call.read()).trees.ids_of(task_id)
            if not was_split(known_task(call, task_id)):
                text = f"task {task_id} was not split; its own result is in it"
                raise Problem("no-subtasks", text)
        for index, subtask_id in enumerate(ids):
            # The one of now: whoever draws the lines may take his time.
            subtask = self.state.tasks.get(subtask_id)
            if subtask is not None:
                yield json.loads(result_line(index, subtask))
            if index % LINES_MAX == LINES_MAX - 1:
                await asyncio.sleep(0)
