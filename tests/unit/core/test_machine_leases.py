"""Verdicts on silent nodes: what is lost depends on the lease, and what then on the task."""

from __future__ import annotations

from typing import Any

import pytest

from raftsched.core.commands import LoseAttempts
from raftsched.core.leases import SUSPECT_MS, held_leases
from raftsched.core.model import AttemptStatus, NodeStatus, TaskStatus
from raftsched.core.outcomes import Reason
from raftsched.core.policy import Delivery, Policy
from tests.unit.core.builders import TERM, Replica, register

NODE_LEASE = 15_000


def with_node(**fields: Any) -> Replica:
    replica = Replica()
    replica.accepted(register(lease_ms=NODE_LEASE, **fields))
    return replica


def silent(milliseconds: int, term: int = TERM) -> LoseAttempts:
    return LoseAttempts("n1", "a", term, milliseconds, "lease-expired")


def lost(replica: Replica, milliseconds: int) -> tuple[str, ...]:
    """Who loses its attempt."""
    found: tuple[str, ...] = replica.accepted(silent(milliseconds))
    return found


def status(replica: Replica) -> NodeStatus:
    """Of the node."""
    return replica.state.nodes["n1"].status


def test_only_what_has_no_longer_lease_is_lost() -> None:
    replica = with_node()
    for task_id, lease_ms in (("short", 3_000), ("nodes", 0), ("long", 60_000)):
        replica.submit(task_id, policy=Policy(lease_ms=lease_ms))
        replica.run(task_id)
    assert lost(replica, 2_999) == ()
    assert lost(replica, 3_000) == ("short",)
    assert status(replica) is NodeStatus.UP
    assert replica.task("short").status is TaskStatus.QUEUED
    assert replica.latest("short").status is AttemptStatus.LOST
    assert lost(replica, NODE_LEASE - 1) == ()
    assert lost(replica, NODE_LEASE) == ("nodes",)
    assert status(replica) is NodeStatus.LOST
    assert replica.task("long").status is TaskStatus.RUNNING
    assert lost(replica, 60_000) == ("long",)


def test_an_idempotent_task_does_not_wait_for_the_lease() -> None:
    replica = with_node()
    replica.submit("t1", policy=Policy(idempotent=True, lease_ms=60_000))
    replica.run("t1")
    assert lost(replica, SUSPECT_MS - 1) == ()
    assert lost(replica, SUSPECT_MS) == ("t1",)


def test_a_verdict_of_a_leader_that_was_deposed_changes_nothing() -> None:
    replica = with_node()
    replica.submit("t1")
    replica.run("t1")
    assert replica.refused(silent(NODE_LEASE, TERM + 1)).reason is Reason.STALE_TERM


def test_a_verdict_on_an_earlier_incarnation_touches_no_later_one() -> None:
    replica = with_node()
    replica.submit("t1")
    replica.run("t1")
    replica.accepted(register(incarnation="b", clean=False, lease_ms=NODE_LEASE))
    replica.submit("t2")
    replica.assign("t2", incarnation="b")
    assert lost(replica, NODE_LEASE) == ("t1",)
    assert status(replica) is NodeStatus.UP


def test_of_a_node_that_never_said_its_lease_nothing_is_judged_by_it() -> None:
    replica = Replica()
    replica.accepted(register())
    assert replica.refused(silent(10**9)).reason is Reason.INVALID


@pytest.mark.parametrize(("told", "holds"), [(5_000, NODE_LEASE), (60_000, 60_000)])
def test_the_lease_of_an_incarnation_never_gets_shorter(told: int, holds: int) -> None:
    # What it runs may have been granted the longer one.
    replica = with_node()
    replica.accepted(register(lease_ms=told))
    assert replica.state.nodes["n1"].lease_ms == holds
    replica.accepted(register(incarnation="b", lease_ms=told))
    assert replica.state.nodes["n1"].lease_ms == told


def test_what_an_earlier_incarnation_runs_keeps_the_longer_lease() -> None:
    replica = with_node()
    replica.submit("t1")
    replica.run("t1")
    replica.accepted(register(incarnation="b", clean=False, lease_ms=5_000))
    assert replica.state.nodes["n1"].lease_ms == NODE_LEASE
    assert lost(replica, 5_000) == ()


def test_what_is_held_is_listed_once_with_its_lease() -> None:
    replica = with_node()
    for number, lease_ms in enumerate((0, 0, 3_000)):
        replica.submit(f"t{number}", policy=Policy(lease_ms=lease_ms))
        replica.run(f"t{number}")
    assert list(held_leases(replica.state)) == [("n1", "a", 3_000), ("n1", "a", NODE_LEASE)]


# What then -------------------------------------------------------------------------------------


@pytest.mark.parametrize("started", [True, False])
def test_a_task_that_may_run_once_is_lost_with_its_node(started: bool) -> None:
    replica = with_node()
    replica.submit("t1", policy=Policy(delivery=Delivery.AT_MOST_ONCE))
    if started:
        replica.run("t1")
    else:
        replica.assign("t1")
    lost(replica, NODE_LEASE)
    assert (replica.task().status, replica.task().reason) == (TaskStatus.LOST, "lease-expired")


def test_a_task_is_lost_as_often_as_it_says_itself() -> None:
    replica = with_node()
    replica.submit("t1", policy=Policy(losses_max=2))
    for status in (TaskStatus.QUEUED, TaskStatus.FAILED):
        replica.accepted(register(lease_ms=NODE_LEASE))
        replica.run("t1")
        lost(replica, NODE_LEASE)
        assert replica.task().status is status
    assert replica.task().reason == "lost_too_often"
