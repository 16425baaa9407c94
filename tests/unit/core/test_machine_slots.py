"""Slots: every instant fires once, and every instant that was due has a slot."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from raftsched.core.commands import CancelTask, PutQueue, PutSchedule, UpdateSettings
from raftsched.core.handlers.runs import run_id
from raftsched.core.model import Queue, Settings, TaskStatus
from raftsched.core.outcomes import Accepted, Reason, Rejected
from raftsched.core.policy import Extra
from raftsched.core.schedule import LATE_MS, SLOTS_MAX, UNRECKONED, Misfire, Overlap, SlotStatus
from tests.unit.core.builders import Replica, new_task
from tests.unit.core.schedules import (
    STEP,
    T0,
    fire,
    row,
    runs_of,
    schedule,
    slot,
    slots,
    with_schedule,
)


def test_a_schedule_is_reckoned_before_it_fires() -> None:
    replica = Replica()
    made = replica.accepted(PutSchedule(schedule()))
    assert (made.next_at, made.after, made.version) == (UNRECKONED, replica.state.now, 1)
    assert replica.state.firings.due.due(replica.now, 9) == ["s"]
    for wrong in ({"following": made.after}, {"passed": (made.after + 1, made.after + 2, 2)}):
        outcome = fire(replica, next_at=UNRECKONED, **wrong)
        assert isinstance(outcome, Rejected)
        assert outcome.reason is Reason.INVALID
    assert fire(replica, next_at=UNRECKONED, following=T0) == Accepted(())
    assert row(replica).next_at == T0
    assert replica.state.firings.due.first() == T0


def test_an_instant_makes_one_task_and_a_slot() -> None:
    replica = with_schedule()
    assert fire(replica, T0, following=T0 + STEP) == Accepted((run_id("s", T0),))
    task = replica.task(run_id("s", T0))
    assert (task.status, task.extra) == (TaskStatus.QUEUED, Extra(schedule="s", slot=T0))
    assert slots(replica) == [(T0, T0, "fired", "")]
    assert row(replica).next_at == T0 + STEP


def test_the_same_instant_fires_no_second_time() -> None:
    replica = with_schedule()
    fire(replica, T0, following=T0 + STEP)
    stale = Rejected(Reason.STALE_FIRE, "s")
    assert fire(replica, T0, following=T0 + STEP) == stale
    assert fire(replica, T0, following=T0 + STEP, next_at=T0 - 1) == stale
    assert fire(replica, T0 + STEP, following=T0 + 2 * STEP, version=7) == stale
    assert len(slots(replica)) == 1


@pytest.mark.parametrize(
    "wrong",
    [
        {"instants": (T0 + 1,)},
        {"instants": (T0, T0)},
        {"instants": (T0, T0 + STEP)},
        {"instants": (T0,), "following": T0},
        {"instants": (T0,), "following": T0 - 1},
        {"instants": ()},
        {"instants": (T0,), "passed": (T0, T0, 1)},
    ],
    ids=repr,
)
def test_what_the_leader_reckons_is_held_against_the_row(wrong: dict[str, Any]) -> None:
    replica = with_schedule()
    instants = wrong.pop("instants")
    fields = {"following": T0 + STEP, "next_at": T0, **wrong}
    outcome = fire(replica, *instants, **fields)
    assert isinstance(outcome, Rejected)
    assert outcome.reason is Reason.INVALID
    assert (slots(replica), row(replica).next_at) == ([], T0)


def test_the_end_of_the_run_is_told_to_slot_and_schedule() -> None:
    replica = with_schedule()
    for number, end in enumerate(["succeeded", "succeeded", "failed", "failed", "succeeded"]):
        at = T0 + number * STEP
        replica.now = at
        (task_id,) = runs_of(fire(replica, at, following=at + STEP))
        replica.assign(task_id)
        replica.finish(task_id, end)
        assert slot(replica, at).status == SlotStatus(end)
    assert (row(replica).successes, row(replica).failures) == (1, 0)
    replica.now = T0 + 9 * STEP
    runs_of(fire(replica, T0 + 5 * STEP, following=T0 + 10 * STEP))
    replica.accepted(CancelTask(run_id("s", T0 + 5 * STEP)))
    assert slot(replica, T0 + 5 * STEP).status is SlotStatus.CANCELLED
    assert row(replica).successes == 1


FIVE = tuple(T0 + number * STEP for number in range(5))


@pytest.mark.parametrize(
    ("misfire", "ran", "reasons"),
    [
        (Misfire.SKIP, 0, ["late"] * 5),
        (Misfire.LATEST, 1, ["superseded"] * 4 + [""]),
        (Misfire.ALL, 3, ["superseded"] * 2 + [""] * 3),
    ],
)
def test_of_late_instants_those_run_that_the_schedule_wants(
    misfire: Misfire, ran: int, reasons: list[str]
) -> None:
    replica = with_schedule(misfire=misfire, misfire_limit=3, overlap=Overlap.ALLOW)
    replica.now = FIVE[-1] + 2 * LATE_MS
    assert len(runs_of(fire(replica, *FIVE, following=T0 + 5 * STEP))) == ran
    assert [reason for *_, reason in slots(replica)] == reasons


def test_late_instants_out_of_the_window_never_run() -> None:
    replica = with_schedule(misfire=Misfire.ALL, window_ms=2 * STEP, overlap=Overlap.ALLOW)
    replica.now = FIVE[-1] + LATE_MS + 1_000
    runs_of(fire(replica, *FIVE, following=T0 + 5 * STEP))
    assert [reason for *_, reason in slots(replica)] == ["late"] * 3 + [""] * 2


def test_one_that_is_due_in_time_is_the_latest() -> None:
    replica = with_schedule()
    replica.now = FIVE[-1]
    assert runs_of(fire(replica, *FIVE, following=T0 + 5 * STEP)) == (run_id("s", FIVE[-1]),)


def test_several_that_are_due_in_time_all_run() -> None:
    replica = with_schedule(misfire=Misfire.SKIP, overlap=Overlap.ALLOW)
    replica.now = T0 + 300
    instants = (T0, T0 + 100, T0 + 200)
    assert len(runs_of(fire(replica, *instants, following=T0 + 400))) == 3


def test_all_late_ones_run_one_after_the_other_though_they_may_not_overlap() -> None:
    replica = with_schedule(misfire=Misfire.ALL)
    replica.now = FIVE[-1] + 2 * LATE_MS
    made = runs_of(fire(replica, *FIVE, following=T0 + 5 * STEP))
    assert [replica.task(i).status.value for i in made] == ["queued"] + ["waiting"] * 4


def test_a_long_gap_is_one_slot() -> None:
    replica = with_schedule(misfire=Misfire.LATEST)
    last = T0 + 100_000 * STEP
    replica.now = last
    made = runs_of(
        fire(replica, last, following=last + STEP, next_at=T0, passed=(T0, last - STEP, 100_000))
    )
    assert made == (run_id("s", last),)
    assert slots(replica) == [(T0, last - STEP, "missed", "late"), (last, last, "fired", "")]
    assert slot(replica, T0).count == 100_000


@pytest.mark.parametrize(
    ("fields", "passed", "instants"),
    [
        ({"misfire": Misfire.SKIP}, (T0, T0 + STEP, 2), ()),  # Not late yet.
        ({"misfire": Misfire.LATEST}, (T0, T0 + STEP, 2), ()),
        ({"misfire": Misfire.ALL, "misfire_limit": 3}, (T0, T0, 1), (T0 + STEP,)),
        ({}, (T0, T0, 2), (T0 + STEP,)),
        ({}, (T0 + STEP, T0, 2), ()),
    ],
)
def test_what_might_run_is_not_passed_over(
    fields: dict[str, Any], passed: tuple[int, int, int], instants: tuple[int, ...]
) -> None:
    replica = with_schedule(**fields)
    skip = fields.get("misfire") is Misfire.SKIP
    replica.now = T0 + STEP + (LATE_MS // 2 if skip else 2 * LATE_MS)
    outcome = fire(replica, *instants, following=T0 + 2 * STEP, next_at=passed[0], passed=passed)
    assert isinstance(outcome, Rejected)
    assert slots(replica) == []


def test_only_the_last_slots_are_kept() -> None:
    replica = with_schedule(overlap=Overlap.SKIP)
    for number in range(SLOTS_MAX + 5):
        replica.now = T0 + number * STEP
        fire(replica, replica.now, following=replica.now + STEP)
    assert slots(replica)[0][0] == T0 + 5 * STEP
    assert len(slots(replica)) == SLOTS_MAX
    # The run whose slot is gone ends like any other.
    replica.assign(run_id("s", T0))
    replica.finish(run_id("s", T0))
    assert row(replica).successes == 1


def test_without_room_an_instant_is_missed_and_says_so() -> None:
    replica = with_schedule()
    replica.accepted(PutQueue(Queue("default", depth_max=1)))
    replica.submit("t1")
    fire(replica, T0, following=T0 + STEP)
    replica.accepted(UpdateSettings(Settings(tasks_open_max=1)))
    replica.now = T0 + STEP
    fire(replica, T0 + STEP, following=T0 + 2 * STEP)
    assert [s[2:] for s in slots(replica)] == [("missed", "queue-full"), ("missed", "overloaded")]


def test_a_run_starts_later_by_its_jitter_always_the_same() -> None:
    starts = []
    for _ in range(2):
        replica = with_schedule(jitter_ms=5_000)
        fire(replica, T0, following=T0 + STEP)
        extra = replica.task(run_id("s", T0)).extra
        assert extra is not None
        starts.append(extra.not_before)
    assert starts[0] == starts[1]
    assert T0 <= starts[0] < T0 + 5_000


def test_a_broadcast_is_scheduled_too() -> None:
    replica = with_schedule(task=new_task("", extra=Extra(broadcast=-1)))
    (task_id,) = runs_of(fire(replica, T0, following=T0 + STEP))
    part = f"{task_id}.1"
    replica.assign(part)
    replica.finish(part)
    assert replica.task(task_id).status is TaskStatus.SUCCEEDED
    assert slot(replica, T0).status is SlotStatus.SUCCEEDED


def test_an_id_says_when() -> None:
    assert run_id("nightly", 1_795_226_400_000) == "nightly.20261121T020000Z"
    assert run_id("fast", 1_795_226_400_100) == "fast.20261121T020000100Z"
    assert msgspec.json.decode(msgspec.json.encode(run_id("a", 0))) == "a.19700101T000000Z"
