"""Bugs of leases, of what ``apply`` decides, and of the digest."""

from __future__ import annotations

import itertools
import os
from contextlib import AbstractContextManager, ExitStack
from typing import Any
from unittest.mock import patch

import msgspec

from raftsched.core import dependencies, machine
from raftsched.core import reckon as reckoning
from raftsched.core.commands import SubmitTasks
from raftsched.core.handlers import (
    HANDLERS,
    attempts,
    ends,
    forks,
    nodes,
    rows,
    runs,
    schedules,
    submit,
    timers,
)
from raftsched.core.lifecycle import HOLDING
from raftsched.core.limits import Permits
from raftsched.core.model import TaskStatus
from raftsched.core.tables import Table
from raftsched.core.timers import Timers, due_at
from raftsched.peer import firing
from raftsched.peer.leases import LeaseBook
from raftsched.peer.stamping import Reading
from raftsched.raft.engine import Engine
from tests.planted.base import together


def grant_without_a_quorum() -> AbstractContextManager[Any]:
    original = LeaseBook.grant

    def grant(self: Any, node_id: str, incarnation: str, now: float, age: Any) -> bool:
        return original(self, node_id, incarnation, now, 0.0)

    configured = Engine._configured

    def patient(self: Any, config: Any) -> Any:
        conf = configured(self, config)
        conf.leaderFallbackTimeout = 60.0
        return conf

    # As long as a leader without a quorum steps down, what it grants does not matter.
    return together(
        patch.object(LeaseBook, "grant", grant), patch.object(Engine, "_configured", patient)
    )


def do_not_wait_for_the_lease() -> AbstractContextManager[Any]:
    original = LeaseBook.condemned

    def condemned(self: Any, state: Any, now: float) -> Any:
        return original(self, state, now + 5.0)

    return patch.object(LeaseBook, "condemned", condemned)


def believe_any_token() -> AbstractContextManager[Any]:
    def is_live(task: Any, node_id: str, token: int) -> bool:
        return bool(task.attempts) and task.status in HOLDING

    return patch.object(attempts, "_is_live", is_live)


def run_what_was_cancelled_again() -> AbstractContextManager[Any]:
    original = attempts.lose

    def lose(changes: Any, task: Any, reason: str) -> None:
        if task.status is TaskStatus.CANCELLING:
            task = msgspec.structs.replace(task, status=TaskStatus.RUNNING)
        original(changes, task, reason)

    return together(
        patch.object(attempts, "lose", lose), patch.object(nodes, "lose", lose, create=True)
    )


def forget_keys() -> AbstractContextManager[Any]:
    def keyless(changes: Any, command: Any) -> Any:
        return submit.submit(changes, msgspec.structs.replace(command, key=""))

    return patch.dict(HANDLERS, {SubmitTasks: keyless})


def replace_without_waiting() -> AbstractContextManager[Any]:
    original = submit._Creation._replace

    def replace(self: Any, holder: Any) -> str:
        original(self, holder)
        return ""

    return patch.object(submit._Creation, "_replace", replace)


def start_what_may_start_once_again() -> AbstractContextManager[Any]:
    class Nothing:
        AT_MOST_ONCE = object()

    return patch.object(attempts, "Delivery", Nothing)


def let_everybody_through() -> AbstractContextManager[Any]:
    return patch.object(Permits, "shut", lambda self, gate: None)


def fire_too_early() -> AbstractContextManager[Any]:
    original = Timers.due

    def due(self: Any, now: int, limit: int) -> list[str]:
        return original(self, now + 5_000, limit)

    def due_earlier(task: Any) -> int:
        at = due_at(task)
        return max(1, at - 5_000) if at else 0

    return together(patch.object(Timers, "due", due), patch.object(timers, "due_at", due_earlier))


def look_at_a_clock_in_apply() -> AbstractContextManager[Any]:
    original = machine.apply
    # Another one in each process, and within one for each time that it is looked at.
    clock = itertools.count(1_800_000_000_000 + os.getpid())

    def apply(state: Any, index: int, entry: Any) -> Any:
        return original(state, index, msgspec.structs.replace(entry, now=next(clock)))

    return patch.object(machine, "apply", apply)


def believe_any_clock() -> AbstractContextManager[Any]:
    return patch.object(Reading, "is_shared", lambda self: True)


def change_without_telling_the_digest() -> AbstractContextManager[Any]:
    def update(self: Any, rows: Any) -> None:
        for key, (number, old, row) in rows.items():
            self._writable(number)[key] = row
            if old is None:
                self._length += 1
            else:
                self.sum.changed.setdefault(key, old)

    return patch.object(Table, "update", update)


def take_any_end_for_the_right_one() -> AbstractContextManager[Any]:
    return patch.object(dependencies, "is_met", lambda on, to: True)


def join_as_soon_as_one_is_there() -> AbstractContextManager[Any]:
    usual = dependencies.fate_of

    def fate_of(extra: Any) -> Any:
        return True if extra.met else usual(extra)

    both = ExitStack()
    for module in (ends, submit, rows):
        both.enter_context(patch.object(module, "fate_of", fate_of))
    return both


def let_go_one_too_many() -> AbstractContextManager[Any]:
    usual = forks.window
    return patch.object(forks, "window", lambda fork: usual(fork) + 1)


def end_with_the_first_subtask() -> AbstractContextManager[Any]:
    def subtask_ended(changes: Any, task: Any, to: Any, parent_id: str) -> None:
        parent = changes.task(parent_id)
        if parent.status is TaskStatus.WAITING:
            ends.end(changes, parent, TaskStatus.SUCCEEDED, "")

    return patch.object(ends, "_subtask_ended", subtask_ended)


def cancel_a_whole_and_leave_its_parts() -> AbstractContextManager[Any]:
    original = ends._stop_subtasks

    def stop_subtasks(changes: Any, task: Any, to: TaskStatus, reason: str) -> None:
        if to is TaskStatus.CANCELLED:
            ends.end(changes, task, to, reason)
        else:
            original(changes, task, to, reason)

    return patch.object(ends, "_stop_subtasks", stop_subtasks)


def fire_what_has_fired() -> AbstractContextManager[Any]:
    original = firing.Firing._fires
    last: dict[int, Any] = {}

    def fires(self: Any, state: Any) -> Any:
        """A leader that does not know what became of its last fires says them again."""
        found, before = original(self, state), last.get(id(self), ())
        last[id(self)] = found
        return (*before, *found)

    return together(
        patch.object(firing.Firing, "_fires", fires),
        patch.object(schedules, "_is_stale", lambda row, fired: row.paused),
        patch.object(schedules, "_why_not", lambda row, fired, now: ""),
    )


def begin_from_now() -> AbstractContextManager[Any]:
    """A leader that fires what is due from now on, and not what the row says is next."""

    def reckon(row: Any, now: int) -> Any:
        fire = reckoning.reckon(row, now)
        return msgspec.structs.replace(fire, instants=fire.instants[-1:], passed=None)

    return together(
        patch.object(firing, "reckon", reckon),
        patch.object(schedules, "_why_not", lambda row, fired, now: ""),
    )


def fire_and_lose_the_run() -> AbstractContextManager[Any]:
    """The row of every third second names a task, and nobody makes it."""
    usual = runs.Runs._create

    def create(self: Any, at: int, after: str) -> str:
        return usual(self, at, after) if at // 1_000 % 3 else str(self._free_id(at))

    return patch.object(runs.Runs, "_create", create)
