"""Submitting tasks: what is made, what was there already, what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from raftsched.core import state
from raftsched.core.commands import CancelTask, DeleteTask, SubmitTasks, UpdateSettings
from raftsched.core.model import TASK_ID_MAX, Settings, TaskStatus
from raftsched.core.outcomes import Accepted, Event, Reason, Rejected, Submitted
from tests.unit.core.builders import AT_ONCE, Replica, new_task, register, task


def test_a_submitted_task_is_queued_with_all_its_fields() -> None:
    replica = Replica()
    wanted = new_task(
        "t1",
        spec=b"what to run",
        queue="nightly",
        priority=80,
        cpu_milli=500,
        memory_bytes=1_024,
        strategy="binpack",
        attempts_max=3,
    )
    outcome = replica.do(SubmitTasks((wanted,), namespace="team"))
    assert outcome == Accepted(Submitted(("t1",)))
    assert replica.task() == task(
        "t1",
        spec=b"what to run",
        namespace="team",
        queue="nightly",
        priority=80,
        cpu_milli=500,
        memory_bytes=1_024,
        strategy="binpack",
        attempts_max=3,
        policy=AT_ONCE,
        status=TaskStatus.QUEUED,
        created_at=replica.now,
        create_index=replica.index,
        modify_index=replica.index,
        order=1,
    )
    assert replica.events == [Event("task_queued", "t1")]
    assert list(replica.state.ready) == ["t1"]


def test_many_tasks_are_queued_in_the_order_of_the_submission() -> None:
    replica = Replica()
    replica.submit("t3", "t1", "t2")
    assert list(replica.state.ready) == ["t3", "t1", "t2"]
    assert [event.task_id for event in replica.events] == ["t3", "t1", "t2"]


def test_the_same_task_again_is_existing_and_makes_nothing() -> None:
    replica = Replica()
    replica.submit("t1")
    before = replica.task()
    outcome = replica.do(SubmitTasks((new_task("t1"),)))
    assert outcome == Accepted(Submitted(("t1",), existing=(0,)))
    assert replica.task() == before
    assert replica.events == []


@pytest.mark.parametrize("status", [TaskStatus.RUNNING, TaskStatus.SUCCEEDED])
def test_a_repeated_submission_never_runs_a_task_again(status: TaskStatus) -> None:
    replica = Replica()
    replica.accepted(register())
    replica.bring("t1", status)
    replica.submit("t1")
    assert replica.task().status is status
    assert len(replica.attempts()) == 1


def test_the_same_id_twice_in_one_submission_makes_one_task() -> None:
    replica = Replica()
    outcome = replica.do(SubmitTasks((new_task("t1"), new_task("t1"))))
    assert outcome == Accepted(Submitted(("t1", "t1"), existing=(1,)))
    assert list(replica.state.ready) == ["t1"]


@pytest.mark.parametrize(
    ("fields", "namespace"),
    [
        ({"spec": b"another"}, "default"),
        ({"queue": "another"}, "default"),
        ({"priority": 51}, "default"),
        ({"cpu_milli": 1}, "default"),
        ({"memory_bytes": 1}, "default"),
        ({"strategy": "binpack"}, "default"),
        ({"attempts_max": 2}, "default"),
        ({"priority": 101}, "default"),
        ({}, "another"),
    ],
    ids=lambda value: "-".join(value),
)
def test_an_id_that_names_another_task_is_refused(fields: dict[str, Any], namespace: str) -> None:
    replica = Replica()
    replica.submit("t1")
    refusal = replica.refused(SubmitTasks((new_task("t1", **fields),), namespace=namespace))
    assert refusal == Rejected(Reason.DUPLICATE_ID, "t1")


def test_the_id_of_a_deleted_task_is_free_again() -> None:
    replica = Replica()
    replica.submit("t1")
    replica.accepted(CancelTask("t1"))
    replica.accepted(DeleteTask("t1"))
    replica.submit("t1", spec=b"another")
    assert replica.task().spec == b"another"
    assert replica.task().create_index == replica.index


INVALID: list[tuple[dict[str, Any], Reason]] = [
    ({"priority": -1}, Reason.INVALID),
    ({"priority": 101}, Reason.INVALID),
    ({"cpu_milli": -1}, Reason.INVALID),
    ({"memory_bytes": -1}, Reason.INVALID),
    ({"attempts_max": 0}, Reason.INVALID),
    ({"attempts_max": 101}, Reason.INVALID),
    ({"id": ""}, Reason.INVALID),
    ({"id": "x" * 65}, Reason.INVALID),
    ({"id": "two words"}, Reason.INVALID),
    *[({"id": f"a{space}b"}, Reason.INVALID) for space in "\t\n\r\v\f\x1c\x85\xa0\u2003\u3000\0"],
    ({"strategy": "nonsense"}, Reason.UNKNOWN_STRATEGY),
]


@pytest.mark.parametrize(("fields", "reason"), INVALID)
def test_a_task_outside_the_limits_is_refused(fields: dict[str, Any], reason: Reason) -> None:
    replica = Replica()
    bad = new_task(**{"task_id": "bad", **fields})
    assert replica.refused(SubmitTasks((bad,))) == Rejected(reason, bad.id[:TASK_ID_MAX])


@pytest.mark.parametrize(
    "fields",
    [
        {"priority": 0},
        {"priority": 100},
        {"attempts_max": 100},
        {"id": "x" * 64},
        {"cpu_milli": 10**12},
    ],
)
def test_a_task_at_the_limits_is_queued(fields: dict[str, Any]) -> None:
    replica = Replica()
    wanted = new_task(**{"task_id": "edge", **fields})
    assert replica.do(SubmitTasks((wanted,))) == Accepted(Submitted((wanted.id,)))


def test_a_submission_of_nothing_is_refused() -> None:
    assert Replica().refused(SubmitTasks(())).reason is Reason.INVALID


def test_items_that_pass_are_made_and_the_others_named() -> None:
    replica = Replica()
    replica.submit("old")
    tasks = (
        new_task("t1"),
        new_task("t2", priority=101),
        new_task("old"),
        new_task("old", spec=b"another"),
        new_task("t3"),
    )
    outcome = replica.do(SubmitTasks(tasks))
    assert outcome == Accepted(
        Submitted(
            ("t1", "t2", "old", "old", "t3"),
            existing=(2,),
            refused=(
                (1, Rejected(Reason.INVALID, "t2")),
                (3, Rejected(Reason.DUPLICATE_ID, "old")),
            ),
        )
    )
    assert list(replica.state.ready) == ["old", "t1", "t3"]


def test_an_atomic_submission_with_one_bad_item_makes_nothing() -> None:
    tasks = (new_task("t1"), new_task("t2", priority=101), new_task("t3", strategy="nonsense"))
    refusal = Replica().refused(SubmitTasks(tasks, atomic=True))
    assert refusal == Rejected(Reason.INVALID, "t2")


def test_an_atomic_submission_may_repeat_tasks_that_are_there() -> None:
    replica = Replica()
    replica.submit("t1")
    outcome = replica.do(SubmitTasks((new_task("t1"), new_task("t2")), atomic=True))
    assert outcome == Accepted(Submitted(("t1", "t2"), existing=(0,)))


def test_more_open_tasks_than_allowed_are_refused_as_a_whole() -> None:
    replica = Replica(tasks_open_max=3)
    replica.submit("t1", "t2")
    refusal = replica.refused(SubmitTasks((new_task("t3"), new_task("t4"))))
    assert refusal.reason is Reason.OVERLOADED
    replica.submit("t3")
    assert replica.state.open_count == 3


@pytest.mark.parametrize("open_max", [2, 1])
def test_tasks_that_are_there_already_are_never_too_many(open_max: int) -> None:
    replica = Replica(tasks_open_max=2)
    replica.submit("t1", "t2")
    replica.accepted(UpdateSettings(Settings(tasks_open_max=open_max)))
    outcome = replica.do(SubmitTasks((new_task("t1"), new_task("t2"))))
    assert outcome == Accepted(Submitted(("t1", "t2"), existing=(0, 1)))
    mixed = SubmitTasks((new_task("t1"), new_task("t3")))
    assert replica.refused(mixed).reason is Reason.OVERLOADED


def test_an_id_that_stands_twice_in_a_submission_is_counted_once() -> None:
    replica = Replica(tasks_open_max=2)
    replica.submit("t1", "t2", "t2")
    assert replica.state.open_count == 2


def test_tasks_that_ask_the_same_share_their_terms() -> None:
    replica = Replica()
    replica.submit("t1", "t2", cpu_milli=500)
    replica.submit("t3", cpu_milli=500)
    replica.submit("t4", cpu_milli=501)
    one, two, three, four = (replica.task(f"t{n}").terms for n in (1, 2, 3, 4))
    assert one is two is three
    assert one is not four


def test_shared_terms_are_forgotten_before_they_are_too_many(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(state, "TERMS_MAX", 3)
    replica = Replica()
    for number in range(10):
        replica.submit(f"t{number}", cpu_milli=number)
    assert len(replica.state.terms) <= 3
    assert [replica.task(f"t{n}").cpu_milli for n in range(10)] == list(range(10))


def test_a_terminal_task_makes_room_for_an_open_one() -> None:
    replica = Replica(tasks_open_max=1)
    replica.submit("t1")
    assert replica.refused(SubmitTasks((new_task("t2"),))).reason is Reason.OVERLOADED
    replica.accepted(CancelTask("t1"))
    replica.submit("t2")
    assert replica.task("t2").status is TaskStatus.QUEUED
