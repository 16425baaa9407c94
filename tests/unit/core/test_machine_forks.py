"""Tasks that run as their subtasks do: groups, fan-out in pieces, joins."""

from __future__ import annotations

from typing import Any

import pytest

from raftsched.core import codec
from raftsched.core.commands import (
    AddSubtasks,
    ApplyRetention,
    Assignment,
    AssignTasks,
    AttemptFinished,
    CancelTask,
    CancelTasks,
    DeleteSchedule,
    DeleteTask,
    EditTask,
    FireTimers,
    PauseTask,
    PutSchedule,
    ReportAttempts,
    ResumeTask,
    RunNow,
    SubmitTasks,
    TriggerSchedule,
    UpdateSettings,
)
from raftsched.core.explain import explain
from raftsched.core.handlers import ends, forks, tasks
from raftsched.core.handlers.forks import OPEN_MS, PARTS_MAX, encode
from raftsched.core.model import NewTask, Settings
from raftsched.core.outcomes import Accepted, Reason, Rejected
from raftsched.core.policy import ALL_NODES, Extra
from raftsched.core.schedule import Overlap, Schedule
from raftsched.core.versions import SCHEDULES, TRIMMED_IS_OPEN, WORKFLOWS
from raftsched.core.workflow import ANY_NUMBER, Dependency, Fork, On
from tests.unit.core.builders import Replica, dump, new_task, register


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


def test_what_is_more_than_a_command_may_do_is_done_by_the_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for module in (forks, ends):
        monkeypatch.setattr(module, "ROWS_MAX", 4)
    groups = [group(f"w{n}", *map(new_task, "abc"), extra=after("a")) for n in range(3)]
    replica = replica_with(new_task("a"), *groups)
    finish(replica, "a")
    begun = [replica.state.trees.of(f"w{n}") is not None for n in range(3)]
    assert begun == [True, False, False]
    while replica.state.timers.first():
        replica.accepted(FireTimers())
    assert all(statuses(replica, f"w{n}") == ["queued"] * 3 for n in range(3))
    replica.accepted(
        SubmitTasks((group("all", *[group(f"in{n}", *map(new_task, "abc")) for n in range(3)]),))
    )
    while replica.state.timers.first():
        replica.accepted(FireTimers())
    replica.accepted(CancelTask("all"))
    while replica.state.timers.first():
        replica.accepted(FireTimers())
    assert status(replica, "all") == "cancelled"


def test_one_that_was_let_go_in_the_same_command_is_stopped_with_the_others() -> None:
    replica = replica_with(group("w", *map(new_task, "abcd"), parallel_max=2))
    ended = [
        AttemptFinished(f"w.{name}", replica.assign(f"w.{name}"), how)
        for name, how in (("a", "succeeded"), ("b", "failed"))
    ]
    replica.accepted(ReportAttempts("n1", "a", finished=tuple(ended)))
    assert statuses(replica, "w") == ["succeeded", "failed", "cancelled", "cancelled"]
    assert status(replica, "w") == "failed"


def test_one_that_the_end_of_another_let_go_is_cancelled_with_the_whole() -> None:
    replica = replica_with(group("w", *map(new_task, "abc"), parallel_max=1, is_patient=True))
    replica.accepted(CancelTasks(("w.a", "w")))
    assert statuses(replica, "w") == ["cancelled"] * 3
    assert status(replica, "w") == "cancelled"


def test_what_a_cancel_has_not_reached_yet_is_given_to_no_node(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ends, "ROWS_MAX", 3)
    inner = group("in", *map(new_task, "abc"))
    replica = replica_with(group("w", *map(new_task, "abc"), inner))
    replica.accepted(CancelTask("w"))
    left = [task.id for task in replica.state.tasks.values() if task.status == "queued"]
    assert "w.in.c" in left
    for task_id in left:
        replica.accepted(ResumeTask(task_id))  # Nor by what somebody asks for it alone.
    outcome = replica.accepted(AssignTasks(tuple(Assignment(i, "n1", "a") for i in left)))
    assert {(refusal.reason, refusal.detail) for refusal in outcome} <= {
        (Reason.TASK_NOT_QUEUED, "w is told to end"),
        (Reason.TASK_NOT_QUEUED, "w.in is told to end"),
    }
    while replica.state.timers.first():
        replica.accepted(FireTimers())
    assert status(replica, "w") == "cancelled"
    assert not any(task.attempts for task in replica.state.tasks.values())


def after(*others: str) -> Extra:
    return Extra(depends_on=tuple(Dependency(other) for other in others))


def test_held_ones_keep_their_turn_through_a_pause_and_a_restore() -> None:
    replica = replica_with(group("w", *map(new_task, "abcd"), parallel_max=1, is_patient=True))
    replica.accepted(PauseTask("w.b"))
    replica.accepted(ResumeTask("w.b"))
    held = replica.state.trees.of("w")
    assert held is not None and [*held.held] == ["w.b", "w.c", "w.d"]


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


def test_run_now_revives_nothing() -> None:
    wide = part("a", broadcast=3, delay_ms=60_000)
    replica = replica_with(group("w", wide, part("b", delay_ms=60_000)))
    replica.accepted(RunNow("w"))
    assert (status(replica, "w"), statuses(replica, "w")) == ("failed", ["failed", "cancelled"])


def test_a_deleted_schedule_ends_runs_of_which_one_is_the_end_of_another() -> None:
    replica = replica_with()
    empty = new_task("", extra=Extra(broadcast=3))
    replica.accepted(PutSchedule(Schedule("s", empty, b"timing", overlap=Overlap.QUEUE)))
    one = new_task("", extra=Extra(broadcast=1))
    replica.accepted(PutSchedule(Schedule("s", one, b"timing", overlap=Overlap.QUEUE)))
    replica.accepted(TriggerSchedule("s"))
    replica.accepted(TriggerSchedule("s"))
    replica.accepted(DeleteSchedule("s", ends_tasks=True))
    assert replica.state.open_count == 0


def test_ids_have_a_bound() -> None:
    inner = group("n" * 64, new_task("n" * 64), new_task("m" * 64))
    replica = replica_with(group("w" * 64, group("n" * 64, inner)))
    assert max(len(task.id) for task in replica.state.tasks.values()) <= forks.ID_MAX
    assert len(replica.state.tasks) == 5


def test_its_deadline_stops_it() -> None:
    replica = replica_with(group("w", part("a"), part("b", "a"), extra=Extra(expires_ms=1_000)))
    replica.now += 1_000
    replica.accepted(FireTimers())
    assert (status(replica, "w"), replica.task("w").reason) == ("expired", "deadline")
    assert statuses(replica, "w") == ["expired", "expired"]


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


def test_a_large_tree_is_deleted_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks, "DELETED_MAX", 4)
    inner = group("inner", *[part(f"x{n}") for n in range(7)])
    replica = replica_with(group("w", *[part(f"p{n}") for n in range(5)], inner))
    finish(replica, *[f"w.p{n}" for n in range(5)], *[f"w.inner.x{n}" for n in range(7)])
    assert status(replica, "w") == "succeeded"
    left = [replica.do(DeleteTask("w")) for _ in range(4)]
    assert all(isinstance(outcome, Accepted) for outcome in left)
    assert isinstance(left[-1], Accepted) and left[-1].value is None
    assert len(replica.state.tasks) == 0
    assert replica.state.finished.bytes == 0


def test_retention_takes_a_large_tree_in_pieces() -> None:
    replica = replica_with(group("w", *[part(f"p{n}") for n in range(9)]))
    finish(replica, *[f"w.p{n}" for n in range(9)])
    replica.accepted(UpdateSettings(Settings(finished_max=0)))
    assert [replica.accepted(ApplyRetention(4))[0] for _ in range(4)] == [4, 4, 2, 0]


@pytest.mark.parametrize(("version", "is_open"), [(WORKFLOWS, False), (TRIMMED_IS_OPEN, True)])
def test_a_tree_of_which_some_is_deleted_says_that_it_is_not_whole(
    version: int, is_open: bool
) -> None:
    inner = group("inner", *[part(f"x{n}") for n in range(5)])
    replica = replica_with(group("w", *[part(f"p{n}") for n in range(4)], inner))
    finish(replica, *[f"w.p{n}" for n in range(4)], *[f"w.inner.x{n}" for n in range(5)])
    replica.state.version = version
    replica.accepted(UpdateSettings(Settings(finished_max=0)))
    for left in (3, 1):
        replica.accepted(ApplyRetention(2))
        assert len(replica.state.trees.ids_of("w.inner")) == left
        for task_id in ("w", "w.inner"):
            extra = replica.task(task_id).extra
            assert extra is not None and extra.fork is not None
            assert (extra.fork.is_open, extra.fork.has_begun) == (is_open, True)
        restored = codec.restore_state(dump(replica.state))
        assert restored.digest() == replica.state.digest()
        assert (*restored.relations.expecting, *restored.relations.speculative) == ()
    while replica.accepted(ApplyRetention(2))[0]:
        pass
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


def test_subtasks_of_others_are_refused() -> None:
    replica = replica_with(new_task("a"), new_task("m", extra=Extra(fork=Fork(is_open=True))))
    assert replica.refused(AddSubtasks("a", 0, items(1))).reason is Reason.INVALID
    assert replica.refused(AddSubtasks("no", 0, items(1))).reason is Reason.UNKNOWN_TASK
    for wrong in (new_task("x"), new_task("", extra=Extra()), new_task("", priority=101)):
        assert replica.refused(AddSubtasks("m", 0, (wrong,))).reason is Reason.INVALID


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
