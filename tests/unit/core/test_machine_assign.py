"""Assigning: the planner's proposals are verified one by one against the state."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from raftsched.core.commands import (
    Assignment,
    AssignTasks,
    NodeLeft,
    NodeLost,
    PauseTask,
    SetEligibility,
)
from raftsched.core.model import Eligibility, TaskStatus
from raftsched.core.outcomes import Accepted, Event, Reason, Rejected
from raftsched.core.rooms import AHEAD_MAX
from tests.unit.core.builders import Replica, attempt, finished, register


def to_n1(*task_ids: str) -> AssignTasks:
    """All of them on the first node."""
    return AssignTasks(tuple(Assignment(task_id, "n1", "a") for task_id in task_ids))


def test_an_assigned_task_gets_an_attempt_a_token_and_room_on_its_node() -> None:
    replica = Replica()
    replica.accepted(register())
    replica.submit("t1", cpu_milli=500, memory_bytes=100)
    before = replica.task()
    outcome = replica.do(to_n1("t1"))
    made = attempt(1, token=1, assigned_at=replica.now)
    assert outcome == Accepted([made])
    assert replica.task() == msgspec.structs.replace(
        before,
        status=TaskStatus.ASSIGNED,
        modify_index=replica.index,
        attempts=(made,),
    )
    assert replica.usage() == (1, 500, 100)
    assert list(replica.state.by_node["n1"]) == ["t1"]
    assert list(replica.state.ready) == []
    assert (replica.task().attempt, replica.task().node, replica.task().token) == (1, "n1", 1)
    assert replica.events == [Event("task_assigned", "t1", "n1")]


def test_tokens_rise_by_one_with_every_assignment_in_the_cluster() -> None:
    replica = Replica()
    replica.accepted(register("n1"))
    replica.accepted(register("n2"))
    replica.submit("t1", attempts_max=2)
    replica.submit("t2")
    tokens = [replica.assign("t1"), replica.assign("t2", "n2")]
    replica.accepted(finished("t1", tokens[0], "failed"))
    tokens.append(replica.assign("t1", "n2"))
    assert tokens == [1, 2, 3]
    assert replica.state.next_token == 4


def test_a_refused_assignment_takes_no_token() -> None:
    replica = Replica()
    replica.accepted(register())
    replica.submit("t1")
    outcome = replica.do(to_n1("nobody", "t1"))
    assert isinstance(outcome, Accepted)
    assert outcome.value[0] == Rejected(Reason.UNKNOWN_TASK, "nobody")
    assert outcome.value[1].token == 1
    assert replica.state.next_token == 2


REFUSALS: list[tuple[dict[str, str], Reason]] = [
    ({"task_id": "nobody"}, Reason.UNKNOWN_TASK),
    ({"node_id": "nowhere"}, Reason.UNKNOWN_NODE),
    ({"incarnation": "older"}, Reason.STALE_INCARNATION),
]


@pytest.mark.parametrize(("fields", "reason"), REFUSALS)
def test_an_assignment_that_names_nothing_there_is_refused(
    fields: dict[str, str], reason: Reason
) -> None:
    replica = Replica()
    replica.accepted(register())
    replica.submit("t1")
    wanted = Assignment(**{"task_id": "t1", "node_id": "n1", "incarnation": "a", **fields})
    outcome = replica.do(AssignTasks((wanted,)))
    detail = "nobody" if reason is Reason.UNKNOWN_TASK else wanted.node_id
    assert outcome == Accepted([Rejected(reason, detail)])
    assert replica.task().status is TaskStatus.QUEUED
    assert replica.attempts() == ()
    assert replica.events == []


@pytest.mark.parametrize(
    "status",
    [
        TaskStatus.ASSIGNED,
        TaskStatus.RUNNING,
        TaskStatus.CANCELLING,
        TaskStatus.SUCCEEDED,
        TaskStatus.FAILED,
        TaskStatus.CANCELLED,
    ],
)
def test_a_task_that_does_not_wait_is_not_assigned(status: TaskStatus) -> None:
    replica = Replica()
    replica.accepted(register())
    replica.bring("t1", status)
    before = replica.task()
    assert replica.do(to_n1("t1")) == Accepted([Rejected(Reason.TASK_NOT_QUEUED, str(status))])
    assert replica.task() == before


def test_a_paused_task_is_not_assigned() -> None:
    replica = Replica()
    replica.accepted(register())
    replica.submit("t1")
    replica.accepted(PauseTask("t1"))
    assert replica.do(to_n1("t1")) == Accepted([Rejected(Reason.TASK_PAUSED, "t1")])


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        (SetEligibility("n1", Eligibility.CORDONED), Reason.NODE_CORDONED),
        (NodeLost("n1", "a"), Reason.NODE_NOT_UP),
        (NodeLeft("n1", "a"), Reason.NODE_NOT_UP),
    ],
)
def test_a_node_that_takes_nothing_new_is_refused(command: Any, reason: Reason) -> None:
    replica = Replica()
    replica.accepted(register())
    replica.submit("t1")
    replica.accepted(command)
    assert replica.do(to_n1("t1")) == Accepted([Rejected(reason, "n1")])
    assert replica.usage() == (0, 0, 0)


@pytest.mark.parametrize(
    ("capacity", "needs"),
    [
        ({"cpu_milli": 1_000}, {"cpu_milli": 501}),
        ({"memory_bytes": 100}, {"memory_bytes": 51}),
        ({"cpu_milli": 0}, {"cpu_milli": 1}),
    ],
)
def test_a_node_without_cpu_or_memory_left_is_full(
    capacity: dict[str, Any], needs: dict[str, int]
) -> None:
    replica = Replica()
    replica.accepted(register(**capacity))
    replica.submit("half", **{name: amount // 2 for name, amount in needs.items()})
    replica.submit("t1", "t2", **needs)
    outcome = replica.do(to_n1("half", "t1", "t2"))
    assert isinstance(outcome, Accepted)
    full = Rejected(Reason.NODE_FULL, "n1")
    assert full not in outcome.value[:1]
    assert outcome.value[-1] == full
    assert replica.task("t2").status is TaskStatus.QUEUED


def test_items_of_one_command_share_the_node_they_fill() -> None:
    replica = Replica()
    replica.accepted(register(cpu_milli=1_000))
    replica.submit("t1", "t2", "t3", cpu_milli=500)
    outcome = replica.do(to_n1("t1", "t2", "t3"))
    assert isinstance(outcome, Accepted)
    assert outcome.value[2] == Rejected(Reason.NODE_FULL, "n1")
    assert replica.usage() == (2, 1_000, 0)


def test_a_node_takes_its_slots_and_the_most_ahead_and_no_more() -> None:
    replica = Replica()
    replica.accepted(register(slots=2))
    room = 2 + AHEAD_MAX
    task_ids = [f"t{number}" for number in range(room + 1)]
    replica.submit(*task_ids)
    outcome = replica.do(to_n1(*task_ids))
    assert isinstance(outcome, Accepted)
    assert [item for item in outcome.value if isinstance(item, Rejected)] == [
        Rejected(Reason.NODE_FULL, "n1")
    ]
    assert replica.usage()[0] == room


def test_the_same_task_twice_in_one_command_is_assigned_once() -> None:
    replica = Replica()
    replica.accepted(register())
    replica.submit("t1")
    outcome = replica.do(to_n1("t1", "t1"))
    assert isinstance(outcome, Accepted)
    assert outcome.value[1] == Rejected(Reason.TASK_NOT_QUEUED, "assigned")
    assert replica.usage() == (1, 0, 0)


def test_room_that_an_ended_attempt_held_is_free_again() -> None:
    replica = Replica()
    replica.accepted(register(cpu_milli=500))
    replica.submit("t1", "t2", cpu_milli=500)
    token = replica.assign("t1")
    replica.accepted(finished("t1", token))
    assert replica.usage() == (0, 0, 0)
    replica.assign("t2")
    assert replica.usage() == (1, 500, 0)
