"""Schedules as they are put, paused, triggered, run for the past, and deleted."""

from __future__ import annotations

from typing import Any

import pytest

from raftsched.core.commands import (
    BackfillSchedule,
    DeleteSchedule,
    PauseSchedule,
    PutSchedule,
    SubmitTasks,
    TriggerSchedule,
)
from raftsched.core.handlers.runs import run_id
from raftsched.core.model import TaskStatus
from raftsched.core.outcomes import Accepted, Reason, Rejected
from raftsched.core.policy import Extra
from raftsched.core.schedule import SLOTS_MAX, UNRECKONED, Overlap
from raftsched.core.versions import SCHEDULES, TREES, WORKFLOWS
from tests.unit.core.builders import Replica, new_task
from tests.unit.core.schedules import STEP, T0, fire, row, schedule, slots, with_schedule


def test_what_was_due_during_a_pause_is_skipped() -> None:
    replica = with_schedule()
    replica.accepted(PauseSchedule("s"))
    assert replica.state.firings.due.first() == 0
    assert fire(replica, T0, following=T0 + STEP) == Rejected(Reason.STALE_FIRE, "s")
    replica.now = T0 + 3 * STEP
    resumed = replica.accepted(PauseSchedule("s", paused=False))
    assert (resumed.next_at, resumed.after) == (UNRECKONED, T0 - 1)
    passed = (T0, T0 + 3 * STEP, 4)
    assert fire(replica, next_at=UNRECKONED, passed=passed, following=T0 + 4 * STEP) == Accepted(())
    assert slots(replica) == [(T0, T0 + 3 * STEP, "skipped", "paused")]


def test_a_pause_between_two_instants_changes_nothing() -> None:
    replica = with_schedule()
    replica.now = T0 - STEP // 2
    replica.accepted(PauseSchedule("s"))
    replica.accepted(PauseSchedule("s", paused=False))
    assert row(replica).next_at == T0


def test_another_timing_is_reckoned_anew_and_another_task_is_not() -> None:
    replica = with_schedule()
    changed = replica.accepted(PutSchedule(schedule(task=new_task("", priority=9))))
    assert (changed.version, changed.next_at) == (2, T0)
    changed = replica.accepted(PutSchedule(schedule(timing=b"hourly")))
    assert (changed.version, changed.next_at, changed.after) == (3, UNRECKONED, replica.state.now)
    paused = replica.accepted(PutSchedule(schedule(timing=b"hourly", paused=True)))
    assert replica.state.firings.due.first() == 0
    wanted = PutSchedule(schedule(), if_index=paused.modify_index - 1)
    assert replica.refused(wanted).reason is Reason.MODIFIED
    assert replica.refused(PutSchedule(schedule(), is_new=True)).reason is Reason.SCHEDULE_EXISTS


def test_trigger_runs_it_now_beside_its_instants() -> None:
    replica = with_schedule()
    fire(replica, T0, following=T0 + STEP)
    (first,) = replica.accepted(TriggerSchedule("s")).task_ids
    (second,) = replica.accepted(TriggerSchedule("s")).task_ids
    assert len({first, second, run_id("s", T0)}) == 3
    assert [s[2:] for s in slots(replica)] == [("fired", "")] + [("fired", "triggered")] * 2
    assert row(replica).next_at == T0 + STEP


def test_backfill_runs_what_has_no_run_one_after_the_other() -> None:
    replica = with_schedule()
    fire(replica, T0, following=T0 + STEP)
    replica.now = T0 + 10 * STEP
    instants = (T0 - 2 * STEP, T0 - STEP, T0)
    made = replica.accepted(BackfillSchedule("s", 1, instants))
    assert made == (run_id("s", T0 - 2 * STEP), run_id("s", T0 - STEP))
    assert [replica.task(i).status.value for i in made] == ["waiting", "waiting"]
    for wrong in ((), (T0 + 100 * STEP,), (T0, T0 - 1)):
        assert replica.refused(BackfillSchedule("s", 1, wrong)).reason is Reason.INVALID
    stale = BackfillSchedule("s", 2, (T0,))
    assert replica.refused(stale).reason is Reason.STALE_FIRE


def test_a_backfill_said_twice_runs_once_however_many_slots_it_has() -> None:
    replica = with_schedule(overlap=Overlap.ALLOW)
    replica.now = T0 + 1_000 * STEP
    command = BackfillSchedule("s", 1, tuple(T0 + n * STEP for n in range(3 * SLOTS_MAX)))
    assert len(replica.accepted(command)) == 3 * SLOTS_MAX
    assert replica.accepted(command) == ()


def test_below_version_7_an_edit_names_the_row_as_it_last_fired() -> None:
    replica = with_schedule()
    replica.state.version = SCHEDULES
    edited = replica.accepted(PutSchedule(schedule(jitter_ms=5)))
    assert edited.edit_index == 0
    fire(replica, T0, following=T0 + STEP)
    stale = DeleteSchedule("s", if_index=edited.modify_index)
    assert replica.refused(stale).reason is Reason.MODIFIED
    replica.state.version = WORKFLOWS
    replica.accepted(DeleteSchedule("s", if_index=row(replica).modify_index))


def test_a_schedule_that_was_changed_since_is_not_deleted() -> None:
    replica = with_schedule(key="k")
    row = replica.state.schedules.get("s")
    assert row is not None
    changed = replica.accepted(PutSchedule(schedule(key="other", jitter_ms=5)))
    assert changed.key == "k", "it is of the request that made it"
    stale = DeleteSchedule("s", if_index=row.modify_index)
    assert replica.refused(stale).reason is Reason.MODIFIED
    replica.accepted(DeleteSchedule("s", if_index=changed.modify_index))


@pytest.mark.parametrize("ends", [False, True])
def test_delete_takes_the_slots_and_the_tasks_if_asked(ends: bool) -> None:
    replica = with_schedule()
    fire(replica, T0, following=T0 + STEP)
    replica.accepted(DeleteSchedule("s", ends))
    assert (len(replica.state.schedules), len(replica.state.slots)) == (0, 0)
    task = replica.task(run_id("s", T0))
    assert (task.status is TaskStatus.CANCELLED) is ends
    replica.accepted(PutSchedule(schedule()))
    assert row(replica).successes == 0


@pytest.mark.parametrize(
    "fields",
    [
        {"name": ""}, {"name": "x" * 41}, {"name": "a b"}, {"window_ms": -1}, {"jitter_ms": -1},
        {"misfire_limit": 101}, {"task": new_task("", priority=101)},
        {"task": new_task("", strategy="rubbish")},
        {"task": new_task("", extra=Extra(unique_key="u"))},
        {"task": new_task("", extra=Extra(not_before=5))},
        {"task": new_task("", extra=Extra(schedule="s"))},
    ],
)  # fmt: skip
def test_rubbish_is_refused(fields: dict[str, Any]) -> None:
    Replica().refused(PutSchedule(schedule(**fields)))


def test_nobody_submits_what_only_a_schedule_makes() -> None:
    new = new_task("t", extra=Extra(schedule="s", slot=1))
    assert Replica().refused(SubmitTasks((new,))).reason is Reason.INVALID


def test_the_version_before_knows_no_schedules() -> None:
    replica = Replica()
    replica.state.version = TREES
    assert replica.refused(PutSchedule(schedule())).reason is Reason.NEEDS_VERSION
