"""Subtasks that run a second time: their twins are made here, and end in ``ends``.

A twin is a row of its own with attempts and fencing tokens of its own, but no part of the fork: it
is not counted there, and what it comes to is borrowed by its part.
"""

from __future__ import annotations

import msgspec

from raftsched.core.changes import Changes
from raftsched.core.commands import Speculate, Straggler
from raftsched.core.constraints import NODE_ID
from raftsched.core.handlers.forks import free_id, has_room, twin_id, window
from raftsched.core.model import Task, TaskStatus
from raftsched.core.outcomes import Accepted, Outcome, Reason, Rejected
from raftsched.core.policy import USUAL, Constraint, Delivery, Extra, Op, Policy
from raftsched.core.trees import parent_of


def why_no_twin(policy: Policy | None, extra: Extra) -> str:
    """Why a task can have no twin, whatever becomes of it; empty if it can."""
    policy = policy or USUAL
    if extra.fork is not None or extra.broadcast or extra.subtasks:
        return "it does not run itself"
    if extra.depends_on:
        return "it depends on others"
    if extra.unique_key or policy.limits:
        return "it holds a limit or a unique key, which is there once"
    if policy.delivery is Delivery.AT_MOST_ONCE:
        return "it may be started once"
    return "a twin has none itself" if extra.twin_of else ""


def speculate(changes: Changes, command: Speculate) -> Outcome:
    """Value: per straggler the id of its twin, or the `Rejected`."""
    return Accepted(tuple([_speculate(changes, late) for late in command.stragglers]))


def _speculate(changes: Changes, late: Straggler) -> str | Rejected:
    task = changes.task(late.task_id)
    if task is None:
        return Rejected(Reason.UNKNOWN_TASK, late.task_id)
    if task.token != late.token or task.status is not TaskStatus.RUNNING:
        return Rejected(Reason.STALE_TOKEN, f"{task.status}, token {task.token}")
    extra, parent = task.extra or Extra(), changes.task(parent_of(task))
    if extra.twin:
        return Rejected(Reason.DUPLICATE_ID, extra.twin)
    if task.paused or task.attempts[-1].is_evicted:
        return Rejected(Reason.TASK_PAUSED, task.id)
    why = why_no_twin(task.terms.policy, extra) or _why_not(changes, parent)
    if why:
        return Rejected(Reason.INVALID, why)
    assert parent is not None
    if not has_room(changes, 1) or _is_full(changes, task.queue):
        return Rejected(Reason.OVERLOADED, task.queue)
    twin = _twin(changes, task)
    changes.put(twin)
    changes.put(
        msgspec.structs.replace(
            task, extra=msgspec.structs.replace(extra, twin=twin.id), modify_index=changes.index
        )
    )
    changes.tally(parent.id).twins += 1
    changes.event("task_queued", twin.id, detail="twin")
    changes.event("task_changed", task.id, task.node, "twin")
    return twin.id


def _why_not(changes: Changes, parent: Task | None) -> str:
    """Why a fork lets no subtask have a twin now; empty if it does."""
    if parent is None or parent.extra is None or parent.extra.fork is None:
        return "it is no part of a fork"
    fork, tally = parent.extra.fork, changes.tally(parent.id)
    if fork.speculation is None:
        return f"{parent.id} does not ask for it"
    if fork.is_open or tally.has_held or parent.paused or parent.extra.stopping:
        return f"others of {parent.id} are to run before, or none is"
    if tally.under_way + tally.twins >= window(fork):
        return f"{parent.id} runs {window(fork)} at once, and no more"
    return ""


def _is_full(changes: Changes, queue: str) -> bool:
    """Has the queue as many open tasks as it may, with all that this command adds?"""
    row, use = changes.state.queues.get(queue), changes.state.queue_use.get(queue)
    if row is None or not row.depth_max:
        return False
    added = len([task_id for task_id, (_, stands, _) in changes.tasks.items() if stands is None])
    return (0 if use is None else use.open) + added >= row.depth_max


def _twin(changes: Changes, task: Task) -> Task:
    """The same somewhere else, once."""
    policy = task.terms.policy or USUAL
    elsewhere = Constraint(NODE_ID, Op.NOT_EQUAL, (task.node,))
    policy = msgspec.structs.replace(policy, constraints=(*policy.constraints, elsewhere))
    terms = msgspec.structs.replace(task.terms, policy=policy, attempts_max=1)
    order = changes.next_order
    changes.next_order = order + 1
    return Task(
        free_id(changes, twin_id(task.id)),
        task.spec,
        changes.state.share_terms(terms),
        changes.state.now,
        changes.index,
        order,
        TaskStatus.QUEUED,
        changes.index,
        extra=Extra(twin_of=task.id),
    )
