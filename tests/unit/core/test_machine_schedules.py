"""Schedules: every instant fires once, and every instant that was due has a slot."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from raftsched.core.commands import (
    AttemptFinished,
    BackfillSchedule,
    CancelTask,
    DeleteSchedule,
    Fire,
    FireSlots,
    PauseSchedule,
    PutQueue,
    PutSchedule,
    ReportAttempts,
    SubmitTasks,
    TriggerSchedule,
    UpdateSettings,
)
from raftsched.core.handlers.runs import run_id
from raftsched.core.model import Queue, Settings, TaskStatus
from raftsched.core.outcomes import Accepted, Outcome, Reason, Rejected
from raftsched.core.policy import Extra
from raftsched.core.schedule import (
    LATE_MS,
    QUEUED_RUNS_MAX,
    SLOTS_MAX,
    UNRECKONED,
    Misfire,
    Overlap,
    Schedule,
    Slot,
    SlotStatus,
    slot_key,
)
from raftsched.core.versions import SCHEDULES, TREES, WORKFLOWS
from tests.unit.core.builders import Replica, new_task, register

#: Instants of the schedules below.
T0 = 10_000_000
STEP = 60_000


def schedule(**fields: Any) -> Schedule:
    return Schedule(**{"name": "s", "task": new_task(""), "timing": b"minutely", **fields})


def with_schedule(**fields: Any) -> Replica:
    """A node and a schedule whose next instant is ``T0``, which comes now."""
    replica = Replica()
    replica.accepted(register())
    replica.accepted(PutSchedule(schedule(**fields)))
    assert fire(replica, next_at=UNRECKONED, following=T0) == Accepted(())
    replica.now = T0
    return replica


def row(replica: Replica) -> Schedule:
    found = replica.state.schedules.get("s")
    assert found is not None
    return found


def fire(replica: Replica, *instants: int, following: int = 0, **fields: Any) -> Outcome:
    """What became of one fire."""
    known = replica.state.schedules.get("s")
    fields = {"next_at": instants[0] if instants else 0, **fields}
    if known is not None:
        fields = {"version": known.version, **fields}
    fields.setdefault("version", 1)
    fired = Fire("s", fields["version"], fields["next_at"], instants, following,
                 fields.get("passed"))  # fmt: skip
    (outcome,) = replica.accepted(FireSlots((fired,)))
    assert isinstance(outcome, Accepted | Rejected)
    return outcome


def slots(replica: Replica) -> list[tuple[int, int, str, str]]:
    """First and last instant, status and reason of each slot, in the order of their decision."""
    found = [slot(replica, at) for at in replica.state.firings.slots_of("s")]
    return [(s.at, s.upto, s.status.value, s.reason) for s in found]


def slot(replica: Replica, at: int) -> Slot:
    found = replica.state.slots.get(slot_key("s", at))
    assert found is not None
    return found


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
        (task_id,) = _made(fire(replica, at, following=at + STEP))
        replica.assign(task_id)
        replica.finish(task_id, end)
        assert slot(replica, at).status == SlotStatus(end)
    assert (row(replica).successes, row(replica).failures) == (1, 0)
    replica.now = T0 + 9 * STEP
    _made(fire(replica, T0 + 5 * STEP, following=T0 + 10 * STEP))
    replica.accepted(CancelTask(run_id("s", T0 + 5 * STEP)))
    assert slot(replica, T0 + 5 * STEP).status is SlotStatus.CANCELLED
    assert row(replica).successes == 1


def _made(outcome: Outcome) -> tuple[str, ...]:
    assert isinstance(outcome, Accepted), outcome
    made: tuple[str, ...] = outcome.value
    return made


# Late instants -----------------------------------------------------------------------------------

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
    assert len(_made(fire(replica, *FIVE, following=T0 + 5 * STEP))) == ran
    assert [reason for *_, reason in slots(replica)] == reasons


def test_late_instants_out_of_the_window_never_run() -> None:
    replica = with_schedule(misfire=Misfire.ALL, window_ms=2 * STEP, overlap=Overlap.ALLOW)
    replica.now = FIVE[-1] + LATE_MS + 1_000
    _made(fire(replica, *FIVE, following=T0 + 5 * STEP))
    assert [reason for *_, reason in slots(replica)] == ["late"] * 3 + [""] * 2


def test_one_that_is_due_in_time_is_the_latest() -> None:
    replica = with_schedule()
    replica.now = FIVE[-1]
    assert _made(fire(replica, *FIVE, following=T0 + 5 * STEP)) == (run_id("s", FIVE[-1]),)


def test_several_that_are_due_in_time_all_run() -> None:
    replica = with_schedule(misfire=Misfire.SKIP, overlap=Overlap.ALLOW)
    replica.now = T0 + 300
    instants = (T0, T0 + 100, T0 + 200)
    assert len(_made(fire(replica, *instants, following=T0 + 400))) == 3


def test_all_late_ones_run_one_after_the_other_though_they_may_not_overlap() -> None:
    replica = with_schedule(misfire=Misfire.ALL)
    replica.now = FIVE[-1] + 2 * LATE_MS
    made = _made(fire(replica, *FIVE, following=T0 + 5 * STEP))
    assert [replica.task(i).status.value for i in made] == ["queued"] + ["waiting"] * 4


def test_a_long_gap_is_one_slot() -> None:
    replica = with_schedule(misfire=Misfire.LATEST)
    last = T0 + 100_000 * STEP
    replica.now = last
    made = _made(
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


# Forerunners -------------------------------------------------------------------------------------


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


# By hand -----------------------------------------------------------------------------------------


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
    (task_id,) = _made(fire(replica, T0, following=T0 + STEP))
    part = f"{task_id}.1"
    replica.assign(part)
    replica.finish(part)
    assert replica.task(task_id).status is TaskStatus.SUCCEEDED
    assert slot(replica, T0).status is SlotStatus.SUCCEEDED


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


def test_an_id_says_when() -> None:
    assert run_id("nightly", 1_795_226_400_000) == "nightly.20261121T020000Z"
    assert run_id("fast", 1_795_226_400_100) == "fast.20261121T020000100Z"
    assert msgspec.json.decode(msgspec.json.encode(run_id("a", 0))) == "a.19700101T000000Z"


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
