"""A map of many items: its subtasks follow the submission in pieces."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from raftsched.api.context import Context
from raftsched.api.documents import Map, TaskRequest
from raftsched.api.forks import filled, items_of
from raftsched.api.problems import Problem
from raftsched.api.retries import PartsGone
from raftsched.api.tasks import known_task
from raftsched.core.commands import AddSubtasks
from raftsched.core.items import PIECE_TASKS_MAX, pieces, template_of
from raftsched.core.model import TERMINAL, NewTask
from raftsched.peer.errors import PeerError

#: The subtasks from a number on.
Made = Callable[[int], Iterable[NewTask]]


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


def of_items(spec: bytes, items: Sequence[Any]) -> Made:
    """One for each item, of a task with this specification."""
    template = template_of(spec)
    return lambda first: filled(template, items[first:], first)


async def push(
    context: Context, task_id: str, count: int, made: Made, pointer: str = "/map"
) -> None:
    """Add the subtasks of an open fork that are missing yet, and say that no more come.

    So a request that is repeated goes on with them.  ``pointer``: of what asks for them.  Raises
    Problem.
    """
    task = known_task(context, task_id)
    fork = None if task.extra is None else task.extra.fork
    if task.extra is None or fork is None or not fork.is_open or task.status in TERMINAL:
        return
    first = task.extra.subtasks
    try:
        for at, piece in pieces(made(first), first):
            await context.propose(AddSubtasks(task_id, at, piece))
        await context.propose(AddSubtasks(task_id, count, (), is_last=True))
    except PartsGone as problem:
        # Nobody has the others: it ends now, and not when nothing came for a while.
        await context.propose(AddSubtasks(task_id, 0, (), failure=f"items-missing: {problem}"))
        raise
    except Problem as problem:
        if problem.code == "task-terminal":
            return  # Its end came first: what was sent failed, or somebody cancelled it.
        extra = {**problem.extra, "applied": "unknown"}
        text = _broken_off(problem, task_id)
        raise Problem(problem.code, text, pointer=problem.pointer or pointer, extra=extra) from None
    except PeerError as error:
        # The task is made: "surely not applied" would not be true of the whole.
        raise Problem("outcome-unknown", _broken_off(error, task_id)) from error


def _broken_off(error: Exception, task_id: str) -> str:
    return f"{error}; not all subtasks of {task_id} are made: repeat with the key"
