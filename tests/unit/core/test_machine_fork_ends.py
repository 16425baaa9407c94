"""Forks that are stopped, and deleted when they have ended: in pieces if they are large."""

from __future__ import annotations

import pytest

from raftsched.core import codec
from raftsched.core.commands import (
    ApplyRetention,
    Assignment,
    AssignTasks,
    AttemptFinished,
    CancelTask,
    CancelTasks,
    DeleteSchedule,
    DeleteTask,
    FireTimers,
    PutSchedule,
    ReportAttempts,
    ResumeTask,
    RunNow,
    SubmitTasks,
    TriggerSchedule,
    UpdateSettings,
)
from raftsched.core.handlers import ends, forks, tasks
from raftsched.core.model import Settings
from raftsched.core.outcomes import Accepted, Reason
from raftsched.core.policy import Extra
from raftsched.core.schedule import Overlap, Schedule
from raftsched.core.versions import TRIMMED_IS_OPEN, WORKFLOWS
from raftsched.core.workflow import Dependency
from tests.unit.core.builders import dump, new_task
from tests.unit.core.forks import finish, group, part, replica_with, status, statuses


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


def test_its_deadline_stops_it() -> None:
    replica = replica_with(group("w", part("a"), part("b", "a"), extra=Extra(expires_ms=1_000)))
    replica.now += 1_000
    replica.accepted(FireTimers())
    assert (status(replica, "w"), replica.task("w").reason) == ("expired", "deadline")
    assert statuses(replica, "w") == ["expired", "expired"]


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
