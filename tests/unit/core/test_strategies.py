"""Which node is the best: turns, hashes, wishes."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from raftsched.core.commands import AssignTasks, SetEligibility
from raftsched.core.model import Eligibility, NewTask
from raftsched.core.planner import PlanPolicy, plan, plan_new
from raftsched.core.policy import Affinity, Constraint, Extra, Op, Policy
from raftsched.core.strategies import BY_TURN, PPM, STRATEGIES, Turn
from tests.unit.core.builders import Replica, finished, register


def nodes(*node_ids: str, **fields: Any) -> Replica:
    """A replica with nodes that are alike."""
    replica = Replica()
    for node_id in node_ids:
        replica.accepted(register(node_id, **{"slots": 100, **fields}))
    return replica


def placed(replica: Replica, *task_ids: str, **fields: Any) -> dict[str, str]:
    """Where tasks go, by id; they are assigned there."""
    replica.submit(*task_ids, **fields)
    found = plan(replica.state, PlanPolicy()).assignments
    replica.accepted(AssignTasks(found))
    return {assignment.task_id: assignment.node_id for assignment in found}


@pytest.mark.parametrize("name", sorted(BY_TURN))
def test_ranks_by_turn_are_within_the_scale(name: str) -> None:
    for number in range(50):
        rank = BY_TURN[name](Turn(f"t{number}", 1, "", number), "n1", number % 3, 3)
        assert 0 <= rank < PPM


@pytest.mark.parametrize("name", sorted(STRATEGIES))
def test_every_strategy_fills_whatever_has_room(name: str) -> None:
    replica = nodes("n1", "n2", "n3", slots=2)
    found = placed(replica, *[f"t{number}" for number in range(9)], strategy=name)
    assert Counter(found.values()) == {"n1": 2, "n2": 2, "n3": 2}


# Round robin -----------------------------------------------------------------------------------


def test_round_robin_takes_the_nodes_in_turn_whatever_they_hold() -> None:
    replica = nodes("n1", "n2", "n3")
    placed(replica, "load1", "load2", policy=at("n1"))
    task_ids = [f"t{number}" for number in range(6)]
    found = [placed(replica, task_id, strategy="round_robin")[task_id] for task_id in task_ids]
    assert found[:3] == found[3:]
    assert sorted(found[:3]) == ["n1", "n2", "n3"]
    many = placed(replica, *[f"u{number}" for number in range(9)], strategy="round_robin")
    assert Counter(many.values()) == {"n1": 3, "n2": 3, "n3": 3}


def test_round_robin_passes_over_nodes_that_are_out_of_the_choice() -> None:
    replica = nodes("n1", "n2", "n3")
    replica.accepted(SetEligibility("n2", Eligibility.CORDONED))
    found = placed(replica, *[f"t{number}" for number in range(8)], strategy="round_robin")
    assert Counter(found.values()) == {"n1": 4, "n3": 4}


# Hashes ----------------------------------------------------------------------------------------


def test_a_key_goes_to_the_same_node_and_a_lost_node_moves_its_own_keys_only() -> None:
    replica = nodes("n1", "n2", "n3", "n4")
    keys = [f"key{number}" for number in range(60)]
    before = by_key(replica, "a", keys)
    assert by_key(replica, "b", keys) == before
    assert set(before.values()) == {"n1", "n2", "n3", "n4"}
    replica.accepted(SetEligibility("n2", Eligibility.CORDONED))
    after = by_key(replica, "c", keys)
    assert {key for key in keys if after[key] != before[key]} == {
        key for key in keys if before[key] == "n2"
    }
    assert len({after[key] for key in keys if before[key] == "n2"}) > 1


def by_key(replica: Replica, prefix: str, keys: list[str]) -> dict[str, str]:
    """Where tasks with these keys go."""
    found = {}
    for key in keys:
        task_id = f"{prefix}-{key}"
        extra = Extra(placement_key=key)
        found[key] = placed(replica, task_id, strategy="consistent_hash", extra=extra)[task_id]
        replica.accepted(
            finished(task_id, replica.task(task_id).token, node_id=replica.task(task_id).node)
        )
    return found


def test_without_a_key_the_task_is_the_key() -> None:
    found = [
        placed(nodes("n1", "n2", "n3"), *[f"t{n}" for n in range(20)], strategy="consistent_hash")
        for _ in range(2)
    ]
    assert found[0] == found[1]
    assert len(set(found[0].values())) == 3


def test_random_goes_anywhere_and_another_attempt_elsewhere_perhaps() -> None:
    replica = nodes("n1", "n2", "n3")
    names = [f"t{number}" for number in range(40)]
    policy = Policy(backoff_base_ms=0)
    first = placed(replica, *names, strategy="random", attempts_max=2, policy=policy)
    assert min(Counter(first.values()).values()) >= 5
    for name in names:
        task = replica.task(name)
        replica.accepted(finished(name, task.token, "failed", node_id=task.node))
    second = placed(replica, "other", strategy="random")
    assert {name for name in names if second[name] != first[name]}


# Affinity --------------------------------------------------------------------------------------


def at(node_id: str) -> Policy:
    """Only there."""
    return Policy(constraints=(Constraint("node.id", Op.EQUAL, (node_id,)),))


def likes(node_id: str, weight: int) -> Policy:
    """There rather than elsewhere."""
    return Policy(affinity=(Affinity(Constraint("node.id", Op.EQUAL, (node_id,)), weight),))


def test_an_affinity_outweighs_so_much_load_and_no_more() -> None:
    replica = nodes("n1", "n2", slots=10)
    found = placed(replica, *[f"t{number}" for number in range(10)], policy=likes("n2", 40))
    # 40 hundredths of ten slots: n2 is four ahead until both are even.
    assert Counter(found.values()) == {"n1": 3, "n2": 7}
    assert list(found.values())[:4] == ["n2"] * 4


def test_a_negative_weight_keeps_away_as_long_as_there_is_another_place() -> None:
    replica = nodes("n1", "n2", slots=3)
    found = placed(replica, *[f"t{number}" for number in range(5)], policy=likes("n1", -100))
    assert list(found.values()) == ["n2", "n2", "n2", "n1", "n1"]


@pytest.mark.parametrize("name", sorted(STRATEGIES))
def test_a_weight_of_100_decides_in_every_strategy(name: str) -> None:
    replica = nodes("n1", "n2", "n3")
    names = [f"t{number}" for number in range(20)]
    found = placed(replica, *names, strategy=name, policy=likes("n2", 100))
    assert set(found.values()) == {"n2"}


def test_new_tasks_are_placed_like_those_that_wait() -> None:
    replica = nodes("n1", "n2", "n3")
    new = [
        NewTask("a", b"x", policy=at("n3")),
        NewTask("b", b"x", policy=likes("n2", 50)),
        NewTask("later", b"x", extra=Extra(delay_ms=5)),
        NewTask("c", b"x", policy=Policy(limits=("k",))),
        NewTask("d", b"x", policy=Policy(limits=("k",))),
    ]
    found = plan_new(replica.state, new, PlanPolicy())
    assert [(a.task_id, a.node_id) for a in found] == [("a", "n3"), ("b", "n2"), ("c", "n1")]


def test_new_tasks_are_placed_although_others_wait_that_cannot_start() -> None:
    replica = nodes("n1")
    replica.submit("stuck", policy=at("nowhere"))
    new = [NewTask("a", b"x")]
    assert [a.task_id for a in plan_new(replica.state, new, PlanPolicy())] == ["a"]
    replica.submit("first")
    assert plan_new(replica.state, new, PlanPolicy()) == ()
