"""Applying entries: order, time, the index, and what happens when a handler breaks."""

from __future__ import annotations

import typing

import pytest

from raftsched.core import invariants, machine
from raftsched.core.commands import (
    AnyCommand,
    Assignment,
    AssignTasks,
    AttemptFinished,
    Batch,
    CancelTask,
    DeleteTask,
    Entry,
    PauseTask,
    ReportAttempts,
    SubmitTasks,
    UpdateSettings,
)
from raftsched.core.model import Settings, TaskStatus
from raftsched.core.outcomes import Accepted, Event, Reason, Rejected, Submitted
from raftsched.core.state import State
from tests.unit.core.builders import BEGIN_MS, ONE_OF_EACH, Replica, dump, entry, new_task, register


def test_every_command_has_a_handler() -> None:
    assert {type(command) for command in ONE_OF_EACH} == set(typing.get_args(AnyCommand))
    assert all(machine.handles(command) for command in ONE_OF_EACH)


def test_an_entry_sets_the_index_and_the_time() -> None:
    state = State("c")
    machine.apply(state, 7, entry(now=BEGIN_MS))
    assert (state.index, state.now) == (7, BEGIN_MS)


@pytest.mark.parametrize(
    ("stamps", "now"),
    [
        ([100, 200, 300], 300),
        ([300, 200, 100], 300),
        ([100, 300, 200], 300),
        ([100, 100], 100),
        ([100, 0, -5], 100),
    ],
)
def test_the_time_of_the_state_never_falls(stamps: list[int], now: int) -> None:
    state = State("c")
    for index, stamp in enumerate(stamps, 1):
        machine.apply(state, index, entry(now=stamp))
    assert state.now == now


def test_rows_are_stamped_with_the_time_of_the_state_not_of_the_entry() -> None:
    replica = Replica()
    replica.submit("t1")
    replica.do(SubmitTasks((new_task("t2"),)), now=BEGIN_MS - 5_000)
    assert replica.task("t2").created_at == replica.task("t1").created_at


def test_every_command_of_every_batch_is_answered_in_order() -> None:
    state = State("c")
    first = Batch("n1", 1, 1, (SubmitTasks((new_task("t1"),)), PauseTask("nobody")))
    second = Batch("n2", 9, 4, (CancelTask("t1"), CancelTask("t1")))
    applied = machine.apply(state, 1, Entry(1, 1, BEGIN_MS, (first, second)))
    assert applied.outcomes == [
        [Accepted(Submitted(("t1",))), Rejected(Reason.UNKNOWN_TASK, "nobody")],
        [Accepted(), Rejected(Reason.TASK_TERMINAL, "cancelled")],
    ]
    assert applied.events == [
        Event("task_queued", "t1"),
        Event("task_finished", "t1", detail="cancelled"),
    ]


def test_a_later_command_of_an_entry_sees_what_an_earlier_one_wrote() -> None:
    state = State("c")
    commands = (
        SubmitTasks((new_task("t1"),)),
        register("n1", "a"),
        AssignTasks((Assignment("t1", "n1", "a"),)),
        ReportAttempts("n1", "a", finished=(AttemptFinished("t1", 1, "succeeded"),)),
    )
    machine.apply(state, 1, entry(*commands))
    found = state.tasks.get("t1")
    assert found is not None and found.status is TaskStatus.SUCCEEDED
    assert invariants.check(state) == []


def test_two_replicas_given_the_same_entries_are_equal() -> None:
    entries = [
        entry(SubmitTasks((new_task("t2"), new_task("t1"))), register(), now=5),
        entry(AssignTasks((Assignment("t1", "n1", "a"),)), PauseTask("t2"), now=4),
        entry(CancelTask("t1"), CancelTask("nobody"), now=6),
    ]
    states = [State("c"), State("c")]
    answers = [
        [machine.apply(state, index, item) for index, item in enumerate(entries, 1)]
        for state in states
    ]
    assert answers[0] == answers[1]
    assert dump(states[0]) == dump(states[1])


def test_new_settings_are_in_force_for_the_next_command() -> None:
    replica = Replica()
    settings = Settings(tasks_open_max=1)
    assert replica.do(UpdateSettings(settings)) == Accepted()
    assert replica.state.settings == settings
    tasks = (new_task("t1"), new_task("t2"))
    assert replica.refused(SubmitTasks(tasks)).reason is Reason.OVERLOADED


# A handler that breaks -------------------------------------------------------------------------


def test_an_exception_in_a_handler_ends_as_internal_with_nothing_written() -> None:
    replica = Replica()
    replica.accepted(register())
    replica.submit("t1", "t2")
    good, rubbish = replica.assign("t1"), replica.assign("t2")
    reports = (
        AttemptFinished("t1", good, "succeeded"),
        # No decoder would let this one through.
        AttemptFinished("t2", rubbish, "failed", run_ms="long"),  # type: ignore[arg-type]
    )
    index = replica.index + 1
    before = replica.task("t1"), replica.task("t2"), replica.usage()
    item = entry(ReportAttempts("n1", "a", finished=reports), now=replica.now)
    (refusal,) = machine.apply(replica.state, index, item).outcomes[0]
    assert isinstance(refusal, Rejected) and refusal.reason is Reason.INTERNAL
    assert "TypeError" in refusal.detail
    assert (replica.task("t1"), replica.task("t2"), replica.usage()) == before
    assert invariants.check(replica.state) == []


def test_one_entry_may_delete_a_task_and_create_another_in_its_place() -> None:
    state = State("c")
    commands = (
        SubmitTasks((new_task("t1"),)),
        CancelTask("t1"),
        DeleteTask("t1"),
        SubmitTasks((new_task("t2"),)),
    )
    machine.apply(state, 1, entry(*commands))
    assert [found.id for found in state.list_tasks()] == ["t2"]
    assert [found.id for found in state.list_tasks(newest_first=False)] == ["t2"]
    assert invariants.check(state) == []


def test_an_exception_in_a_handler_leaves_the_token_counter_unmoved() -> None:
    replica = Replica()
    replica.accepted(register())
    replica.submit("t1", "t2")
    token = replica.state.next_token
    # The second item is none a decoder would let through: its node id has no hash.
    broken = Assignment("t2", [], "a")  # type: ignore[arg-type]
    refusal = replica.refused(AssignTasks((Assignment("t1", "n1", "a"), broken)))
    assert refusal.reason is Reason.INTERNAL
    assert replica.state.next_token == token
    assert replica.assign("t1") == token


def test_commands_around_a_broken_one_take_effect() -> None:
    state = State("c")
    commands = (
        SubmitTasks((new_task("t1"),)),
        SubmitTasks((new_task("t2", priority=None),)),
        SubmitTasks((new_task("t3"),)),
    )
    first, broken, last = machine.apply(state, 1, entry(*commands)).outcomes[0]
    assert (first, last) == (Accepted(Submitted(("t1",))), Accepted(Submitted(("t3",))))
    assert isinstance(broken, Rejected) and broken.reason is Reason.INTERNAL
    assert [found.id for found in state.list_tasks(newest_first=False)] == ["t1", "t3"]


@pytest.mark.parametrize("trouble", [MemoryError, RecursionError])
def test_trouble_of_this_machine_alone_goes_through(trouble: type[BaseException]) -> None:
    class Troubled:
        def __le__(self, other: object) -> bool:
            raise trouble

        __ge__ = __lt__ = __gt__ = __le__

    replica = Replica()
    with pytest.raises(trouble):
        replica.do(SubmitTasks((new_task("t1"), new_task("t2", priority=Troubled()))))
    assert len(replica.state.tasks) == 0
