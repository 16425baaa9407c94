"""Runs of a schedule that overlap: both, one, one after the other, or the later instead."""

from __future__ import annotations

from raftsched.core.commands import AttemptFinished, BackfillSchedule, PutSchedule, ReportAttempts
from raftsched.core.handlers.runs import run_id
from raftsched.core.model import TaskStatus
from raftsched.core.outcomes import Accepted
from raftsched.core.policy import Extra
from raftsched.core.schedule import QUEUED_RUNS_MAX, Overlap, Schedule
from raftsched.core.versions import SCHEDULES
from tests.unit.core.builders import Replica, new_task, register
from tests.unit.core.schedules import STEP, T0, fire, slots, with_schedule


def two(overlap: Overlap) -> Replica:
    """The second instant fires while the run of the first goes on."""
    replica = with_schedule(overlap=overlap)
    fire(replica, T0, following=T0 + STEP)
    replica.run(run_id("s", T0))
    replica.now = T0 + STEP
    assert isinstance(fire(replica, T0 + STEP, following=T0 + 2 * STEP), Accepted)
    return replica


def test_overlap_may_be_allowed() -> None:
    replica = two(Overlap.ALLOW)
    assert replica.task(run_id("s", T0 + STEP)).status is TaskStatus.QUEUED


def test_overlap_is_skipped_and_says_so() -> None:
    replica = two(Overlap.SKIP)
    assert slots(replica)[1] == (T0 + STEP, T0 + STEP, "skipped", "overlap")


def test_overlap_waits_its_turn() -> None:
    replica = two(Overlap.QUEUE)
    second = run_id("s", T0 + STEP)
    assert (replica.task(second).status, replica.task(second).reason) == (
        TaskStatus.WAITING, "replaces",
    )  # fmt: skip
    replica.finish(run_id("s", T0), "failed")
    assert replica.task(second).status is TaskStatus.QUEUED


def test_overlap_replaces_and_waits_until_nothing_runs() -> None:
    replica = two(Overlap.REPLACE)
    first, second = run_id("s", T0), run_id("s", T0 + STEP)
    assert replica.task(first).status is TaskStatus.CANCELLING
    assert replica.task(second).status is TaskStatus.WAITING
    replica.finish(first, "cancelled")
    assert replica.task(second).status is TaskStatus.QUEUED


def test_runs_that_wait_for_one_another_are_bounded() -> None:
    replica = with_schedule(overlap=Overlap.QUEUE)
    for number in range(QUEUED_RUNS_MAX + 1):
        replica.now = T0 + number * STEP
        fire(replica, replica.now, following=replica.now + STEP)
    assert len(replica.state.firings.runs_of("s")) == QUEUED_RUNS_MAX
    assert slots(replica)[-1][2:] == ("skipped", "overlap")


def test_below_version_7_each_end_is_told_to_its_own_ends_first() -> None:
    """As programs before did it: the order in which rows are made is a part of the state."""
    replica = Replica()
    replica.state.version = SCHEDULES
    replica.accepted(register(slots=10))
    for name, wide in (("r", (0, 3, 1)), ("t", (0, 1))):
        for at, broadcast in enumerate(wide, 1):
            extra = Extra(broadcast=broadcast) if broadcast else None
            wanted = Schedule(name, new_task("", extra=extra), b"timing", overlap=Overlap.QUEUE)
            version = replica.accepted(PutSchedule(wanted))
            row = replica.state.schedules.get(name)
            assert row is not None, version
            replica.accepted(BackfillSchedule(name, row.version, (at * 1_000,)))
    first = list(replica.state.ready)
    assert len(first) == 2
    tokens = [(task_id, replica.assign(task_id)) for task_id in first]
    ends = tuple(AttemptFinished(task_id, token, "succeeded", 1) for task_id, token in tokens)
    replica.accepted(ReportAttempts("n1", "a", finished=ends))
    made = sorted((task.order, task.id) for task in replica.state.tasks.values())[-2:]
    assert [task_id for _, task_id in made] == [
        f"{run_id('r', 3_000)}.1",
        f"{run_id('t', 2_000)}.1",
    ]
