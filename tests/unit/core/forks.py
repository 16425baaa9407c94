"""Groups and their parts, as the tests of forks, keeps and twins take them."""

from __future__ import annotations

from typing import Any

from raftsched.core.commands import SubmitTasks
from raftsched.core.handlers.forks import encode
from raftsched.core.model import NewTask
from raftsched.core.policy import Extra
from raftsched.core.workflow import Dependency, Fork, On
from tests.unit.core.builders import Replica, new_task, register


def part(name: str, *others: str, on: On = On.SUCCESS, **extra: Any) -> NewTask:
    """A part that waits for others."""
    depends_on = tuple(Dependency(other, on) for other in others)
    asked = Extra(depends_on=depends_on, **extra)
    return new_task(name, extra=None if asked == Extra() else asked)


def group(task_id: str, *parts: NewTask, extra: Extra | None = None, **fork: Any) -> NewTask:
    """A task of these parts."""
    extra = extra or Extra()
    fields = {name: getattr(extra, name) for name in ("depends_on", "delay_ms", "expires_ms")}
    return new_task(task_id, extra=Extra(fork=Fork(encode([*parts]), **fork), **fields))


def items(count: int) -> tuple[NewTask, ...]:
    return (NewTask("", b"spec"),) * count


def replica_with(*wanted: NewTask, **settings: int) -> Replica:
    """A node with room, and these tasks."""
    replica = Replica(**settings)
    replica.accepted(register(slots=1_000))
    if wanted:
        replica.accepted(SubmitTasks(wanted))
    return replica


def finish(replica: Replica, *task_ids: str, status: str = "succeeded") -> None:
    for task_id in task_ids:
        replica.assign(task_id)
        replica.finish(task_id, status)


def status(replica: Replica, task_id: str) -> str:
    return replica.task(task_id).status.value


def statuses(replica: Replica, task_id: str) -> list[str]:
    """Of its subtasks."""
    return [status(replica, subtask_id) for subtask_id in replica.state.trees.ids_of(task_id)]
