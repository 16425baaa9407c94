"""What is asked about tasks that were split: maps, workflows and broadcasts, as plans."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from raftsched.client.calls import (
    PAGE_MAX,
    Document,
    Documents,
    Plan,
    new_key,
    operation,
    part,
    task_operation,
)
from raftsched.client.errors import BadReply
from raftsched.client.messages import Request
from raftsched.client.operations import Operations

TERMINAL_STATES = frozenset({"succeeded", "failed", "cancelled", "expired", "lost"})
#: Results are asked for again after so many broken connections without a line between.
BREAKS_MAX = 5
#: Bytes of one line of results: a result in it has 64 KiB at most.
LINE_BYTES_MAX = 1024 * 1024
#: Of a task with no more subtasks than this those are looked into that were split themselves; else
#: each counts as one.
LOOKED_INTO_MAX = 50


class Progress(NamedTuple):
    """How far a task with its subtasks is."""

    #: Subtasks that have ended, however; and how many there are so far.
    done: int
    total: int
    #: Subtasks by their states.
    counts: Mapping[str, int]
    #: More of them may come.
    is_open: bool = False

    @property
    def fraction(self) -> float:
        """The share that has ended, 0 to 1."""
        return self.done / self.total if self.total else 0.0


class TreeOperations(Operations):
    """The calls about tasks with subtasks."""

    @task_operation
    def map(
        self,
        /,
        task: Sequence[str] | Mapping[str, Any],
        items: Iterable[Any] | str,
        *,
        max_parallel: int = 0,
        on_failure: str | Mapping[str, Any] = "fail_fast",
        speculate: bool | Mapping[str, Any] = False,
        idempotency_key: str | None = None,
        dry_run: bool = False,
        **fields: Any,
    ) -> Plan[Document]:
        """Run a command, or what a task document says, once for each item.

        ``{item}``, ``{item.field}`` and ``{index}`` in it stand for the item.  ``items``: values of
        JSON, a ``range``, or the id of a task whose result or output says what they are.
        ``on_failure``: ``fail_fast``, ``finish``, ``ignore`` or ``{"allow": n}``.  ``speculate``:
        True, or when a subtask that takes too long runs a second time on another node
        (``{"factor": 2, "after_share": 0.5, "min_seconds": 5}``).  ``fields`` are of the task that
        is made of all: ``name``, ``depends_on``, ...
        """
        document = map_document(
            task, items, max_parallel=max_parallel, on_failure=on_failure, speculate=speculate
        )
        body = {**fields, "map": document}
        key, query = idempotency_key or new_key(), {"dry_run": dry_run}
        return (yield from self._write("/v1/tasks", body, key=key, query=query))

    @operation
    def tree(self, task_id: str, limit: int | None = None) -> Plan[Document]:
        """The task and its subtasks: ``task``, ``counts`` by state, and ``items`` (None: all)."""
        items: Documents = []
        cursor = ""
        while True:
            left = PAGE_MAX if limit is None else min(PAGE_MAX, limit - len(items))
            page = yield from self._tree_page(task_id, left, cursor)
            items += page.get("items", [])
            cursor = page.get("next_cursor") or ""
            if not cursor or (limit is not None and len(items) >= limit):
                return {**page, "items": items}

    @operation
    def progress(self, task_id: str) -> Plan[Progress]:
        """How many subtasks of a task have ended; of a part that was split, how many of its."""
        return (yield from self._progress(task_id))

    def _progress(self, task_id: str, depth: int = 0) -> Plan[Progress]:
        page = yield from self._tree_page(task_id, 1 if depth else LOOKED_INTO_MAX)
        whole = progress_of(page)
        if depth or page.get("next_cursor"):
            return whole
        for split in split_parts(page):
            found = yield from self._progress(split["id"], depth + 1)
            whole = nested(whole, str(split["state"]), found)
        return whole

    def _tree_page(self, task_id: str, limit: int, cursor: str = "") -> Plan[Document]:
        query = {"limit": limit, "cursor": cursor}
        return (yield from self._read(f"/v1/tasks/{part(task_id)}/tree", query))


def map_document(
    task: Sequence[str] | Mapping[str, Any],
    items: Iterable[Any] | str,
    *,
    max_parallel: int = 0,
    on_failure: str | Mapping[str, Any] = "fail_fast",
    speculate: bool | Mapping[str, Any] = False,
) -> Document:
    """The field ``map`` of a task document."""
    if isinstance(task, str):
        raise TypeError("a command is a list of words; a line for a shell is {'command': ...}")
    each = dict(task) if isinstance(task, Mapping) else {"command": list(task)}
    document: Document = {"task": each, "on_failure": on_failure}
    if isinstance(items, range):
        document["range"] = [items.start, items.stop, items.step]
    elif isinstance(items, str):
        document["from"] = items
    else:
        document["items"] = list(items)
    if max_parallel:
        document["max_parallel"] = max_parallel
    if speculate is not False:
        document["speculate"] = speculate
    return document


def progress_of(page: Mapping[str, Any]) -> Progress:
    """Of the subtasks of one task, by a page of its tree."""
    counts: dict[str, int] = dict(page.get("counts") or {})
    task = page.get("task") or {}
    done = sum(count for state, count in counts.items() if state in TERMINAL_STATES)
    is_open = bool((task.get("fork") or {}).get("is_open"))
    if not counts:  # It was not split: the task itself is all there is.
        state = str(task.get("state", ""))
        return Progress(int(state in TERMINAL_STATES), int(not is_open), {state: 1}, is_open)
    return Progress(done, sum(counts.values()), counts, is_open)


def split_parts(page: Mapping[str, Any]) -> Documents:
    """Those subtasks of a page that have subtasks themselves."""
    return [item for item in page.get("items") or () if item.get("subtasks") or item.get("fork")]


def nested(whole: Progress, state: str, within: Progress) -> Progress:
    """The same, with the subtasks of a part in this state in its place."""
    counts = dict(whole.counts)
    counts[state] = counts.get(state, 0) - 1
    for word, count in within.counts.items():
        counts[word] = counts.get(word, 0) + count
    counts = {word: count for word, count in sorted(counts.items()) if count > 0}
    ended = int(state in TERMINAL_STATES)
    return Progress(
        whole.done - ended + within.done,
        whole.total - 1 + within.total,
        counts,
        whole.is_open or within.is_open,
    )


class Lines:
    """How far the results of a task have been read, over broken connections."""

    def __init__(self, request: Request) -> None:
        #: For all of them, from the first.
        self.request = request
        self._taken = 0
        self._left_to_skip = 0
        self._breaks = 0
        self._buffer = b""

    def begin(self) -> None:
        """An answer begins: with what has been read before."""
        self._left_to_skip, self._buffer = self._taken, b""

    def take(self, piece: bytes) -> Iterator[Document]:
        """The lines that have become whole.  Raises BadReply."""
        *lines, self._buffer = (self._buffer + piece).split(b"\n")
        if len(self._buffer) > LINE_BYTES_MAX:
            raise BadReply(f"a line of results has more than {LINE_BYTES_MAX} bytes")
        for line in lines:
            if self._left_to_skip:
                self._left_to_skip -= 1
                continue
            self._taken += 1
            self._breaks = 0
            try:
                found = json.loads(line)
            except ValueError:
                raise BadReply("a line of results is no JSON; is it a raftsched peer?") from None
            yield found

    def may_go_on(self) -> bool:
        """The connection broke: may they be asked for again?"""
        self._breaks += 1
        return self._breaks <= BREAKS_MAX
