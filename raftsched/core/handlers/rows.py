"""New rows of tasks: what may be asked for, and how a task begins."""

from __future__ import annotations

import msgspec

from raftsched.core.dependencies import DEPENDENCIES_MAX, fate_of
from raftsched.core.model import NewTask, Task, TaskStatus, Terms
from raftsched.core.outcomes import Reason, Rejected
from raftsched.core.policy import ALL_NODES, BROADCAST_MAX, Extra, Policy
from raftsched.core.state import State
from raftsched.core.strategies import STRATEGIES, STRATEGIES_FIRST
from raftsched.core.timers import starts_at
from raftsched.core.versions import POLICIES

_QUEUED = TaskStatus.QUEUED
_WAITING = TaskStatus.WAITING
Fields = tuple[str, str, int, int, int, str, int, Policy | None]


#: The last part of the room for open tasks, in hundredths, is for this priority and higher.
RESERVED_PERCENT = 10
RESERVED_PRIORITY = 50
#: What a row takes in memory beside its specification, about.
ROW_BYTES = 600


def overload(state: State, tasks: tuple[NewTask, ...]) -> Rejected | None:
    """Why none of these can be taken."""
    limit = state.settings.tasks_open_max
    if _is_over(state, tasks, limit):
        return Rejected(Reason.OVERLOADED, f"{limit} open tasks are allowed")
    if state.version < POLICIES:
        return None
    limit -= limit * RESERVED_PERCENT // 100
    if min([new.priority for new in tasks]) < RESERVED_PRIORITY and _is_over(state, tasks, limit):
        return Rejected(
            Reason.OVERLOADED,
            f"{limit} open tasks are allowed for a priority below {RESERVED_PRIORITY}",
        )
    size = state.spec_bytes + sum([len(new.spec) for new in tasks])
    size += sum([len(new.extra.fork.parts) for new in tasks if new.extra and new.extra.fork])
    size += ROW_BYTES * (state.open_count + len(tasks))
    if size > state.settings.open_bytes_max:
        return Rejected(
            Reason.OVERLOADED, f"open tasks may have {state.settings.open_bytes_max} bytes"
        )
    return None


def _is_over(state: State, tasks: tuple[NewTask, ...], limit: int) -> bool:
    """Would there be too many open tasks?  Those that are there already are not counted again."""
    room = limit - state.open_count
    if len(tasks) <= room:
        return False
    fresh = {new.id for new in tasks if new.id not in state.tasks}
    return len(fresh) > max(0, room)


def extra_with(extra: Extra, after: str) -> Extra:
    """The same with another ``after``."""
    return extra if extra.after == after else msgspec.structs.replace(extra, after=after)


def is_askable(extra: Extra) -> bool:
    """Is there nothing in it that only ``apply`` says?"""
    return (
        not (extra.parent or extra.subtasks or extra.stopping or extra.schedule or extra.slot)
        and not (extra.awaits or extra.met or extra.twin or extra.twin_of or extra.borrowed)
        and len(extra.depends_on) <= DEPENDENCIES_MAX
        and 0 <= extra.needs <= len(extra.depends_on)
        and not (extra.depends_on and extra.unique_key and extra.on_conflict == "replace")
        and ALL_NODES <= extra.broadcast <= BROADCAST_MAX
        and not (extra.number or (extra.broadcast and extra.fork is not None))
    )


def new_row(task: Task, extra: Extra, now: int) -> Task:
    """A queued task with what it asks for beside its terms: it may have to wait."""
    status, reason, ready_at = _QUEUED, "", 0
    if extra.after:
        status, reason = _WAITING, "replaces"
    elif extra.awaits or fate_of(extra) is False:
        status, reason = _WAITING, "depends-on"
    elif (at := starts_at(extra, task.created_at)) > now:
        status, reason, ready_at = _WAITING, "not-before", at
    elif extra.broadcast or extra.fork is not None:
        status = _WAITING  # `make_ready` is the next that is done with it.
    return Task(
        task.id, task.spec, task.terms, task.created_at, task.create_index, task.order,
        status, task.modify_index, reason, task.losses, task.paused, 0, task.attempts, ready_at,
        extra,
    )  # fmt: skip


def checked_terms(state: State, fields: Fields) -> Terms | Reason:
    """The terms with these fields, kept once for all tasks that ask the same; or why not."""
    terms = Terms(*fields)
    known = STRATEGIES if state.version >= POLICIES else STRATEGIES_FIRST
    if terms.strategy not in known:
        return Reason.UNKNOWN_STRATEGY
    if not (
        0 <= terms.priority <= 100
        and terms.cpu_milli >= 0
        and terms.memory_bytes >= 0
        and 1 <= terms.attempts_max <= 100
        and (terms.policy is None or _is_sane(terms.policy))
    ):
        return Reason.INVALID
    return state.share_terms(terms)


def _is_sane(policy: Policy) -> bool:
    """No number of it would make ``apply`` do nonsense."""
    numbers = (
        policy.backoff_base_ms,
        policy.backoff_max_ms,
        policy.queue_timeout_ms,
        policy.lease_ms,
        policy.losses_max,
        *[count for _, count in policy.resources],
    )
    # In order and each once: what is counted twice is let go of twice.
    is_sorted = all(
        list(names) == sorted(set(names))
        for names in (policy.limits, [name for name, _ in policy.resources])
    )
    return min(numbers) >= 0 and 0 <= policy.jitter_permille <= 1_000 and is_sorted
