"""Subtasks that come in pieces, and what their task does until all of them are there."""

from __future__ import annotations

import pytest

from raftsched.core.commands import (
    AddSubtasks,
    CancelTask,
    FireTimers,
    PauseTask,
    ResumeTask,
    SubmitTasks,
)
from raftsched.core.handlers import ends, forks
from raftsched.core.handlers.forks import OPEN_MS
from raftsched.core.outcomes import Reason
from raftsched.core.policy import Extra
from raftsched.core.workflow import Dependency, Fork
from tests.unit.core.builders import new_task
from tests.unit.core.forks import finish, group, items, part, replica_with, status, statuses


def test_subtasks_come_in_pieces_and_each_once() -> None:
    replica = replica_with(new_task("m", extra=Extra(fork=Fork(is_open=True))))
    assert replica.accepted(AddSubtasks("m", 0, items(3))) == 3
    assert replica.accepted(AddSubtasks("m", 0, items(3))) == 3
    assert replica.accepted(AddSubtasks("m", 2, items(2))) == 4
    assert replica.refused(AddSubtasks("m", 5, items(1))).reason is Reason.INVALID
    assert replica.state.trees.ids_of("m") == ["m.0", "m.1", "m.2", "m.3"]
    finish(replica, "m.0", "m.1", "m.2", "m.3")
    assert status(replica, "m") == "waiting"
    assert replica.accepted(AddSubtasks("m", 4, items(1), is_last=True)) == 5
    assert replica.accepted(AddSubtasks("m", 4, items(1), is_last=True)) == 5
    assert replica.refused(AddSubtasks("m", 5, items(1))).reason is Reason.INVALID
    finish(replica, "m.4")
    assert status(replica, "m") == "succeeded"
    assert replica.refused(AddSubtasks("m", 5, items(1))).reason is Reason.TASK_TERMINAL


def test_a_fork_of_nothing_succeeds() -> None:
    replica = replica_with(new_task("m", extra=Extra(fork=Fork(is_open=True))))
    replica.accepted(AddSubtasks("m", 0, (), is_last=True))
    assert status(replica, "m") == "succeeded"
    replica.accepted(SubmitTasks((new_task("e", extra=Extra(fork=Fork())),)))
    assert status(replica, "e") == "succeeded"


def test_one_join_waits_for_a_fork_of_nothing_within_its_group() -> None:
    empty = new_task("m", extra=Extra(fork=Fork()))
    replica = replica_with(group("w", empty, part("merge", "m")))
    assert statuses(replica, "w") == ["succeeded", "queued"]


def test_subtasks_wait_as_long_as_their_task_does() -> None:
    open_one = Extra(depends_on=(Dependency("a"),), fork=Fork(is_open=True))
    replica = replica_with(new_task("a"), new_task("m", extra=open_one))
    replica.accepted(AddSubtasks("m", 0, items(2), is_last=True))
    assert statuses(replica, "m") == ["waiting", "waiting"]
    finish(replica, "a")
    assert statuses(replica, "m") == ["queued", "queued"]


def test_subtasks_of_a_task_that_never_runs_end_with_it() -> None:
    open_one = Extra(depends_on=(Dependency("a"),), fork=Fork(is_open=True))
    replica = replica_with(new_task("a"), new_task("m", extra=open_one), part("z", "m"))
    replica.accepted(AddSubtasks("m", 0, items(2)))
    finish(replica, "a", status="failed")
    assert statuses(replica, "m") == ["cancelled", "cancelled"]
    assert (status(replica, "m"), status(replica, "z")) == ("cancelled", "cancelled")


def test_one_whose_subtasks_do_not_come_fails_in_time() -> None:
    replica = replica_with(new_task("m", extra=Extra(fork=Fork(is_open=True))))
    replica.accepted(AddSubtasks("m", 0, items(1)))
    finish(replica, "m.0")
    replica.now += OPEN_MS
    replica.accepted(FireTimers())
    assert (status(replica, "m"), replica.task("m").reason) == ("failed", "items-missing")


def test_one_whose_subtasks_cannot_be_made_fails_with_the_reason() -> None:
    replica = replica_with(new_task("m", extra=Extra(fork=Fork(is_open=True))))
    replica.accepted(AddSubtasks("m", 0, items(1)))
    replica.accepted(AddSubtasks("m", 1, (), failure="items-not-json: line 2"))
    assert statuses(replica, "m") == ["cancelled"]
    assert replica.task("m").reason == "items-not-json: line 2"
    assert status(replica, "m") == "failed"


def test_many_that_are_held_are_ended_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forks, "WINDOW", 2)
    monkeypatch.setattr(ends, "STOPPED_MAX", 3)
    replica = replica_with(new_task("m", extra=Extra(fork=Fork(is_open=True))), part("z", "m"))
    replica.accepted(AddSubtasks("m", 0, items(10), is_last=True))
    replica.run("m.0")
    replica.accepted(CancelTask("m", "enough"))
    assert statuses(replica, "m").count("cancelled") == 4
    assert replica.state.timers.first() == replica.state.now
    for _ in range(3):
        replica.accepted(FireTimers())
    assert replica.state.timers.first() == 0
    assert statuses(replica, "m") == ["cancelling", *["cancelled"] * 9]
    assert replica.task("m").reason == "enough"
    replica.finish("m.0", "cancelled")
    assert (status(replica, "m"), status(replica, "z")) == ("cancelled", "cancelled")


def test_held_ones_are_ended_by_time_and_the_whole_with_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(forks, "WINDOW", 2)
    monkeypatch.setattr(ends, "STOPPED_MAX", 3)
    replica = replica_with(new_task("m", extra=Extra(fork=Fork(is_open=True))))
    replica.accepted(AddSubtasks("m", 0, items(10), is_last=True))
    replica.accepted(CancelTask("m"))
    while replica.state.timers.first():
        replica.now += 1_000
        replica.accepted(FireTimers())
    assert status(replica, "m") == "cancelled"


def test_what_is_made_under_a_pause_runs_when_it_ends() -> None:
    replica = replica_with(group("w", part("a"), part("b"), extra=Extra(delay_ms=1_000)))
    replica.accepted(PauseTask("w"))
    replica.now += 1_000
    replica.accepted(FireTimers())
    replica.accepted(ResumeTask("w"))
    assert statuses(replica, "w") == ["queued", "queued"]
    assert not replica.task("w.a").paused
    replica = replica_with(new_task("m", extra=Extra(fork=Fork(is_open=True))))
    replica.accepted(PauseTask("m"))
    replica.accepted(AddSubtasks("m", 0, items(2)))
    replica.accepted(ResumeTask("m"))
    assert not any(replica.task(f"m.{n}").paused for n in range(2))
    assert statuses(replica, "m") == ["queued", "queued"]


def test_subtasks_of_others_are_refused() -> None:
    replica = replica_with(new_task("a"), new_task("m", extra=Extra(fork=Fork(is_open=True))))
    assert replica.refused(AddSubtasks("a", 0, items(1))).reason is Reason.INVALID
    assert replica.refused(AddSubtasks("no", 0, items(1))).reason is Reason.UNKNOWN_TASK
    for wrong in (new_task("x"), new_task("", extra=Extra()), new_task("", priority=101)):
        assert replica.refused(AddSubtasks("m", 0, (wrong,))).reason is Reason.INVALID
