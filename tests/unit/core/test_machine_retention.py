"""Retention: what ended long ago goes, by the state's clock, oldest first, so much at once."""

from __future__ import annotations

from typing import Any

import pytest

from raftsched.core.commands import ApplyRetention, CancelTask, PutQueue, SubmitTasks
from raftsched.core.model import Queue
from raftsched.core.outcomes import Accepted, Event
from tests.unit.core.builders import Replica, finished, new_task, register

DAY_MS = 86_400_000


def ended(*task_ids: str, **settings: int) -> Replica:
    """A replica with tasks that ended one after the other."""
    replica = Replica(**settings)
    replica.submit(*task_ids)
    for task_id in task_ids:
        replica.accepted(CancelTask(task_id))
    return replica


def ids(replica: Replica) -> list[str]:
    """Ids of all tasks, oldest first."""
    return [task.id for task in replica.state.list_tasks(newest_first=False)]


@pytest.mark.parametrize(("age_ms", "removed"), [(0, 0), (DAY_MS - 1, 0), (DAY_MS, 1)])
def test_a_task_is_removed_when_its_retention_is_over(age_ms: int, removed: int) -> None:
    replica = ended("t1", finished_retention_ms=DAY_MS)
    outcome = replica.do(ApplyRetention(), now=replica.now + age_ms)
    assert outcome == Accepted((removed, 0))
    assert len(replica.state.tasks) == 1 - removed
    gone = [Event("task_deleted", "t1", detail="retention")]
    assert replica.events == gone[:removed]


def test_an_open_task_is_never_removed() -> None:
    replica = Replica(finished_retention_ms=0, finished_max=0)
    replica.accepted(register())
    replica.submit("waits", "runs")
    replica.run("runs")
    assert replica.do(ApplyRetention(), now=replica.now + 365 * DAY_MS) == Accepted((0, 0))
    assert set(ids(replica)) == {"waits", "runs"}


def test_more_ended_tasks_than_allowed_go_in_the_order_they_ended() -> None:
    replica = Replica(finished_max=2)
    replica.submit("t1", "t2", "t3", "t4")
    for task_id in ("t3", "t1", "t4", "t2"):
        replica.accepted(CancelTask(task_id))
    assert replica.do(ApplyRetention()) == Accepted((2, 0))
    assert ids(replica) == ["t2", "t4"]


def test_the_attempts_go_with_their_task() -> None:
    replica = Replica(finished_max=0)
    replica.accepted(register())
    replica.submit("t1")
    replica.accepted(finished("t1", replica.run("t1")))
    replica.accepted(ApplyRetention())
    assert replica.attempts("t1") == ()


@pytest.mark.parametrize("limit", [0, 1, 2, 3, 9])
def test_one_pass_removes_no_more_than_its_limit_of_each(limit: int) -> None:
    replica = Replica(finished_max=0, key_retention_ms=1)
    for number in range(3):
        replica.accepted(SubmitTasks((new_task(f"t{number}"),), key=f"k{number}"))
        replica.accepted(CancelTask(f"t{number}"))
    removed = min(limit, 3)
    assert replica.do(ApplyRetention(limit)) == Accepted((removed, removed))
    assert (len(replica.state.tasks), len(replica.state.keys)) == (3 - removed, 3 - removed)


def test_a_second_pass_finds_nothing_more() -> None:
    replica = ended("t1", "t2", finished_max=0)
    replica.accepted(ApplyRetention())
    assert replica.do(ApplyRetention()) == Accepted((0, 0))


def test_keys_go_in_the_order_they_expire() -> None:
    replica = Replica(key_retention_ms=100)
    replica.do(SubmitTasks((new_task("t1"),), key="later"), now=replica.now + 50)
    replica.do(SubmitTasks((new_task("t2"),), key="latest"), now=replica.now + 50)
    outcome = replica.do(ApplyRetention(), now=replica.now + 50)
    assert outcome == Accepted((0, 1))
    assert [key for key, _ in replica.state.keys.items()] == ["default\0latest"]


def test_the_id_of_a_removed_task_is_free_again() -> None:
    replica = ended("t1", finished_max=0)
    replica.accepted(ApplyRetention())
    replica.submit("t1", spec=b"another")
    assert replica.task().spec == b"another"
    assert replica.do(ApplyRetention()) == Accepted((0, 0))


# By queue --------------------------------------------------------------------------------------


def of_queues(**queues: int) -> Replica:
    """A replica with so many ended tasks in each queue, one after the other."""
    replica = Replica()
    for queue, count in queues.items():
        for number in range(count):
            replica.submit(f"{queue}{number}", queue=queue)
            replica.accepted(CancelTask(f"{queue}{number}"))
    return replica


@pytest.mark.parametrize(
    ("rules", "left"),
    [
        ({"retention_count": 2}, ["a2", "a3", "b0"]),
        ({"retention_count": 9}, ["a0", "a1", "a2", "a3", "b0"]),
        ({"retention_ms": 1}, ["b0"]),
        ({"retention_bytes": len(b"spec")}, ["a3", "b0"]),
        ({"retention_bytes": 1}, ["b0"]),
        ({}, ["a0", "a1", "a2", "a3", "b0"]),
    ],
)
def test_a_queue_keeps_what_it_says_and_touches_no_other(
    rules: dict[str, Any], left: list[str]
) -> None:
    replica = of_queues(a=4, b=1)
    replica.accepted(PutQueue(Queue("a", **rules)))
    replica.accepted(ApplyRetention())
    assert ids(replica) == left


def test_no_more_are_removed_at_once_than_asked_for_whatever_the_rule() -> None:
    replica = of_queues(a=3, b=3)
    replica.accepted(PutQueue(Queue("a", retention_ms=1)))
    replica.accepted(PutQueue(Queue("b", retention_ms=1)))
    assert replica.accepted(ApplyRetention(2)) == (2, 0)
    assert replica.accepted(ApplyRetention(2)) == (2, 0)
    assert ids(replica) == ["b1", "b2"]


def test_a_queue_has_no_say_before_its_version_is_in_force() -> None:
    replica = of_queues(a=3)
    replica.accepted(PutQueue(Queue("a", retention_count=1)))
    replica.state.version = 3
    assert replica.accepted(ApplyRetention()) == (0, 0)


def test_finished_tasks_have_so_many_bytes_together_and_no_more() -> None:
    replica = Replica(finished_bytes_max=25)
    for name, queue in (("a", "q"), ("b", "p"), ("c", "q")):
        replica.submit(name, spec=b"0123456789", queue=queue)
        replica.accepted(CancelTask(name))
    assert replica.state.finished.bytes == 30
    assert replica.accepted(ApplyRetention()) == (1, 0)
    assert (ids(replica), replica.state.finished.bytes) == (["b", "c"], 20)
    assert replica.accepted(ApplyRetention()) == (0, 0)
