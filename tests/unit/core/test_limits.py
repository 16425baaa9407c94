"""Queues and limits: who may start, and when again."""

from __future__ import annotations

from typing import Any

import pytest

from raftsched.core.commands import (
    Assignment,
    AssignTasks,
    CancelTask,
    DeleteLimit,
    DeleteQueue,
    NodeLost,
    PutLimit,
    PutQueue,
    ResetClock,
    SubmitTasks,
)
from raftsched.core.limits import full_at_us, interval_us
from raftsched.core.model import Limit, Queue
from raftsched.core.outcomes import Reason, Rejected
from raftsched.core.planner import PlanPolicy, plan
from raftsched.core.policy import Policy
from tests.unit.core.builders import Replica, finished, new_task, register


def replica_with(*task_ids: str, **fields: Any) -> Replica:
    """A node with room for all, and tasks."""
    replica = Replica()
    replica.accepted(register("n1", slots=100))
    if task_ids:
        replica.submit(*task_ids, **fields)
    return replica


def assigned(replica: Replica, *task_ids: str) -> list[Reason | None]:
    """What becomes of assignments in one command: None, or why not."""
    wanted = tuple(Assignment(task_id, "n1", "a") for task_id in task_ids)
    results = replica.accepted(AssignTasks(wanted))
    return [item.reason if isinstance(item, Rejected) else None for item in results]


def planned(replica: Replica, now: int = 0) -> list[str]:
    """Ids of what would start; nothing comes of it."""
    return [a.task_id for a in plan(replica.state, PlanPolicy(now=now)).assignments]


K = Policy(limits=("k",))


# Queues ----------------------------------------------------------------------------------------


def test_a_paused_queue_starts_nothing_and_what_runs_goes_on() -> None:
    replica = replica_with("t1", "t2", queue="q")
    replica.submit("other")
    token = replica.run("t1")
    replica.accepted(PutQueue(Queue("q", paused=True)))
    assert planned(replica) == ["other"]
    assert assigned(replica, "t2") == [Reason.QUEUE_PAUSED]
    replica.accepted(finished("t1", token))
    replica.accepted(PutQueue(Queue("q")))
    assert planned(replica) == ["t2", "other"]


def test_a_queue_holds_no_more_attempts_than_its_concurrency_also_in_one_command() -> None:
    replica = replica_with("t1", "t2", "t3", "t4", queue="q")
    replica.accepted(PutQueue(Queue("q", concurrency=2)))
    assert planned(replica) == ["t1", "t2"]
    assert assigned(replica, "t1", "t2", "t3") == [None, None, Reason.QUEUE_BUSY]
    assert planned(replica) == []
    replica.accepted(CancelTask("t1"))
    assert planned(replica) == []
    replica.accepted(finished("t1", replica.task("t1").token, "cancelled"))
    assert planned(replica) == ["t3"]
    replica.accepted(DeleteQueue("q"))
    assert planned(replica) == ["t3", "t4"]


# Semaphores ------------------------------------------------------------------------------------


def test_a_key_without_a_row_is_a_mutex() -> None:
    replica = replica_with("t1", "t2", policy=K)
    assert planned(replica) == ["t1"]
    assert assigned(replica, "t1", "t2") == [None, Reason.LIMIT_HELD]
    assert planned(replica) == []


@pytest.mark.parametrize("end", ["succeeded", "failed", "timed_out", "cancelled", "lost"])
def test_a_limit_is_free_again_however_the_attempt_ended(end: str) -> None:
    replica = replica_with("t1", "t2", policy=K)
    token = replica.run("t1")
    assert planned(replica) == []
    replica.accepted(finished("t1", token, end))
    assert len(planned(replica)) == 1


def test_a_limit_is_free_again_when_its_holders_node_is_lost() -> None:
    replica = replica_with("t1", "t2", policy=K)
    replica.accepted(register("n2", slots=1))
    replica.run("t1")
    assert planned(replica) == []
    replica.accepted(NodeLost("n1", "a"))
    assert planned(replica) == ["t1"]


def test_a_semaphore_has_as_many_holders_as_its_row_says() -> None:
    replica = replica_with("t1", "t2", "t3", policy=K)
    replica.accepted(PutLimit(Limit("k", count=2)))
    assert assigned(replica, "t1", "t2", "t3") == [None, None, Reason.LIMIT_HELD]
    replica.accepted(PutLimit(Limit("k", count=3)))
    assert planned(replica) == ["t3"]
    replica.accepted(DeleteLimit("k"))
    assert planned(replica) == []


def test_a_count_of_none_lets_everybody_in() -> None:
    replica = replica_with("t1", "t2", "t3", policy=K)
    replica.accepted(PutLimit(Limit("k", count=0)))
    assert planned(replica) == ["t1", "t2", "t3"]


def test_a_task_needs_all_of_its_limits_at_once() -> None:
    replica = replica_with("t1", policy=Policy(limits=("a", "b")))
    replica.submit("t2", policy=Policy(limits=("b", "c")))
    replica.submit("t3", policy=Policy(limits=("c",)))
    assert planned(replica) == ["t1", "t3"]
    assert assigned(replica, "t1", "t2", "t3") == [None, Reason.LIMIT_HELD, None]
    assert replica.state.limit_use == {"a": 1, "b": 1, "c": 1}


# Token buckets ---------------------------------------------------------------------------------


def bucket(**fields: Any) -> Limit:
    """Two starts in 100 ms."""
    return Limit(**{"key": "k", "count": 0, "rate_count": 2, "rate_ms": 100, **fields})


@pytest.mark.parametrize(
    ("count", "ms", "us"), [(1, 1_000, 1_000_000), (3, 1_000, 333_334), (1_000, 1, 1), (7, 1, 143)]
)
def test_a_token_comes_back_after_its_part_of_the_time_rounded_up(
    count: int, ms: int, us: int
) -> None:
    assert interval_us(Limit("k", rate_count=count, rate_ms=ms)) == us


def test_so_many_start_at_once_as_the_burst_says_and_then_at_the_rate() -> None:
    task_ids = [f"t{number}" for number in range(9)]
    replica = replica_with(*task_ids, policy=K)
    replica.accepted(PutLimit(bucket(burst=3)))
    now = replica.now + 10
    assert planned(replica, now) == ["t0", "t1", "t2"]
    outcome = assigned(replica, "t0", "t1", "t2", "t3")
    assert outcome == [None, None, None, Reason.LIMIT_HELD]
    assert replica.state.limits["k"].full_at_us == (now + 150) * 1_000
    assert planned(replica, now + 49) == []
    assert plan(replica.state, PlanPolicy(now=now + 49)).due == now + 50
    assert planned(replica, now + 50) == ["t3"]
    assert planned(replica, now + 100) == ["t3", "t4"]
    assert planned(replica, now + 10_000) == ["t3", "t4", "t5"]


def test_apply_goes_by_its_own_time_and_not_by_the_planners() -> None:
    replica = replica_with("t1", "t2", policy=K)
    replica.accepted(PutLimit(bucket()))
    assert assigned(replica, "t1") == [None]
    assert planned(replica, replica.now + 50) == ["t2"]
    assert assigned(replica, "t2") == [Reason.LIMIT_HELD]
    replica.now += 30
    assert assigned(replica, "t2") == [None]


def test_a_token_is_not_given_back() -> None:
    replica = replica_with("t1", "t2", policy=K)
    replica.accepted(PutLimit(bucket()))
    replica.accepted(finished("t1", replica.run("t1")))
    assert planned(replica) == []


def test_another_rate_keeps_the_bucket_as_full_as_it_is_but_no_emptier_than_it_can_be() -> None:
    replica = replica_with("t1", "t2", policy=K)
    replica.accepted(PutLimit(bucket(rate_count=1, rate_ms=100_000)))
    assert assigned(replica, "t1") == [None]
    replica.accepted(PutLimit(bucket()))
    assert planned(replica, replica.now + 49) == []
    assert planned(replica, replica.now + 50) == ["t2"]


def test_a_clock_that_is_set_back_makes_a_bucket_no_emptier_than_empty() -> None:
    replica = replica_with("t1", "t2", policy=K)
    replica.accepted(PutLimit(bucket()))
    assert assigned(replica, "t1") == [None]
    assert planned(replica) == []
    replica.accepted(ResetClock(500_000))
    replica.now = 500_000
    assert planned(replica) == []
    assert plan(replica.state, PlanPolicy()).due == 500_050
    assert planned(replica, 500_050) == ["t2"]


def test_a_full_bucket_is_full_from_now_on() -> None:
    assert full_at_us(bucket(), 7) == 7_000
    assert full_at_us(bucket(full_at_us=9_000), 7) == 9_000


def test_a_bucket_and_a_semaphore_in_one_both_count() -> None:
    replica = replica_with("t1", "t2", policy=K)
    replica.accepted(PutLimit(bucket(count=1, burst=2)))
    token = replica.run("t1")
    assert planned(replica, replica.now + 500) == []
    replica.accepted(finished("t1", token))
    assert planned(replica) == ["t2"]


@pytest.mark.parametrize(
    "policy",
    [
        Policy(limits=("k", "k")),
        Policy(limits=("b", "a")),
        Policy(resources=(("gpu", 1), ("gpu", 1))),
        Policy(resources=(("gpu", -1),)),
    ],
)
def test_a_policy_that_would_be_counted_wrongly_is_refused(policy: Policy) -> None:
    replica = replica_with()
    refused = replica.refused(SubmitTasks((new_task("t1", policy=policy),)))
    assert refused.reason is Reason.INVALID
