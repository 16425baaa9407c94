"""Tasks that run as their subtasks do: groups, their joins and bounds."""

from __future__ import annotations

import pytest

from raftsched.core.commands import (
    AddSubtasks,
    ApplyRetention,
    CancelTask,
    EditTask,
    FireTimers,
    PauseTask,
    PutSchedule,
    ResumeTask,
    RunNow,
    SubmitTasks,
    TriggerSchedule,
    UpdateSettings,
)
from raftsched.core.explain import explain
from raftsched.core.handlers import forks
from raftsched.core.handlers.forks import PARTS_MAX, encode
from raftsched.core.model import Settings
from raftsched.core.outcomes import Reason, Rejected
from raftsched.core.policy import ALL_NODES, Extra
from raftsched.core.schedule import Schedule
from raftsched.core.versions import SCHEDULES
from raftsched.core.workflow import ANY_NUMBER, Fork, On
from tests.unit.core.builders import new_task
from tests.unit.core.forks import finish, group, items, part, replica_with, status, statuses


def test_a_group_goes_as_its_parts_depend_on_one_another() -> None:
    replica = replica_with(
        group("w", part("fetch"), part("left", "fetch"), part("right", "fetch"),
              part("merge", "left", "right"))
    )  # fmt: skip
    assert replica.state.trees.ids_of("w") == ["w.fetch", "w.left", "w.right", "w.merge"]
    assert statuses(replica, "w") == ["queued", "waiting", "waiting", "waiting"]
    finish(replica, "w.fetch")
    assert statuses(replica, "w") == ["succeeded", "queued", "queued", "waiting"]
    finish(replica, "w.left", "w.right")
    assert status(replica, "w.merge") == "queued"
    assert status(replica, "w") == "waiting"
    finish(replica, "w.merge")
    assert status(replica, "w") == "succeeded"


def test_a_part_that_was_never_to_run_is_no_failure() -> None:
    backup = group("w", part("backup"), part("alert", "backup", on=On.FAILURE), is_patient=True)
    replica = replica_with(backup)
    finish(replica, "w.backup")
    assert replica.task("w.alert").reason == "depends-on: w.backup succeeded"
    assert (status(replica, "w"), replica.task("w").reason) == ("succeeded", "")


def test_a_part_that_failed_is_one_though_somebody_minds_it() -> None:
    backup = group("w", part("backup"), part("alert", "backup", on=On.FAILURE), is_patient=True)
    replica = replica_with(backup)
    finish(replica, "w.backup", status="failed")
    finish(replica, "w.alert")
    assert status(replica, "w") == "failed"
    assert replica.task("w").reason == "1 of 2 subtasks did not succeed"


def test_the_first_failure_stops_the_others_and_fails_the_whole() -> None:
    replica = replica_with(group("w", part("a"), part("b"), part("c"), part("d", "c")))
    replica.run("w.b")
    finish(replica, "w.a", status="failed")
    assert statuses(replica, "w") == ["failed", "cancelling", "cancelled", "cancelled"]
    assert status(replica, "w") == "waiting"
    replica.finish("w.b", "cancelled")
    assert (status(replica, "w"), replica.task("w").reason) == ("failed", "failures: w.a failed")


@pytest.mark.parametrize(
    ("allowed", "is_patient", "ended", "whole"),
    [
        (0, False, ["failed", "cancelled", "cancelled"], "failed"),
        (1, False, ["failed", "queued", "queued"], "waiting"),
        (0, True, ["failed", "queued", "queued"], "waiting"),
        (ANY_NUMBER, False, ["failed", "queued", "queued"], "waiting"),
    ],
)
def test_so_many_may_fail(allowed: int, is_patient: bool, ended: list[str], whole: str) -> None:
    parts = group("w", part("a"), part("b"), part("c"), failures_max=allowed, is_patient=is_patient)
    replica = replica_with(parts)
    finish(replica, "w.a", status="failed")
    assert (statuses(replica, "w"), status(replica, "w")) == (ended, whole)
    if whole == "waiting":
        finish(replica, "w.b", "w.c")
        assert status(replica, "w") == ("failed" if is_patient else "succeeded")


def test_what_is_above_the_bound_is_held_until_others_have_ended() -> None:
    replica = replica_with(group("w", *map(new_task, "abcd"), parallel_max=2))
    assert statuses(replica, "w") == ["queued", "queued", "waiting", "waiting"]
    held = replica.task("w.c")
    assert held.reason == "held"
    blocker = explain(replica.state, held, replica.now).blockers[0]
    assert (blocker.kind, blocker.name) == ("parallel_max", "w")
    assert replica.refused(RunNow("w.c")).reason is Reason.TASK_NOT_QUEUED
    finish(replica, "w.b")
    assert statuses(replica, "w") == ["queued", "succeeded", "queued", "waiting"]
    replica.accepted(CancelTask("w.d"))
    assert statuses(replica, "w") == ["cancelled", "succeeded", "cancelled", "cancelled"]


def test_a_pause_holds_what_is_held_and_the_end_of_it_lets_go() -> None:
    replica = replica_with(group("w", *map(new_task, "abc"), parallel_max=1))
    replica.accepted(PauseTask("w"))
    assert replica.task("w.a").paused
    replica.accepted(CancelTask("w.b"))
    assert status(replica, "w") == "failed"
    replica = replica_with(
        group("w", *map(new_task, "abc"), parallel_max=1, failures_max=ANY_NUMBER)
    )
    replica.run("w.a")
    replica.accepted(PauseTask("w"))
    replica.finish("w.a")
    assert statuses(replica, "w") == ["succeeded", "waiting", "waiting"]
    replica.accepted(ResumeTask("w"))
    assert statuses(replica, "w") == ["succeeded", "queued", "waiting"]


def test_held_ones_keep_their_turn_through_a_pause_and_a_restore() -> None:
    replica = replica_with(group("w", *map(new_task, "abcd"), parallel_max=1, is_patient=True))
    replica.accepted(PauseTask("w.b"))
    replica.accepted(ResumeTask("w.b"))
    held = replica.state.trees.of("w")
    assert held is not None and [*held.held] == ["w.b", "w.c", "w.d"]


def test_ids_have_a_bound() -> None:
    inner = group("n" * 64, new_task("n" * 64), new_task("m" * 64))
    replica = replica_with(group("w" * 64, group("n" * 64, inner)))
    assert max(len(task.id) for task in replica.state.tasks.values()) <= forks.ID_MAX
    assert len(replica.state.tasks) == 5


def test_it_begins_when_its_time_has_come_or_at_once() -> None:
    replica = replica_with(group("w", part("a"), extra=Extra(delay_ms=60_000)))
    assert replica.state.trees.of("w") is None
    replica.accepted(RunNow("w"))
    assert statuses(replica, "w") == ["queued"]


def test_parts_have_parts() -> None:
    inner = group("inner", part("x"), part("y", "x"))
    replica = replica_with(group("w", part("a"), inner, part("wide", broadcast=ALL_NODES)))
    assert replica.state.trees.ids_of("w.inner") == ["w.inner.x", "w.inner.y"]
    finish(replica, "w.a", "w.wide.1", "w.inner.x", "w.inner.y")
    assert status(replica, "w") == "succeeded"
    replica.accepted(UpdateSettings(Settings(finished_max=0)))
    assert replica.accepted(ApplyRetention()) == (7, 0)
    assert len(replica.state.tasks) == 0


def test_a_group_that_is_submitted_again_is_the_same() -> None:
    wanted = group("w", part("a"), part("b", "a"))
    replica = replica_with(wanted)
    finish(replica, "w.a")
    assert replica.accepted(SubmitTasks((wanted,))).existing == (0,)
    other = group("w", part("a"), part("c", "a"))
    assert replica.refused(SubmitTasks((other,))).reason is Reason.DUPLICATE_ID


def test_there_must_be_room_for_the_parts() -> None:
    replica = replica_with(group("w", *map(new_task, "abc")), tasks_open_max=3)
    assert (status(replica, "w"), replica.task("w").reason) == ("waiting", "overloaded")
    replica.accepted(UpdateSettings(Settings()))
    replica.now += 1_000
    replica.accepted(FireTimers())
    assert statuses(replica, "w") == ["queued"] * 3


def test_it_is_not_edited_once_it_has_begun() -> None:
    replica = replica_with(
        group("w", part("a")), group("v", part("a"), extra=Extra(delay_ms=9_999))
    )
    assert replica.refused(EditTask(new_task("w"))).reason is Reason.PART_OF_TREE
    assert replica.refused(EditTask(new_task("w.a"))).reason is Reason.PART_OF_TREE
    replica.accepted(EditTask(new_task("v", priority=9)))
    assert statuses(replica, "v") == ["queued"]


@pytest.mark.parametrize(
    ("fork", "why"),
    [
        (Fork(b"\xc1"), "the parts cannot be read"),
        (Fork(encode([])), "0 parts"),
        (Fork(encode([new_task(f"p{n}") for n in range(PARTS_MAX + 1)])), "1001 parts"),
        (Fork(encode([part("b", "a"), part("a")])), "depends on a, which is no part before it"),
        (Fork(encode([part("a"), part("a")])), "a name of its own"),
        (Fork(encode([new_task("a", priority=101)])), "invalid"),
        (Fork(encode([part("a", unique_key="u")])), "what a part cannot have"),
        (Fork(encode([part("a", delay_ms=1)]), parallel_max=1), "wait for nothing else"),
        (Fork(parallel_max=-1), "negative"),
        (Fork(failures_max=-2), "negative"),
        (Fork(has_begun=True), "only the cluster"),
        (Fork(items_from="a"), "is open"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_rubbish_is_refused(fork: Fork, why: str) -> None:
    replica = replica_with(new_task("a"))
    refused = replica.refused(SubmitTasks((new_task("w", extra=Extra(fork=fork)),)))
    assert refused.reason is Reason.INVALID
    assert why in refused.detail


def test_parts_are_not_within_one_another_without_end() -> None:
    wanted = group("p", part("a"))
    for _ in range(forks.NESTING_MAX):
        wanted = group("p", wanted)
    assert "deep" in replica_with().refused(SubmitTasks((wanted,))).detail


def test_a_schedule_runs_a_group() -> None:
    replica = replica_with()
    replica.accepted(PutSchedule(Schedule("s", group("", part("a"), part("b", "a")), b"timing")))
    (run,) = replica.accepted(TriggerSchedule("s")).task_ids
    assert statuses(replica, run) == ["queued", "waiting"]
    open_one = new_task("", extra=Extra(fork=Fork(is_open=True)))
    refused = replica.refused(PutSchedule(Schedule("t", open_one, b"timing")))
    assert refused.reason is Reason.INVALID


def test_the_version_before_knows_no_forks() -> None:
    replica = replica_with()
    replica.state.version = SCHEDULES
    for command in (
        SubmitTasks((group("w", part("a")),)),
        AddSubtasks("w", 0, items(1)),
        PutSchedule(Schedule("s", group("", part("a")), b"timing")),
    ):
        refused = replica.do(command)
        assert isinstance(refused, Rejected)
        assert refused.reason is Reason.NEEDS_VERSION
