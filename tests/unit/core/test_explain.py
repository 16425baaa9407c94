"""Why a task does not run, in words that are true: the planner agrees to each."""

from __future__ import annotations

from typing import Any

import pytest

from raftsched.core import explain as module
from raftsched.core.commands import (
    CancelTask,
    NodeLeft,
    NodeLost,
    PauseTask,
    PutLimit,
    PutQueue,
    SetEligibility,
    SubmitTasks,
)
from raftsched.core.explain import Explanation, Verdict, explain
from raftsched.core.model import Eligibility, Limit, Queue
from raftsched.core.outcomes import Reason
from raftsched.core.planner import PlanPolicy, plan
from raftsched.core.policy import Constraint, Extra, Op, Policy, RetryNode
from tests.unit.core.builders import Replica, finished, new_task, register


def explained(replica: Replica, task_id: str = "t1") -> Explanation:
    """The explanation, which the planner has to agree with."""
    state = replica.state
    found = explain(state, replica.task(task_id), state.now)
    planned = [a.task_id for a in plan(state, PlanPolicy()).assignments]
    assert (task_id in planned) is (found.verdict is Verdict.WILL_RUN)
    return found


def cluster(**fields: Any) -> Replica:
    """A replica with one node."""
    replica = Replica()
    replica.accepted(register("n1", **fields))
    return replica


def kinds(found: Explanation) -> list[str]:
    """What is in the way."""
    assert (found.verdict is Verdict.BLOCKED) is bool(found.blockers)
    return [blocker.kind for blocker in found.blockers]


def test_a_task_in_whose_way_nothing_is_will_run() -> None:
    replica = cluster()
    replica.submit("t0", "t1")
    found = explained(replica)
    assert (found.verdict, found.position, kinds(found)) == (Verdict.WILL_RUN, 1, [])
    assert [(a.node_id, a.reason) for a in found.nodes] == [("n1", None)]


def test_a_task_that_runs_or_has_ended_is_said_to() -> None:
    replica = cluster()
    replica.submit("t1")
    token = replica.run("t1")
    assert explained(replica).verdict is Verdict.RUNNING
    assert "n1" in explained(replica).text
    replica.accepted(CancelTask("t1"))
    assert explained(replica).verdict is Verdict.RUNNING
    replica.accepted(finished("t1", token, "cancelled"))
    assert explained(replica).verdict is Verdict.ENDED
    assert "cancelled" in explained(replica).text


def test_what_is_in_the_way_of_the_task_itself_is_said_with_its_time() -> None:
    replica = cluster()
    extra = Extra(not_before=replica.now + 5_000, unique_key="u", on_conflict="replace")
    replica.accepted(SubmitTasks((new_task("t1", extra=extra),)))
    replica.accepted(PauseTask("t1"))
    found = explained(replica)
    assert kinds(found) == ["paused", "not_before"]
    assert found.blockers[1].until == extra.not_before
    assert found.position is None


def test_a_task_that_waits_for_its_next_attempt_says_until_when() -> None:
    replica = cluster()
    replica.submit("t1", attempts_max=3, policy=Policy(jitter_permille=0))
    replica.fail("t1")
    found = explained(replica)
    assert kinds(found) == ["retrying"]
    assert found.blockers[0].until == replica.now + 1_000


def test_a_task_that_waits_for_another_names_it() -> None:
    replica = cluster()
    extra = Extra(unique_key="u", on_conflict="replace")
    replica.accepted(SubmitTasks((new_task("t0", extra=extra),)))
    replica.run("t0")
    replica.accepted(SubmitTasks((new_task("t1", extra=extra),)))
    found = explained(replica)
    assert (kinds(found), found.blockers[0].name) == (["depends_on"], "t0")


def test_a_queue_in_the_way_is_named() -> None:
    replica = cluster()
    replica.submit("t1", "t2", queue="q")
    replica.accepted(PutQueue(Queue("q", paused=True)))
    assert [(b.kind, b.name) for b in explained(replica).blockers] == [("queue_paused", "q")]
    replica.accepted(PutQueue(Queue("q", concurrency=1)))
    replica.run("t2")
    assert [(b.kind, b.name) for b in explained(replica).blockers] == [("queue_concurrency", "q")]


def test_a_limit_in_the_way_is_named_and_a_rate_says_until_when() -> None:
    replica = cluster()
    replica.submit("t0", "t1", policy=Policy(limits=("k",)))
    replica.run("t0")
    found = explained(replica)
    assert [(b.kind, b.name, b.until) for b in found.blockers] == [("limit", "k", 0)]
    replica.accepted(finished("t0", replica.task("t0").token))
    replica.accepted(PutLimit(Limit("k", 0, 1, 1_000)))
    replica.submit("t2", policy=Policy(limits=("k",)))
    replica.run("t1")
    begun = replica.now - 10
    found = explained(replica, "t2")
    assert [(b.name, b.until) for b in found.blockers] == [("k", begun + 1_000)]


@pytest.mark.parametrize(
    ("gone", "kind", "text"),
    [
        (NodeLost("n1", "a", "silent"), "no_node_up", "the node is lost: silent"),
        (NodeLeft("n1", "a"), "no_node_up", "the node left: left"),
        (SetEligibility("n1", Eligibility.CORDONED), "no_matching_node", "the node is cordoned"),
    ],
)
def test_a_node_that_takes_nothing_says_why(gone: Any, kind: str, text: str) -> None:
    replica = cluster()
    replica.submit("t1")
    replica.accepted(gone)
    found = explained(replica)
    assert (kinds(found), [a.text for a in found.nodes]) == ([kind], [text])


def test_without_any_node_no_node_is_up() -> None:
    replica = Replica()
    replica.submit("t1")
    assert kinds(explained(replica)) == ["no_node_up"]


@pytest.mark.parametrize(
    ("asked", "text"),
    [
        ({"cpu_milli": 5_000}, "cpu: it wants 5000 milli-cores, 4000 of 4000 are free"),
        ({"memory_bytes": 9_000}, "memory: it wants 9000 bytes, 8000 of 8000 are free"),
        ({"policy": Policy(resources=(("gpu", 2),))}, "gpu: it wants 2, 1 of 1 are free"),
    ],
)
def test_a_node_that_is_too_small_says_what_it_lacks(asked: dict[str, Any], text: str) -> None:
    replica = cluster(resources=(("gpu", 1),))
    replica.submit("t1", **asked)
    found = explained(replica)
    assert kinds(found) == ["no_capacity"]
    assert [(a.reason, a.text) for a in found.nodes] == [(Reason.NODE_FULL, text)]


@pytest.mark.parametrize("slots", [0, 2])
def test_a_node_whose_slots_are_taken_has_none_free(slots: int) -> None:
    replica = cluster(slots=slots)
    replica.submit("a", "b", "t1")
    for task_id in "ab"[:slots]:
        replica.run(task_id)
    found = explained(replica)
    assert kinds(found) == ["no_capacity"]
    assert found.nodes[0].text == f"no slot is free: {slots} attempts on {slots} slots"


@pytest.mark.parametrize(
    ("label", "text"),
    [
        ("zone", "it wants zone = b; the node has zone = a"),
        ("disk", "it wants disk = b; the node has no such label"),
    ],
)
def test_a_node_of_which_a_claim_is_not_true_says_which(label: str, text: str) -> None:
    replica = cluster(labels={"zone": "a"})
    replica.submit("t1", policy=Policy(constraints=(Constraint(label, Op.EQUAL, ("b",)),)))
    found = explained(replica)
    assert (kinds(found), found.nodes[0].text) == (["no_matching_node"], text)


def test_a_retry_that_waits_for_a_node_says_for_which() -> None:
    replica = cluster(slots=1)
    policy = Policy(backoff_base_ms=0, retry_node=RetryNode.SAME)
    replica.submit("t1", policy=policy, attempts_max=9)
    replica.fail("t1")
    replica.accepted(register("n2"))
    replica.accepted(SetEligibility("n1", Eligibility.CORDONED))
    found = explained(replica)
    assert [a.reason for a in found.nodes] == [Reason.NODE_CORDONED, Reason.RETRY_ELSEWHERE]
    assert "n1 only" in found.nodes[1].text


def test_a_task_far_behind_has_no_position(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "POSITION_MAX", 3)
    replica = cluster()
    replica.submit("a", "b", "c", "t1")
    assert (explained(replica, "c").position, explained(replica).position) == (2, None)
    assert "more than 3" in explained(replica).text
    monkeypatch.setattr(module, "LANES_MAX", 0)
    assert explained(replica, "a").position is None


def test_explaining_counts_nothing() -> None:
    replica = cluster(slots=1)
    replica.submit("t1", policy=Policy(limits=("k",)))
    for _ in range(3):
        assert explained(replica).verdict is Verdict.WILL_RUN
    assert replica.usage() == (0, 0, 0)
