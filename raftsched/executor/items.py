"""What a task that ran here named as items: its result, or the lines that it printed."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import msgspec

from raftsched.core.handlers.forks import SUBTASKS_MAX
from raftsched.core.model import Task
from raftsched.executor.output import STREAM_BYTES_MAX, stream_path

_json = msgspec.json.Decoder()


class NoItems(Exception):
    """The task named none that can be used; the text is the reason that its fork fails."""


def items_of(directory: Path, source: Task) -> list[Any]:
    """What a task named that ran on this node: its result, or the lines that it printed.

    Raises NoItems.
    """
    latest = source.attempts[-1]
    result = latest.result
    if latest.result_bytes:
        try:
            result = stream_path(directory, source.id, latest.number, "result").read_bytes()
        except FileNotFoundError:
            raise NoItems(f"items-gone: the result of {source.id} was swept away") from None
    if result:
        items = _json.decode(result)  # It was checked when it was made.
        if not isinstance(items, list):
            raise NoItems(f"items-no-list: the result of {source.id} is no list")
    else:
        items = _lines(stream_path(directory, source.id, latest.number, "out"), source.id)
        if not items and latest.output_bytes and not latest.output_tail.isspace():
            raise NoItems(f"items-gone: what {source.id} printed was swept away")
    if len(items) > SUBTASKS_MAX:
        raise NoItems(f"items-too-many: {len(items)}, at most {SUBTASKS_MAX}")
    return items


def _lines(path: Path, source_id: str) -> list[Any]:
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size > STREAM_BYTES_MAX:
                text = f"{source_id} printed {size} bytes, at most {STREAM_BYTES_MAX}"
                raise NoItems(f"items-too-many: {text}")
            data = file.read()
    except FileNotFoundError:
        return []  # It printed nothing.
    items = []
    for number, line in enumerate(data.splitlines(), 1):
        if not line or line.isspace():
            continue
        try:
            items.append(_json.decode(line))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            shown = line[:60].decode(errors="replace")
            raise NoItems(f"items-not-json: line {number} of {source_id}: {shown}") from None
    return items
