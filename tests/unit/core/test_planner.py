"""Planning: who goes where, in which order, and what is left waiting."""

from __future__ import annotations

from typing import Any

import pytest

from raftsched.core.commands import (
    Assignment,
    AssignTasks,
    NodeLeft,
    NodeLost,
    PauseTask,
    ResumeTask,
    SetEligibility,
)
from raftsched.core.model import Eligibility
from raftsched.core.outcomes import Rejected
from raftsched.core.planner import PlanPolicy, plan
from raftsched.core.rooms import AHEAD_MAX
from tests.unit.core.builders import Replica, dump, register


def nodes(*node_ids: str, **capacity: Any) -> Replica:
    """A replica with nodes that are alike."""
    replica = Replica()
    for node_id in node_ids:
        replica.accepted(register(node_id, **capacity))
    return replica


def planned(replica: Replica, **policy: Any) -> list[tuple[str, str]]:
    """What one pass proposes, as (task, node); it changes nothing and apply agrees to all."""
    before = dump(replica.state), list(replica.state.ready)
    found = plan(replica.state, PlanPolicy(**policy)).assignments
    assert (dump(replica.state), list(replica.state.ready)) == before
    if found:
        outcome = replica.accepted(AssignTasks(found))
        assert not [item for item in outcome if isinstance(item, Rejected)]
    return [(wanted.task_id, wanted.node_id) for wanted in found]


def test_an_assignment_names_the_incarnation_it_was_planned_for() -> None:
    replica = Replica()
    replica.accepted(register("n1", "a7"))
    replica.submit("t1")
    assert plan(replica.state, PlanPolicy()).assignments == (Assignment("t1", "n1", "a7"),)


def test_nothing_is_planned_without_tasks_or_without_nodes() -> None:
    replica = Replica()
    assert planned(replica) == []
    replica.submit("t1")
    assert planned(replica) == []
    replica.accepted(register(slots=0))
    assert planned(replica) == []


# Order -----------------------------------------------------------------------------------------


def test_the_higher_priority_goes_first_and_the_older_within_one() -> None:
    replica = nodes("n1", slots=9)
    replica.submit("low", priority=0)
    replica.submit("mid1", "mid2", priority=50)
    replica.submit("high", priority=100)
    replica.submit("mid3", priority=50)
    assert [task_id for task_id, _ in planned(replica)] == ["high", "mid1", "mid2", "mid3", "low"]


def test_a_lost_task_goes_before_those_that_came_after_it() -> None:
    replica = nodes("n1", slots=1)
    replica.submit("t1", "t2")
    replica.run("t1")
    replica.accepted(NodeLost("n1", "a"))
    replica.accepted(register("n1", "b", slots=2))
    assert [task_id for task_id, _ in planned(replica)] == ["t1", "t2"]


@pytest.mark.parametrize(("limit", "count"), [(0, 0), (1, 1), (3, 3), (4, 4), (9, 4)])
def test_a_pass_plans_no_more_than_its_limit(limit: int, count: int) -> None:
    replica = nodes("n1", slots=9)
    task_ids = ["t1", "t2", "t3", "t4"]
    replica.submit(*task_ids)
    assert [task_id for task_id, _ in planned(replica, limit=limit)] == task_ids[:count]


def test_the_next_pass_goes_on_where_the_last_one_ended() -> None:
    replica = nodes("n1", slots=9)
    replica.submit("t1", "t2", "t3")
    assert planned(replica, limit=2) == [("t1", "n1"), ("t2", "n1")]
    assert planned(replica, limit=2) == [("t3", "n1")]
    assert planned(replica, limit=2) == []


def test_a_paused_task_is_passed_over_until_it_is_resumed() -> None:
    replica = nodes("n1")
    replica.submit("t1", "t2")
    replica.accepted(PauseTask("t1"))
    assert planned(replica) == [("t2", "n1")]
    replica.accepted(ResumeTask("t1"))
    assert planned(replica) == [("t1", "n1")]


# Nodes -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "gone",
    [SetEligibility("n1", Eligibility.CORDONED), NodeLost("n1", "a"), NodeLeft("n1", "a")],
)
def test_a_node_that_takes_nothing_new_is_left_out(gone: Any) -> None:
    replica = nodes("n1", "n2")
    replica.accepted(gone)
    replica.submit("t1", "t2")
    assert planned(replica) == [("t1", "n2"), ("t2", "n2")]


def test_no_more_attempts_than_slots_are_planned() -> None:
    replica = nodes("n1", "n2", slots=2)
    replica.submit(*[f"t{number}" for number in range(6)])
    assert len(planned(replica)) == 4
    assert (replica.usage("n1")[0], replica.usage("n2")[0]) == (2, 2)


def test_attempts_ahead_go_beyond_the_slots_of_the_node_they_are_allowed_for() -> None:
    replica = nodes("n1", "n2", slots=1)
    replica.submit(*[f"t{number}" for number in range(9)])
    assert len(planned(replica, ahead={"n1": 3, "nowhere": 9})) == 5
    assert (replica.usage("n1")[0], replica.usage("n2")[0]) == (4, 1)


def test_attempts_ahead_are_bounded_whatever_the_policy_says() -> None:
    replica = nodes("n1", slots=1)
    replica.submit(*[f"t{number}" for number in range(AHEAD_MAX + 10)])
    assert len(planned(replica, ahead={"n1": 10 * AHEAD_MAX})) == 1 + AHEAD_MAX


@pytest.mark.parametrize(
    ("capacity", "needs", "fit"),
    [
        ({"cpu_milli": 1_000}, {"cpu_milli": 500}, 2),
        ({"cpu_milli": 1_000}, {"cpu_milli": 501}, 1),
        ({"cpu_milli": 1_000}, {"cpu_milli": 1_001}, 0),
        ({"memory_bytes": 100}, {"memory_bytes": 33}, 3),
        ({"memory_bytes": 100}, {"memory_bytes": 101}, 0),
        ({"cpu_milli": 100, "memory_bytes": 100}, {"cpu_milli": 10, "memory_bytes": 60}, 1),
        ({"cpu_milli": 0, "memory_bytes": 0}, {}, 4),
        ({"slots": 3}, {"cpu_milli": 1}, 3),
    ],
)
def test_tasks_are_planned_while_cpu_memory_and_slots_last(
    capacity: dict[str, int], needs: dict[str, int], fit: int
) -> None:
    replica = nodes("n1", **capacity)
    replica.submit(*[f"t{number}" for number in range(6)], **needs)
    assert len(planned(replica)) == fit


def test_tasks_that_fit_nowhere_do_not_block_those_behind_them() -> None:
    replica = nodes("n1", cpu_milli=1_000)
    replica.submit("big1", "big2", cpu_milli=1_001)
    replica.submit("small1", "small2", cpu_milli=500)
    assert planned(replica) == [("small1", "n1"), ("small2", "n1")]
    assert list(replica.state.ready) == ["big1", "big2"]


def test_however_many_fit_nowhere_those_behind_them_have_their_turn() -> None:
    replica = nodes("n1", cpu_milli=1_000, memory_bytes=1_000, slots=100)
    replica.submit(*[f"big{number}" for number in range(1_500)], cpu_milli=1_001)
    for number in range(40):
        replica.submit(f"huge{number}", cpu_milli=2_000 + number, memory_bytes=number)
    replica.submit("wide", memory_bytes=1_001)
    replica.submit("small1")
    replica.submit("mixed", cpu_milli=600)
    replica.submit("late", cpu_milli=600)
    replica.submit("small2", cpu_milli=400)
    replica.submit("low", priority=10)
    found = ["small1", "mixed", "small2", "low"]
    assert planned(replica) == [(task_id, "n1") for task_id in found]
    replica.submit("urgent", priority=90)
    assert planned(replica)[0] == ("urgent", "n1")


def test_tasks_of_different_needs_are_placed_in_order_of_creation() -> None:
    replica = nodes("n1", slots=100, cpu_milli=10**6)
    names = [f"t{number}" for number in range(60)]
    for number, name in enumerate(names):
        replica.submit(name, cpu_milli=number * 7 % 5)
    assert list(replica.state.ready) == names
    assert [task_id for task_id, _ in planned(replica)] == names


# Strategies ------------------------------------------------------------------------------------


def placed(replica: Replica) -> list[str]:
    """The nodes of one pass, in the order of its tasks."""
    return [node_id for _, node_id in planned(replica)]


def test_spread_takes_the_emptiest_node_and_the_first_among_equals() -> None:
    replica = nodes("n2", "n1", "n3", slots=2)
    replica.submit("t1", "t2", "t3", "t4", "t5", "t6")
    assert placed(replica) == ["n1", "n2", "n3", "n1", "n2", "n3"]


def test_spread_looks_at_the_fullest_dimension_of_a_node() -> None:
    replica = nodes("n1", "n2", slots=10, cpu_milli=1_000, memory_bytes=1_000)
    replica.submit("cpu", cpu_milli=500)
    replica.assign("cpu", "n1")
    replica.submit("memory", memory_bytes=600)
    replica.assign("memory", "n2")
    replica.submit("t1")
    assert placed(replica) == ["n1"]


def test_spread_weighs_a_node_by_its_own_size() -> None:
    replica = Replica()
    replica.accepted(register("n1", slots=1))
    replica.accepted(register("n2", slots=4))
    replica.submit("t1", "t2", "t3")
    assert placed(replica) == ["n1", "n2", "n2"]


def test_spread_goes_elsewhere_when_the_emptiest_node_has_no_room() -> None:
    replica = Replica()
    replica.accepted(register("n1", cpu_milli=100))
    replica.accepted(register("n2", cpu_milli=1_000))
    replica.submit("t1", "t2", cpu_milli=400)
    assert placed(replica) == ["n2", "n2"]


def test_binpack_fills_one_node_before_it_takes_the_next() -> None:
    replica = nodes("n1", "n2", slots=2)
    replica.submit("t1", "t2", "t3", "t4", strategy="binpack")
    assert placed(replica) == ["n1", "n1", "n2", "n2"]


def test_binpack_goes_to_the_fullest_node_that_has_room() -> None:
    replica = nodes("n1", "n2", "n3", cpu_milli=1_000, slots=9)
    replica.submit("half", cpu_milli=500)
    replica.assign("half", "n2")
    replica.submit("most", cpu_milli=900)
    replica.assign("most", "n3")
    replica.submit("t1", cpu_milli=200, strategy="binpack")
    assert placed(replica) == ["n2"]


def test_binpack_does_not_queue_behind_a_full_node_while_another_has_a_slot() -> None:
    replica = nodes("n1", "n2", slots=1)
    replica.submit("t1", "t2", "t3", strategy="binpack")
    found = planned(replica, ahead={"n1": 5, "n2": 5})
    assert [node_id for _, node_id in found[:2]] == ["n1", "n2"]
    assert len(found) == 3


def test_tasks_of_two_strategies_share_what_a_pass_has_placed() -> None:
    replica = nodes("n1", "n2", slots=4)
    replica.submit("pack1", strategy="binpack")
    replica.submit("spread1")
    replica.submit("pack2", "pack3", strategy="binpack")
    replica.submit("spread2")
    assert placed(replica) == ["n1", "n2", "n1", "n1", "n2"]
