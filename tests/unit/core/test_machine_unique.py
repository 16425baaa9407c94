"""Unique keys: one task that has not ended, and what becomes of the next one."""

from __future__ import annotations

import pytest

from raftsched.core.commands import CancelTask, DeleteTask, PutQueue, SubmitTasks
from raftsched.core.model import Queue, TaskStatus
from raftsched.core.outcomes import Accepted, Outcome, Reason, Rejected, Submitted
from raftsched.core.policy import Extra
from tests.unit.core.builders import Replica, finished, new_task, register


def with_node() -> Replica:
    replica = Replica()
    replica.accepted(register())
    return replica


def submit(
    replica: Replica, task_id: str, on_conflict: str = "reject", *, key: str = "u", idem: str = ""
) -> Outcome:
    """Submit one with a unique key."""
    new = new_task(task_id, extra=Extra(unique_key=key, on_conflict=on_conflict))
    return replica.do(SubmitTasks((new,), key=idem, request_hash=b"h"))


def test_a_second_task_with_the_key_is_refused_and_names_the_first() -> None:
    replica = with_node()
    submit(replica, "t1")
    assert submit(replica, "t2") == Rejected(Reason.UNIQUE_CONFLICT, "t1")
    assert replica.state.tasks.get("t2") is None


def test_a_second_task_that_would_take_the_first_gets_it() -> None:
    replica = with_node()
    submit(replica, "t1")
    for idem in ("", "k", "k"):
        outcome = submit(replica, "t2", "return", idem=idem)
        assert isinstance(outcome, Accepted)
        assert (outcome.value.task_ids, outcome.value.existing) == (("t1",), (0,))
    assert replica.state.tasks.get("t2") is None


@pytest.mark.parametrize("on_conflict", ["reject", "return", "replace"])
def test_the_key_is_free_when_its_task_has_ended(on_conflict: str) -> None:
    replica = with_node()
    submit(replica, "t1")
    replica.accepted(finished("t1", replica.run("t1")))
    assert submit(replica, "t2", on_conflict) == Accepted(Submitted(("t2",)))
    assert replica.task("t2").status is TaskStatus.QUEUED


def test_another_key_and_another_namespace_do_not_matter() -> None:
    replica = with_node()
    submit(replica, "t1")
    assert submit(replica, "t2", key="v") == Accepted(Submitted(("t2",)))
    other = new_task("t3", extra=Extra(unique_key="u"))
    assert replica.do(SubmitTasks((other,), namespace="n")) == Accepted(Submitted(("t3",)))


def test_a_replaced_task_that_waits_is_cancelled_and_the_next_one_queued() -> None:
    replica = with_node()
    submit(replica, "t1")
    submit(replica, "t2", "replace")
    assert (replica.task("t1").status, replica.task("t1").reason) == (
        TaskStatus.CANCELLED, "replaced",
    )  # fmt: skip
    assert replica.task("t2").status is TaskStatus.QUEUED


def test_a_task_that_replaces_a_running_one_waits_for_its_end() -> None:
    replica = with_node()
    submit(replica, "t1")
    token = replica.run("t1")
    submit(replica, "t2", "replace")
    assert replica.task("t1").status is TaskStatus.CANCELLING
    assert (replica.task("t2").status, replica.task("t2").reason) == (
        TaskStatus.WAITING, "replaces",
    )  # fmt: skip
    replica.accepted(finished("t1", token, "cancelled"))
    assert replica.task("t2").status is TaskStatus.QUEUED
    assert [event.kind for event in replica.events] == ["task_finished", "task_queued"]


def test_the_third_replaces_the_second_and_waits_for_the_first() -> None:
    replica = with_node()
    submit(replica, "t1")
    token = replica.run("t1")
    submit(replica, "t2", "replace")
    submit(replica, "t3", "replace")
    statuses = [replica.task(task_id).status for task_id in ("t1", "t2", "t3")]
    assert statuses == [TaskStatus.CANCELLING, TaskStatus.CANCELLED, TaskStatus.WAITING]
    replica.accepted(finished("t1", token, "cancelled"))
    assert replica.task("t3").status is TaskStatus.QUEUED


def test_when_who_replaces_is_cancelled_the_key_stays_with_what_still_runs() -> None:
    replica = with_node()
    submit(replica, "t1")
    token = replica.run("t1")
    submit(replica, "t2", "replace")
    replica.accepted(CancelTask("t2"))
    assert submit(replica, "t3") == Rejected(Reason.UNIQUE_CONFLICT, "t1")
    replica.accepted(finished("t1", token, "cancelled"))
    assert submit(replica, "t3") == Accepted(Submitted(("t3",)))


def test_a_key_is_not_given_back_to_a_stranger_with_the_same_id() -> None:
    replica = with_node()
    submit(replica, "t1")
    token = replica.run("t1")
    submit(replica, "t2", "replace")
    replica.accepted(finished("t1", token, "cancelled"))
    replica.accepted(DeleteTask("t1"))
    replica.submit("t1")
    replica.accepted(CancelTask("t2"))
    assert submit(replica, "t3") == Accepted(Submitted(("t3",)))


def test_of_several_in_one_submission_the_first_has_the_key() -> None:
    replica = with_node()
    extra = Extra(unique_key="u", on_conflict="return")
    outcome = replica.do(
        SubmitTasks((new_task("t1", extra=extra), new_task("t2", extra=extra), new_task("t3")))
    )
    assert outcome == Accepted(Submitted(("t1", "t1", "t3"), existing=(1,)))


def test_an_id_of_somebody_else_waits_for_nobody() -> None:
    # ``after`` is the state's own: nobody makes a task wait by it.
    replica = with_node()
    replica.submit("t1")
    replica.submit("t2", extra=Extra(after="t1", deadline=10**13))
    assert replica.task("t2").status is TaskStatus.QUEUED
    assert replica.task("t2").extra == Extra(deadline=10**13)


@pytest.mark.parametrize(
    ("on_conflict", "outcome"),
    [
        ("reject", Rejected(Reason.UNIQUE_CONFLICT, "t1")),
        ("return", Accepted(Submitted(("t1",), existing=(0,)))),
        ("replace", Accepted(Submitted(("t2",)))),
    ],
)
def test_a_full_queue_refuses_nobody_who_adds_nothing_to_it(
    on_conflict: str, outcome: Outcome
) -> None:
    replica = with_node()
    replica.accepted(PutQueue(Queue("default", depth_max=1)))
    submit(replica, "t1")
    assert submit(replica, "t2", on_conflict) == outcome


def test_a_full_queue_refuses_who_would_wait_beside_the_task_that_it_replaces() -> None:
    replica = with_node()
    replica.accepted(PutQueue(Queue("default", depth_max=1)))
    submit(replica, "t1")
    replica.run("t1")
    assert submit(replica, "t2", "replace") == Rejected(Reason.QUEUE_FULL, "t2")
    assert replica.task("t1").status is TaskStatus.RUNNING
