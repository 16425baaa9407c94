"""Tasks that wait for the ends of others: what is met, and what never will be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from raftsched.core.model import TERMINAL, Task, TaskStatus
from raftsched.core.policy import Extra
from raftsched.core.workflow import On

#: Tasks that one waits for, and tasks that wait for one.
DEPENDENCIES_MAX = 1_000
DEPENDENTS_MAX = 10_000
#: Tasks that wait for one another within a submission, one behind the other.
DEPTH_MAX = 1_000


def is_met(on: On, to: TaskStatus) -> bool:
    """Is an end the one that is waited for?"""
    return on is On.ALWAYS or (to is TaskStatus.SUCCEEDED) is (on is On.SUCCESS)


def with_end(extra: Extra, task_id: str, to: TaskStatus) -> Extra:
    """The same after the end of one of those that are waited for."""
    met = sum([d.task_id == task_id and is_met(d.on, to) for d in extra.depends_on])
    awaits = tuple([other for other in extra.awaits if other != task_id])
    return msgspec.structs.replace(extra, awaits=awaits, met=extra.met + met)


def fate_of(extra: Extra) -> bool | None:
    """True: it may run.  False: it never will.  None: it waits on."""
    needs = extra.needs or len(extra.depends_on)
    if extra.met >= needs:
        return True
    pending = sum([d.task_id in extra.awaits for d in extra.depends_on])
    return None if extra.met + pending >= needs else False


def begun(extra: Extra, known: Mapping[str, Task]) -> Extra:
    """What a new task waits for.  ``known``: the tasks that it depends on, as they are."""
    extra = msgspec.structs.replace(
        extra, awaits=tuple(dict.fromkeys(d.task_id for d in extra.depends_on)), met=0
    )
    for task_id, task in known.items():
        if task.status in TERMINAL:
            extra = with_end(extra, task_id, task.status)
    return extra


def in_order(edges: Mapping[str, Sequence[str]]) -> tuple[list[str], list[str]]:
    """Ids with those that they wait for before them; and the ring or the chain that forbids it.

    ``edges``: by id, the ids that it waits for; others than the keys are passed over.  The second
    list is empty if there is an order, a ring (the first id again at its end) or a chain of more
    than `DEPTH_MAX`.
    """
    depth: dict[str, int] = {}
    path: dict[str, None] = {}
    for start in edges:
        stack = [(start, False)]
        while stack:
            node, is_done = stack.pop()
            if is_done:
                del path[node]
                depth[node] = 1 + max([depth[o] for o in edges[node] if o in edges], default=0)
                if depth[node] > DEPTH_MAX:
                    return [], [*path, node]
            elif node in path:
                ring = list(path)
                return [], [*ring[ring.index(node) :], node]
            elif node not in depth:
                path[node] = None
                stack.append((node, True))
                stack += [(other, False) for other in reversed(edges[node]) if other in edges]
    return list(depth), []
