"""The attempt that a function runs in: which task, which try, what it depends on, how far it is."""

from __future__ import annotations

import contextvars
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

#: Progress leaves a worker this often at most, for each attempt.
PROGRESS_SECONDS = 1.0
PROGRESS_TEXT_MAX = 200


class Cancelled(BaseException):
    """The attempt is to end: it was cancelled, took too long, or lost its lease.

    Like KeyboardInterrupt no Exception, so that it is not swallowed on its way.
    """


class Context:
    """The attempt that a function runs in."""

    __slots__ = (
        "_inputs_file",
        "_tell",
        "_told_at",
        "attempt",
        "fencing_token",
        "is_cancelled",
        "news",
        "task_id",
    )

    def __init__(
        self,
        task_id: str = "",
        attempt: int = 0,
        fencing_token: int = 0,
        tell: Callable[[Context], object] | None = None,
        inputs_file: str = "",
    ) -> None:
        #: Empty outside of an attempt.
        self.task_id = task_id
        #: 1 for the first.
        self.attempt = attempt
        #: Rises with every attempt; a sink that refuses lower ones is safe from late writers.
        self.fencing_token = fencing_token
        #: The attempt is to end; whoever goes on is killed after the task's grace.
        self.is_cancelled = False
        #: Thousandths and words that were not told yet.
        self.news: tuple[int, str] | None = None
        self._tell = tell
        self._inputs_file = inputs_file
        self._told_at = -PROGRESS_SECONDS

    def inputs(self) -> Iterator[dict[str, Any]]:
        """What became of the tasks that this one depends on, and of their subtasks in order.

        Each has ``task``, ``name``, ``state``, ``reason`` and ``result``; a subtask also ``of`` and
        ``index``.  Nothing for a task that depends on none.
        """
        if self._inputs_file:
            with Path(self._inputs_file).open("rb") as lines:
                yield from map(json.loads, lines)

    def raise_if_cancelled(self) -> None:
        """Raise Cancelled when the attempt is to end."""
        if self.is_cancelled:
            raise Cancelled(f"task {self.task_id} is to end")

    def report_progress(self, fraction: float, text: str = "") -> None:
        """Say how far it is, 0 to 1.  May be called often: what is told is the latest of a second.

        Outside of an attempt nothing happens.  Raises ValueError.
        """
        if not 0 <= fraction <= 1:
            raise ValueError(f"progress is {fraction!r}; it goes from 0 to 1")
        self.news = (int(fraction * 1_000), text[:PROGRESS_TEXT_MAX])
        self.tell_if_due()

    def tell_if_due(self) -> None:
        """Hand the latest progress on, if the last one was a second ago; for the worker."""
        now = time.monotonic()
        if self._tell and self.news is not None and now - self._told_at >= PROGRESS_SECONDS:
            self._told_at = now
            self._tell(self)


_NOWHERE = Context()
_of_task: contextvars.ContextVar[Context] = contextvars.ContextVar("raftsched-attempt")
_of_process = _NOWHERE


def current() -> Context:
    """The attempt that calls this, from any of its threads; outside of one an empty context."""
    return _of_task.get(_of_process)


context = current


def enter(context: Context) -> None:
    """This process is in this attempt from now on; for the worker."""
    global _of_process
    _of_process = context


def enter_task(context: Context) -> None:
    """This asyncio task is in this attempt; for the worker."""
    _of_task.set(context)
