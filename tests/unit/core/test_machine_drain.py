"""Draining a node: what it has not started goes back at once, the rest when its time is up."""

from __future__ import annotations

from raftsched.core import reconciler
from raftsched.core.commands import CancelTask, DrainNode, FireTimers, SetEligibility
from raftsched.core.model import AttemptStatus, Eligibility, TaskStatus
from raftsched.core.outcomes import Reason
from raftsched.core.policy import Delivery, Policy
from tests.unit.core.builders import Replica, finished, register

PATIENCE = 1_000


def with_two() -> Replica:
    """A node with one attempt that runs and one that was not started."""
    replica = Replica()
    replica.accepted(register())
    replica.submit("runs", attempts_max=1)
    replica.submit("waits")
    replica.run("runs")
    replica.assign("waits")
    return replica


def wanted(replica: Replica) -> dict[str, bool]:
    """What the node is to run, by task."""
    found = reconciler.desired(replica.state, "n1", "a")
    return {attempt.task_id: attempt.run for attempt in found}


def test_what_was_not_started_is_taken_back_at_once_and_the_rest_later() -> None:
    replica = with_two()
    replica.accepted(DrainNode("n1", PATIENCE))
    began = replica.now
    node = replica.state.nodes["n1"]
    assert (node.eligibility, node.drain_at) == (Eligibility.DRAINING, began + PATIENCE)
    assert wanted(replica) == {"runs": True, "waits": False}
    replica.do(FireTimers(), now=began + PATIENCE - 1)
    assert wanted(replica) == {"runs": True, "waits": False}
    replica.do(FireTimers(), now=began + PATIENCE)
    assert wanted(replica) == {"runs": False, "waits": False}


def test_what_is_given_back_counts_neither_as_an_attempt_nor_as_a_loss() -> None:
    replica = with_two()
    replica.accepted(DrainNode("n1"))
    for task_id in ("runs", "waits"):
        token = replica.latest(task_id).token
        replica.accepted(finished(task_id, token, "cancelled", reason="drained"))
        task = replica.task(task_id)
        assert (task.status, task.losses, task.reason) == (TaskStatus.QUEUED, 0, "drained")
    replica.accepted(SetEligibility("n1", Eligibility.ELIGIBLE))
    assert replica.state.nodes["n1"].drain_at == 0
    replica.accepted(finished("runs", replica.run("runs"), "failed", exit_code=1))
    assert replica.task("runs").status is TaskStatus.FAILED
    assert [a.status for a in replica.attempts("runs")] == [
        AttemptStatus.CANCELLED, AttemptStatus.FAILED,
    ]  # fmt: skip


def test_evictions_are_no_failures_however_many() -> None:
    replica = Replica()
    replica.accepted(register())
    replica.submit("t1", attempts_max=2)
    for _ in range(3):
        replica.run("t1")
        replica.accepted(DrainNode("n1"))
        replica.accepted(finished("t1", replica.latest("t1").token, "cancelled"))
        replica.accepted(SetEligibility("n1", Eligibility.ELIGIBLE))
    replica.fail("t1")
    assert replica.task("t1").status is TaskStatus.QUEUED
    replica.fail("t1")
    assert replica.task("t1").status is TaskStatus.FAILED


def test_what_may_start_once_stays_where_it_runs() -> None:
    replica = Replica()
    replica.accepted(register())
    once = Policy(delivery=Delivery.AT_MOST_ONCE)
    replica.submit("runs", "waits", policy=once)
    replica.run("runs")
    token = replica.assign("waits")
    replica.accepted(DrainNode("n1"))
    assert wanted(replica) == {"runs": True, "waits": False}
    # It was started before its node heard of the drain.
    replica.accepted(finished("waits", token, "cancelled", run_ms=5, reason="drained"))
    assert (replica.task("waits").status, replica.task("waits").reason) == (
        TaskStatus.LOST, "drained",
    )  # fmt: skip


def test_what_ends_by_itself_meanwhile_has_ended() -> None:
    replica = with_two()
    replica.accepted(DrainNode("n1"))
    replica.accepted(finished("runs", replica.latest("runs").token))
    assert replica.task("runs").status is TaskStatus.SUCCEEDED


def test_a_cancelled_task_is_cancelled_on_a_draining_node_too() -> None:
    replica = with_two()
    replica.accepted(DrainNode("n1"))
    replica.accepted(CancelTask("runs"))
    replica.accepted(finished("runs", replica.latest("runs").token, "cancelled"))
    assert replica.task("runs").status is TaskStatus.CANCELLED


def test_a_draining_node_is_given_nothing() -> None:
    replica = with_two()
    replica.accepted(DrainNode("n1", PATIENCE))
    replica.submit("more")
    assert replica.state.nodes["n1"].eligibility is Eligibility.DRAINING
    from raftsched.core.planner import PlanPolicy, plan

    assert plan(replica.state, PlanPolicy()).assignments == ()


def test_draining_again_with_less_patience_is_sooner() -> None:
    replica = with_two()
    replica.accepted(DrainNode("n1", 10 * PATIENCE))
    replica.accepted(DrainNode("n1"))
    assert wanted(replica) == {"runs": False, "waits": False}


def test_rubbish_is_refused() -> None:
    replica = with_two()
    assert replica.refused(DrainNode("n9")).reason is Reason.UNKNOWN_NODE
    assert replica.refused(DrainNode("n1", -1)).reason is Reason.INVALID
    refused = replica.refused(SetEligibility("n1", Eligibility.DRAINING))
    assert refused.reason is Reason.INVALID
