"""A map of many items: its subtasks follow the submission in pieces."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import msgspec

from raftsched.api.context import Context
from raftsched.api.documents import Map, TaskRequest
from raftsched.api.forks import filled, items_of
from raftsched.core.commands import AddSubtasks
from raftsched.core.items import PIECE_TASKS_MAX, pieces, template_of
from raftsched.core.model import NewTask, Task

_json = msgspec.json.Encoder()


def is_in_pieces(request: TaskRequest, new: NewTask) -> bool:
    """Do its subtasks follow the submission?"""
    fork = None if new.extra is None else new.extra.fork
    return request.map is not None and fork is not None and fork.is_open and not fork.items_from


async def check(asked: Map, new: NewTask) -> Sequence[Any]:
    """The items, each of which fits.  Raises Problem."""
    items = items_of(asked)
    for count, _ in enumerate(filled(template_of(new.spec), items, 0), 1):
        if count % PIECE_TASKS_MAX == 0:
            await asyncio.sleep(0)
    return items


async def push(context: Context, task: Task, items: Sequence[Any]) -> None:
    """Add the subtasks that are missing yet, and say that no more come.  Raises Problem."""
    assert task.extra is not None
    template, first = template_of(task.spec), task.extra.subtasks
    for at, piece in pieces(filled(template, items[first:], first), first):
        await context.propose(AddSubtasks(task.id, at, piece))
    await context.propose(AddSubtasks(task.id, len(items), (), is_last=True))
