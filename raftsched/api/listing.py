"""Lists of tasks: pages, cursors, filters.

A filter that few tasks pass makes a page look at many rows.  The loop must not stand still for
that, so rows are looked at in slices and the state may change between two: a page shows each task
as it stood at one moment while the page was made, at or after the page's index.  The walk goes on
behind a place, not a row, so that no task is shown twice and none that stayed is missed.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import datetime as dt
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Generic, TypeVar

import msgspec
from aiohttp import web

from raftsched.api.context import Context, integer
from raftsched.api.problems import Problem
from raftsched.api.views import TaskPage, TaskView, task_view
from raftsched.core.model import Task, TaskStatus
from raftsched.core.schedule import schedule_of
from raftsched.core.spec import TaskSpec
from raftsched.core.state import State
from raftsched.core.trees import parent_of

#: Rows looked at for one page before it ends early.
SCAN_ROWS_MAX = 20_000
#: Bytes of the specifications in one page before it ends early.
PAGE_BYTES_MAX = 2 * 1024 * 1024
#: A slice ends after this long; the clock is looked at where a task passes, and every so many rows.
SLICE_SECONDS = 0.005
CLOCK_ROWS = 64

#: What the query of a list filters by.
FILTERS = ("state", "queue", "node", "parent", "schedule", "label", "q", "since", "until")

Shown = TypeVar("Shown")
#: A query: what it says by names, of which some are said several times.
Words = Mapping[str, Sequence[str]]
#: ``(create_index, id)`` of the task behind which a page begins.
Place = tuple[int, str]

_Instant = Annotated[dt.datetime, msgspec.Meta(tz=True)]
_specs = msgspec.msgpack.Decoder(TaskSpec)


async def listing(context: Context, request: web.Request) -> web.StreamResponse:
    """Tasks, newest first, a page at a time."""
    limit = integer(request, "limit", 50, 1, 1000)
    cursor = request.query.get("cursor")
    after = _parse_cursor(cursor) if cursor else None
    words = words_of(request)
    since = instant_of(words, "since") or 0
    scan: Scan[TaskView] = Scan(filter_of(words), limit, after, since, show=task_view)
    index = (await context.state(request)).index
    while not scan.is_done:
        async with context.scanning:
            scan.step(context.service.state)
            if not scan.is_done:
                # Everything else has its turn; other lists only after that, by the lock.
                await asyncio.sleep(0)
    following = _cursor_of(scan.place) if scan.more and scan.place else None
    # Not the index of now: who asks for what changed since must not miss what came meanwhile.
    headers = {"Raftsched-Index": str(index)}
    if following:
        headers["Link"] = f'<{request.rel_url.update_query(cursor=following)}>; rel="next"'
    return context.answer(TaskPage(scan.found, following, index), headers=headers)


class Scan(Generic[Shown]):
    """One page as it is filled."""

    def __init__(
        self,
        test: Callable[[Task], bool],
        limit: int,
        after: Place | None,
        since: int = 0,
        *,
        show: Callable[[Task], Shown],
    ) -> None:
        self._test = test
        self._show = show
        #: The state's clock never goes back: behind the first older task all are.
        self._since = since
        self._limit = limit
        self._rows_left = SCAN_ROWS_MAX
        self._bytes_left = PAGE_BYTES_MAX
        #: The last row looked at.
        self.place = after
        self.found: list[Shown] = []
        self.is_done = False
        #: The page is full, so there may be tasks behind it.
        self.more = False

    def step(self, state: State) -> None:
        """Look at rows until the page is done or the slice is over."""
        test = self._test
        until = 0.0
        for task in state.list_tasks(self.place):
            if task.created_at < self._since:
                break
            self._rows_left -= 1
            if test(task):
                self.found.append(self._show(task))
                self._bytes_left -= len(task.spec)
                self.more = len(self.found) >= self._limit or self._bytes_left <= 0
            elif self._rows_left % CLOCK_ROWS:
                continue
            now = time.perf_counter()
            # Finding the place again is not counted: every slice gets on.
            until = until or now + SLICE_SECONDS
            self.more = self.more or not self._rows_left
            if self.more or now >= until:
                self.place = (task.create_index, task.id)
                self.is_done = self.more
                return
        self.is_done = True


def words_of(request: web.Request) -> dict[str, list[str]]:
    """The query of a request."""
    return {name: request.query.getall(name) for name in request.query}


def filter_of(words: Words) -> Callable[[Task], bool]:
    """Filters as one test of a task.  Raises Problem."""
    states = {word for word in (first(words, "state") or "").split(",") if word}
    if not states <= set(TaskStatus):
        known = ", ".join(status.value for status in TaskStatus)
        raise Problem("invalid", f"unknown state; known: {known}", pointer="?state")
    queue, node, parent = first(words, "queue"), first(words, "node"), first(words, "parent")
    schedule, name = first(words, "schedule"), first(words, "q") or ""
    until = instant_of(words, "until")
    labels = [label.partition(":")[::2] for label in words.get("label", ())]
    if any(":" not in label for label in words.get("label", ())):
        raise Problem("invalid", "a label is written key:value", pointer="?label")
    # Decoding is most of the work, and a text that is not in the bytes is not in the fields.
    texts = [text for text in (name, *sum(labels, ())) if text]
    parts = [text.encode("utf-8", "surrogatepass") for text in texts]

    def test(task: Task) -> bool:
        if states and task.status not in states:
            return False
        if (queue and task.queue != queue) or (node and task.node != node):
            return False
        if parent and parent_of(task) != parent:
            return False
        if schedule and schedule_of(task) != schedule:
            return False
        if until is not None and task.created_at >= until:
            return False
        if not labels and not name:
            return True
        for part in parts:
            if part not in task.spec:
                return False
        spec = _specs.decode(task.spec)
        return name in spec.name and all(spec.labels.get(k) == v for k, v in labels)

    return test


def first(words: Words, name: str) -> str | None:
    """A word of a query, or the first of several; None: it is not said."""
    found = words.get(name)
    return found[0] if found else None


def instant_of(words: Words, name: str) -> int | None:
    """An instant of a query (RFC 3339) in milliseconds since the Unix epoch.  Raises Problem."""
    text = first(words, name)
    if text is None:
        return None
    try:
        instant = msgspec.convert(text, _Instant)
        return round(instant.timestamp() * 1000)
    except (msgspec.ValidationError, ValueError, OverflowError):
        raise Problem(
            "invalid", 'an instant such as "2026-01-31T12:00:00Z"', pointer=f"?{name}"
        ) from None


def _cursor_of(place: Place) -> str:
    return base64.urlsafe_b64encode(f"t1:{place[0]}:{place[1]}".encode()).decode()


def _parse_cursor(text: str) -> Place:
    try:
        kind, index, task_id = base64.urlsafe_b64decode(text.encode()).decode().split(":")
        if kind != "t1":
            raise ValueError(kind)
        return int(index), task_id
    except (ValueError, binascii.Error):
        raise Problem("invalid", "not a cursor of this list", pointer="?cursor") from None
