"""Whether a task may go to a node: the planner's and apply's one answer."""

from __future__ import annotations

from typing import Any

import pytest

from raftsched.core.commands import (
    Assignment,
    AssignTasks,
    DrainNode,
    NodeLost,
    SetEligibility,
    SetNodeLabels,
)
from raftsched.core.model import Eligibility
from raftsched.core.outcomes import Reason, Rejected
from raftsched.core.planner import PlanPolicy, plan
from raftsched.core.policy import Constraint, Op, Policy, RetryNode
from tests.unit.core.builders import Replica, finished, register


def nodes(**labels: dict[str, Any]) -> Replica:
    """A replica with these nodes, by id."""
    replica = Replica()
    for node_id, fields in labels.items():
        replica.accepted(register(node_id, **fields))
    return replica


def answer(replica: Replica, task_id: str, node_id: str) -> Reason | None:
    """What apply says of an assignment."""
    incarnation = replica.state.nodes[node_id].incarnation
    command = AssignTasks((Assignment(task_id, node_id, incarnation),))
    result = replica.accepted(command)[0]
    return result.reason if isinstance(result, Rejected) else None


def goes_to(replica: Replica) -> dict[str, str]:
    """What the planner says of all that is ready; nothing comes of it."""
    return {a.task_id: a.node_id for a in plan(replica.state, PlanPolicy()).assignments}


def zone(name: str) -> Policy:
    """Only in this zone."""
    return Policy(constraints=(Constraint("zone", Op.EQUAL, (name,)),))


def test_a_task_goes_only_where_its_claims_are_true() -> None:
    replica = nodes(n1={"labels": {"zone": "a"}}, n2={"labels": {"zone": "b"}})
    replica.submit("t1", "t2", policy=zone("b"))
    replica.submit("t3", policy=zone("c"))
    assert goes_to(replica) == {"t1": "n2", "t2": "n2"}
    assert answer(replica, "t1", "n1") is Reason.CONSTRAINT
    assert answer(replica, "t1", "n2") is None


def test_labels_that_change_change_where_a_task_goes_at_once() -> None:
    replica = nodes(n1={"labels": {"zone": "a"}})
    replica.submit("t1", policy=zone("b"))
    assert goes_to(replica) == {}
    replica.accepted(SetNodeLabels("n1", {"zone": "b"}))
    assert goes_to(replica) == {"t1": "n1"}
    replica.accepted(SetNodeLabels("n1", {}))
    assert goes_to(replica) == {}
    replica.accepted(register("n0", labels={"zone": "b"}))
    assert goes_to(replica) == {"t1": "n0"}


def test_custom_resources_are_never_oversold_also_in_one_command() -> None:
    replica = nodes(n1={"resources": (("disk", 1), ("gpu", 3))})
    replica.submit("t1", "t2", policy=Policy(resources=(("gpu", 2),)))
    replica.submit("t3", policy=Policy(resources=(("disk", 1), ("gpu", 1))))
    replica.submit("t4", policy=Policy(resources=(("tape", 1),)))
    assert goes_to(replica) == {"t1": "n1", "t3": "n1"}
    wanted = tuple(Assignment(f"t{n}", "n1", "a") for n in (1, 2, 3, 4))
    results = replica.accepted(AssignTasks(wanted))
    assert [getattr(item, "reason", "") for item in results] == [
        "", Reason.NODE_FULL, "", Reason.NODE_FULL,
    ]  # fmt: skip
    assert replica.state.usage["n1"].resources == {"disk": 1, "gpu": 3}
    replica.accepted(finished("t1", replica.task("t1").token))
    assert replica.state.usage["n1"].resources == {"disk": 1, "gpu": 1}
    assert goes_to(replica) == {"t2": "n1"}


@pytest.mark.parametrize("to", [SetEligibility("n1", Eligibility.CORDONED), DrainNode("n1")])
def test_a_node_that_is_cordoned_or_draining_takes_nothing(to: Any) -> None:
    replica = nodes(n1={})
    replica.submit("t1")
    replica.accepted(to)
    assert goes_to(replica) == {}
    assert answer(replica, "t1", "n1") is Reason.NODE_CORDONED


# Where a retry goes ----------------------------------------------------------------------------


def failed_on_n1(where: RetryNode, **fields: Any) -> Replica:
    """A task that failed on ``n1`` and is ready again; ``n2`` is emptier."""
    replica = nodes(n1={"slots": 2}, n2={"slots": 8})
    policy = Policy(backoff_base_ms=0, retry_node=where, **fields)
    replica.submit("t1", policy=policy, attempts_max=5)
    replica.fail("t1")
    replica.submit("busy")
    replica.assign("busy", "n1")
    return replica


def test_a_retry_goes_anywhere_unless_it_says_otherwise() -> None:
    replica = failed_on_n1(RetryNode.ANY)
    assert goes_to(replica) == {"t1": "n2"}
    assert answer(replica, "t1", "n1") is None


def test_a_retry_on_the_same_node_waits_for_it_while_others_go_past() -> None:
    replica = failed_on_n1(RetryNode.SAME)
    assert goes_to(replica) == {"t1": "n1"}
    assert answer(replica, "t1", "n2") is Reason.RETRY_ELSEWHERE
    replica.submit("busy2")
    replica.assign("busy2", "n1")
    replica.submit("t2", policy=replica.task("t1").policy, attempts_max=5)
    assert goes_to(replica) == {"t2": "n2"}
    replica.accepted(SetEligibility("n1", Eligibility.CORDONED))
    assert "t1" not in goes_to(replica)


@pytest.mark.parametrize("gone", [NodeLost("n1", "a"), DrainNode("n1"), SetNodeLabels("n1", {})])
def test_a_retry_on_the_same_node_goes_elsewhere_when_that_is_gone(gone: Any) -> None:
    replica = nodes(n1={"slots": 2}, n2={"slots": 8, "labels": {"zone": "a"}})
    replica.accepted(SetNodeLabels("n1", {"zone": "a"}))
    policy = Policy(backoff_base_ms=0, retry_node=RetryNode.SAME, constraints=zone("a").constraints)
    replica.submit("t1", policy=policy, attempts_max=5)
    replica.fail("t1")
    assert goes_to(replica) == {"t1": "n1"}
    replica.accepted(gone)
    assert goes_to(replica) == {"t1": "n2"}
    assert answer(replica, "t1", "n2") is None


def test_a_retry_elsewhere_waits_for_another_node_that_fits() -> None:
    replica = failed_on_n1(RetryNode.OTHER)
    assert goes_to(replica) == {"t1": "n2"}
    assert answer(replica, "t1", "n1") is Reason.RETRY_ELSEWHERE
    names = [f"fill{number}" for number in range(8)]
    replica.submit(*names)
    for name in names:
        replica.assign(name, "n2")
    assert goes_to(replica) == {}


@pytest.mark.parametrize("gone", [NodeLost("n2", "a"), SetEligibility("n2", Eligibility.CORDONED)])
def test_a_retry_elsewhere_goes_to_the_same_node_when_there_is_no_other(gone: Any) -> None:
    replica = failed_on_n1(RetryNode.OTHER)
    replica.accepted(gone)
    assert goes_to(replica) == {"t1": "n1"}
    assert answer(replica, "t1", "n1") is None


def test_a_node_that_is_too_small_is_no_other_node() -> None:
    replica = nodes(n1={"resources": (("gpu", 1),)}, n2={})
    policy = Policy(backoff_base_ms=0, retry_node=RetryNode.OTHER, resources=(("gpu", 1),))
    replica.submit("t1", policy=policy, attempts_max=5)
    replica.fail("t1")
    assert goes_to(replica) == {"t1": "n1"}
