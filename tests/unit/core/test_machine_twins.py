"""Subtasks that run a second time: which of the two counts, and the join."""

from __future__ import annotations

import pytest

from raftsched.core import codec
from raftsched.core.commands import (
    ApplyRetention,
    Assignment,
    AssignTasks,
    CancelTask,
    DeleteTask,
    DrainNode,
    EditTask,
    FireTimers,
    NodeLost,
    ReportAttempts,
    RunNow,
    UpdateSettings,
)
from raftsched.core.explain import explain
from raftsched.core.finished import weight
from raftsched.core.handlers.forks import ID_MAX, twin_id
from raftsched.core.model import Settings, TaskStatus
from raftsched.core.outcomes import Reason, Rejected
from raftsched.core.policy import Extra, Policy
from raftsched.core.workflow import ANY_NUMBER, Dependency
from tests.unit.core.builders import dump, finished, new_task, started
from tests.unit.core.forks import part, status
from tests.unit.core.twins import ends, replica_with, speculate, speculative, twinned


def test_a_twin_asks_for_the_same_and_never_for_the_same_node() -> None:
    whole = speculative(new_task("a", cpu_milli=500, attempts_max=3), part("b"))
    replica = twinned(whole, starts=False)
    one, twin = replica.task("w.a"), replica.task("w.a~2")
    assert (twin.spec, twin.cpu_milli, twin.attempts_max) == (one.spec, 500, 1)
    assert one.extra is not None and one.extra.twin == "w.a~2"
    assert twin.extra == Extra(twin_of="w.a")
    refused = replica.accepted(AssignTasks((Assignment("w.a~2", "n1", "a"),)))[0]
    assert refused == Rejected(Reason.CONSTRAINT, "n1")
    assert replica.assign("w.a~2", "n2") > one.token
    assert replica.state.trees.ids_of("w") == ["w.a", "w.b"]


def test_the_part_that_succeeds_first_stops_its_twin_and_the_join_waits_for_that() -> None:
    replica = twinned()
    ends(replica, "w.a", result=b"1")
    assert [status(replica, i) for i in ("w.a", "w.a~2", "w")] == [
        "succeeded", "cancelling", "waiting",
    ]  # fmt: skip
    assert replica.task("w.a~2").reason == "not-needed"
    ends(replica, "w.a~2", "cancelled")
    assert [status(replica, i) for i in ("w.a~2", "w")] == ["cancelled", "succeeded"]
    found = replica.task("w.a").product
    assert found is not None and (found.task_id, found.result) == ("w.a", b"1")


def test_the_twin_that_succeeds_first_stops_its_part_which_borrows_what_it_came_to() -> None:
    replica = twinned()
    ends(replica, "w.a~2", result=b"2", exit_code=0)
    assert [status(replica, i) for i in ("w.a", "w.a~2", "w")] == [
        "cancelling", "succeeded", "waiting",
    ]  # fmt: skip
    ends(replica, "w.a", "cancelled")
    assert (status(replica, "w.a"), replica.task("w.a").reason) == ("succeeded", "twin-succeeded")
    assert status(replica, "w") == "succeeded"
    found = replica.task("w.a").product
    assert found is not None
    assert (found.task_id, found.attempt, found.node, found.result) == ("w.a~2", 1, "n2", b"2")


def test_a_large_result_of_a_twin_is_named_where_it_is() -> None:
    replica = twinned()
    ends(replica, "w.a~2", result_bytes=100_000)
    ends(replica, "w.a", "cancelled")
    found = replica.task("w.a").product
    assert found is not None
    assert (found.task_id, found.node, found.result_bytes) == ("w.a~2", "n2", 100_000)


def test_a_node_that_is_lost_with_the_straggler_ends_it_as_its_twin_did() -> None:
    replica = twinned()
    ends(replica, "w.a~2", result=b"2")
    replica.accepted(NodeLost("n1", "a"))
    assert (status(replica, "w.a"), status(replica, "w")) == ("succeeded", "succeeded")


def test_one_that_succeeds_though_it_was_told_to_stop_has_its_own_result() -> None:
    replica = twinned()
    ends(replica, "w.a~2", result=b"2")
    ends(replica, "w.a", result=b"1")
    found = replica.task("w.a").product
    assert found is not None and (found.task_id, found.result) == ("w.a", b"1")
    assert replica.task("w.a").reason == "" and status(replica, "w") == "succeeded"


def test_both_in_one_report_join_once() -> None:
    replica = twinned()
    replica.accepted(NodeLost("n1", "a"))
    first, second = replica.run("w.a", "n2"), replica.task("w.a~2").token
    both = (*finished("w.a", first).finished, *finished("w.a~2", second).finished)
    assert replica.accepted(ReportAttempts("n2", "a", finished=both)) == ()
    assert [status(replica, i) for i in ("w.a", "w.a~2", "w")] == ["succeeded"] * 3
    assert [e.task_id for e in replica.events if e.kind == "task_finished"].count("w") == 1


@pytest.mark.parametrize("fails", ["failed", "lost"])
def test_a_part_that_is_to_be_tried_again_succeeds_at_once_with_its_twin(fails: str) -> None:
    parts = (new_task("a", attempts_max=3, policy=Policy(backoff_base_ms=60_000)), part("b"))
    replica = twinned(speculative(*parts))
    ends(replica, "w.a", fails)
    assert status(replica, "w.a") in ("retrying", "queued")
    ends(replica, "w.a~2", result=b"2")
    assert [status(replica, i) for i in ("w.a", "w")] == ["succeeded", "succeeded"]
    assert list(replica.state.ready) == []


def test_a_twin_that_no_node_has_goes_when_its_part_is_tried_again() -> None:
    replica = twinned(starts=False)
    replica.accepted(NodeLost("n1", "a"))
    assert (status(replica, "w.a"), status(replica, "w.a~2")) == ("queued", "cancelled")
    replica.run("w.a", "n2")
    assert speculate(replica) == Rejected(Reason.DUPLICATE_ID, "w.a~2")


@pytest.mark.parametrize("fails", ["failed", "timed_out"])
def test_a_part_without_an_attempt_left_is_what_its_twin_comes_to(fails: str) -> None:
    for end, becomes in (("succeeded", "succeeded"), ("failed", "failed"), ("lost", "failed")):
        replica = twinned()
        ends(replica, "w.a", fails, reason="exit-code-1")
        assert (status(replica, "w.a"), status(replica, "w.a~2")) == ("retrying", "running")
        assert list(replica.state.timers) == [] and list(replica.state.ready) == []
        ends(replica, "w.a~2", end)
        assert (status(replica, "w.a"), status(replica, "w")) == (becomes, becomes)
        reason = "twin-succeeded" if end == "succeeded" else "exit-code-1"
        assert replica.task("w.a").reason == reason


def test_a_part_that_was_lost_too_often_is_what_its_twin_comes_to() -> None:
    replica = twinned(speculative(new_task("a", policy=Policy(losses_max=1)), part("b")))
    replica.accepted(NodeLost("n1", "a"))
    assert (status(replica, "w.a"), replica.task("w.a").reason) == ("retrying", "lost_too_often")
    replica.accepted(NodeLost("n2", "a"))
    assert [status(replica, i) for i in ("w.a", "w.a~2", "w")] == ["failed", "lost", "failed"]
    assert replica.task("w.a").reason == "lost_too_often"


def test_a_part_that_waits_for_its_twin_is_not_run_before_and_may_be_cancelled() -> None:
    replica = twinned()
    ends(replica, "w.a", "failed")
    assert replica.refused(RunNow("w.a")).reason is Reason.TASK_NOT_QUEUED
    replica.accepted(RunNow("w"))
    told = explain(replica.state, replica.task("w.a"), replica.now)
    assert [(one.kind, one.name) for one in told.blockers] == [("twin", "w.a~2")]
    replica.accepted(CancelTask("w.a"))
    assert (status(replica, "w.a"), status(replica, "w.a~2")) == ("cancelled", "cancelling")
    ends(replica, "w.a~2", "cancelled")
    assert (status(replica, "w.a"), status(replica, "w")) == ("cancelled", "failed")


def test_a_part_that_fails_for_good_fails_if_no_node_has_its_twin() -> None:
    replica = twinned(speculative(failures_max=ANY_NUMBER), starts=False)
    ends(replica, "w.a", "failed")
    assert [status(replica, i) for i in ("w.a", "w.a~2", "w")] == [
        "failed", "cancelled", "succeeded",
    ]  # fmt: skip


@pytest.mark.parametrize("end", ["failed", "timed_out", "lost", "cancelled"])
def test_a_twin_that_does_not_succeed_changes_nothing_and_is_not_tried_again(end: str) -> None:
    replica = twinned()
    ends(replica, "w.a~2", end)
    assert replica.task("w.a~2").status in (TaskStatus.FAILED, TaskStatus.LOST)
    assert (status(replica, "w.a"), status(replica, "w")) == ("running", "waiting")
    ends(replica, "w.a")
    assert status(replica, "w") == "succeeded"


def test_a_node_that_is_drained_ends_a_twin_and_gives_a_part_back() -> None:
    replica = twinned()
    replica.accepted(DrainNode("n2"))
    ends(replica, "w.a~2", "cancelled", reason="drained")
    assert (status(replica, "w.a~2"), status(replica, "w.a")) == ("cancelled", "running")
    replica = twinned()
    replica.accepted(DrainNode("n1"))
    ends(replica, "w.a", "cancelled", reason="drained")
    assert (status(replica, "w.a~2"), status(replica, "w.a")) == ("running", "queued")


def test_a_deadline_of_the_whole_ends_twins_too() -> None:
    whole = speculative(extra=Extra(expires_ms=1_000))
    replica = twinned(whole)
    replica.now += 1_000
    replica.accepted(FireTimers())
    assert (status(replica, "w.a"), status(replica, "w.a~2")) == ("cancelling", "cancelling")
    ends(replica, "w.a", "cancelled")
    ends(replica, "w.a~2", "cancelled")
    assert (status(replica, "w.a"), status(replica, "w")) == ("expired", "expired")


def test_a_failure_of_another_part_stops_both() -> None:
    replica = replica_with(speculative(part("a"), part("b"), part("c")))
    replica.run("w.a", "n1")
    replica.run("w.b", "n3")
    replica.run("w.c", "n3")
    replica.finish("w.b")
    speculate(replica)
    ends(replica, "w.c", "failed")
    assert (status(replica, "w.a"), status(replica, "w.a~2")) == ("cancelling", "cancelled")
    ends(replica, "w.a", "cancelled")
    assert status(replica, "w") == "failed"


# What is refused --------------------------------------------------------------------------------


def test_a_twin_is_kept_and_goes_with_its_part() -> None:
    replica = twinned()
    assert replica.refused(EditTask(new_task("w.a~2"))).reason is Reason.TASK_RUNNING
    ends(replica, "w.a~2", result=b"2")
    assert replica.refused(DeleteTask("w.a~2")) == Rejected(Reason.PART_OF_TREE, "w.a")
    ends(replica, "w.a", "cancelled")
    replica.accepted(DeleteTask("w"))
    assert len(replica.state.tasks) == 0 and replica.state.finished.bytes == 0
    assert "w.a~2" in [e.task_id for e in replica.events if e.kind == "task_deleted"]


@pytest.mark.parametrize("limit", [1, 2, 10])
def test_retention_takes_a_tree_with_its_twins(limit: int) -> None:
    replica = twinned()
    replica.accepted(UpdateSettings(Settings(finished_max=0)))
    replica.accepted(ApplyRetention(limit))
    assert len(replica.state.tasks) == 4
    ends(replica, "w.a")
    ends(replica, "w.a~2", "cancelled")
    for _ in range(3):
        replica.accepted(ApplyRetention(limit))
    assert len(replica.state.tasks) == 0


def test_who_depends_on_a_twin_keeps_the_tree() -> None:
    replica = twinned()
    replica.submit("after", extra=Extra(depends_on=(Dependency("w.a~2"),)))
    ends(replica, "w.a~2")
    ends(replica, "w.a", "cancelled")
    assert status(replica, "after") == "queued"
    assert replica.refused(DeleteTask("w")).reason is Reason.HAS_DEPENDENTS


def test_what_waits_for_a_part_goes_on_when_the_part_is_over() -> None:
    replica = twinned()
    replica.submit("after", extra=Extra(depends_on=(Dependency("w.a"),)))
    ends(replica, "w.a~2")
    assert status(replica, "after") == "waiting"
    ends(replica, "w.a", "cancelled")
    assert status(replica, "after") == "queued"


def test_a_snapshot_brings_twins_back() -> None:
    replica = twinned()
    for task_id in ("w.a~2", "w.a"):
        restored = codec.restore_state(dump(replica.state))
        assert dump(restored) == dump(replica.state)
        assert restored.relations.speculative == replica.state.relations.speculative
        assert restored.digest() == replica.state.digest()
        ends(replica, task_id, "succeeded" if task_id == "w.a~2" else "cancelled", result=b"2")
    restored = codec.restore_state(dump(replica.state))
    assert restored.trees.weight_of("w") == replica.state.trees.weight_of("w") > 0
    found = restored.tasks.get("w.a")
    assert found is not None and found.product == replica.task("w.a").product


def test_what_was_borrowed_weighs_as_what_is_ones_own() -> None:
    replica = twinned()
    ends(replica, "w.a~2", result=b"[1,2,3]")
    ends(replica, "w.a", "cancelled")
    part = replica.task("w.a")
    assert weight(part) == len(part.spec) + len(b"[1,2,3]")


def test_explain_tells_of_both() -> None:
    replica = twinned()
    text = explain(replica.state, replica.task("w.a"), replica.now).text
    assert "its twin w.a~2 is running on n2" in text
    assert "twin of w.a" in explain(replica.state, replica.task("w.a~2"), replica.now).text


def test_ids_of_twins_fit() -> None:
    assert twin_id("w.a") == "w.a~2"
    assert len(twin_id("x" * ID_MAX)) <= ID_MAX
    assert twin_id("x" * ID_MAX) != twin_id("x" * (ID_MAX - 1) + "y")


def test_an_id_that_is_taken_is_not_a_twins() -> None:
    replica = replica_with(speculative())
    replica.submit("w.a~2")
    replica.run("w.a")
    assert speculate(replica) == "w.a~2."


def test_a_started_report_of_a_twin_that_is_stopped_is_taken() -> None:
    replica = twinned(starts=False)
    token = replica.assign("w.a~2", "n2")
    ends(replica, "w.a")
    assert replica.accepted(started("w.a~2", token, node_id="n2")) == ()
    ends(replica, "w.a~2", "cancelled")
    assert status(replica, "w") == "succeeded"
