"""Subtasks that run a second time: twins, which of the two counts, and the join."""

from __future__ import annotations

from typing import Any

import pytest

from raftsched.core import codec
from raftsched.core.commands import (
    AddSubtasks,
    ApplyRetention,
    Assignment,
    AssignTasks,
    CancelTask,
    DeleteTask,
    DrainNode,
    EditTask,
    FireTimers,
    NodeLost,
    PauseTask,
    PutQueue,
    ReportAttempts,
    ResumeTask,
    RunNow,
    Speculate,
    Straggler,
    SubmitTasks,
    UpdateSettings,
)
from raftsched.core.explain import explain
from raftsched.core.finished import weight
from raftsched.core.handlers.forks import ID_MAX, twin_id
from raftsched.core.model import NewTask, Queue, Settings, TaskStatus
from raftsched.core.outcomes import Reason, Rejected
from raftsched.core.policy import ALL_NODES, Delivery, Extra, Policy
from raftsched.core.versions import SCHEDULES, WORKFLOWS
from raftsched.core.workflow import ANY_NUMBER, Dependency, Fork, Speculation
from tests.unit.core.builders import Replica, dump, finished, new_task, register, started
from tests.unit.core.test_machine_forks import group, part, status

ASKED = Speculation()


def speculative(*parts: NewTask, **fork: Any) -> NewTask:
    """A fork ``w`` of these parts that may have twins."""
    return group("w", *(parts or (part("a"), part("b"))), speculation=ASKED, **fork)


def replica_with(whole: NewTask) -> Replica:
    """Three nodes with room, and the task."""
    replica = Replica()
    for node_id in ("n1", "n2", "n3"):
        replica.accepted(register(node_id))
    replica.accepted(SubmitTasks((whole,)))
    return replica


def twinned(whole: NewTask | None = None, *, starts: bool = True) -> Replica:
    """``w.a`` runs on n1; its twin does on n2, or is ready yet; ``w.b`` has succeeded."""
    replica = replica_with(whole or speculative())
    replica.run("w.a", "n1")
    replica.run("w.b", "n3")
    replica.finish("w.b")
    assert speculate(replica) == "w.a~2"
    if starts:
        replica.run("w.a~2", "n2")
    return replica


def speculate(replica: Replica, task_id: str = "w.a") -> Any:
    """The id of the twin, or the refusal."""
    token = replica.task(task_id).token
    return replica.accepted(Speculate((Straggler(task_id, token),)))[0]


def ends(replica: Replica, task_id: str, status: str = "succeeded", **fields: Any) -> None:
    """The attempt that a task has ends, with a result."""
    attempt = replica.latest(task_id)
    report = finished(task_id, attempt.token, status, node_id=attempt.node, **fields)
    assert replica.accepted(report) == ()


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


@pytest.mark.parametrize("whom", ["w.a", "w"])
@pytest.mark.parametrize(("end", "becomes"), [("succeeded", "succeeded"), ("failed", "failed")])
def test_a_pause_leaves_what_a_part_comes_to_with_its_twin(
    whom: str, end: str, becomes: str
) -> None:
    replica = twinned()
    ends(replica, "w.a", "failed", reason="exit-code-1")
    replica.accepted(PauseTask(whom))
    assert (status(replica, "w.a"), status(replica, "w.a~2")) == ("retrying", "running")
    ends(replica, "w.a~2", end)
    assert (status(replica, "w.a"), status(replica, "w")) == (becomes, becomes)


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


@pytest.mark.parametrize("whom", ["w.a", "w"])
def test_a_cancel_reaches_the_twin_and_is_done_when_nothing_of_both_runs(whom: str) -> None:
    replica = twinned()
    replica.accepted(CancelTask(whom))
    assert (status(replica, "w.a"), status(replica, "w.a~2")) == ("cancelling", "cancelling")
    ends(replica, "w.a", "cancelled")
    assert (status(replica, "w.a"), status(replica, "w")) == ("cancelled", "waiting")
    ends(replica, "w.a~2")  # Too late.
    assert status(replica, "w.a") == "cancelled"
    assert status(replica, "w") == ("cancelled" if whom == "w" else "failed")


def test_a_twin_may_be_cancelled_alone() -> None:
    replica = twinned()
    replica.accepted(CancelTask("w.a~2"))
    ends(replica, "w.a~2", "cancelled")
    assert (status(replica, "w.a~2"), status(replica, "w.a")) == ("cancelled", "running")


def paused(replica: Replica) -> dict[str, bool]:
    """Those of the part and its twin that have not ended."""
    rows = [replica.task(task_id) for task_id in ("w.a", "w.a~2")]
    return {row.id: row.paused for row in rows if not row.finished_at}


@pytest.mark.parametrize("whom", ["w.a", "w"])
def test_a_pause_holds_a_twin_that_no_node_has_and_the_resume_lets_it_go(whom: str) -> None:
    replica = twinned(starts=False)
    for _ in range(2):
        replica.accepted(PauseTask(whom))
        assert paused(replica) == {"w.a": True, "w.a~2": True}
    refused = replica.accepted(AssignTasks((Assignment("w.a~2", "n2", "a"),)))[0]
    assert refused == Rejected(Reason.TASK_PAUSED, "w.a~2")
    replica.accepted(ResumeTask(whom))
    assert paused(replica) == {"w.a": False, "w.a~2": False}
    replica.run("w.a~2", "n2")
    ends(replica, "w.a~2", result=b"2")
    ends(replica, "w.a", "cancelled")
    assert status(replica, "w") == "succeeded"


@pytest.mark.parametrize("whom", ["w.a", "w"])
def test_a_pause_lets_a_twin_that_runs_go_on_as_it_does_its_part(whom: str) -> None:
    replica = twinned()
    replica.accepted(PauseTask(whom))
    assert (status(replica, "w.a"), status(replica, "w.a~2")) == ("running", "running")
    ends(replica, "w.a~2", result=b"2")
    ends(replica, "w.a", "cancelled")
    assert (status(replica, "w.a"), status(replica, "w")) == ("succeeded", "succeeded")


def test_a_twin_that_was_resumed_alone_is_paused_again_with_its_part() -> None:
    for again in ("w.a", "w"):
        replica = twinned(starts=False)
        replica.accepted(PauseTask("w.a"))
        replica.accepted(ResumeTask("w.a~2"))
        assert paused(replica) == {"w.a": True, "w.a~2": False}
        replica.accepted(PauseTask(again))
        assert paused(replica) == {"w.a": True, "w.a~2": True}


def test_what_is_run_now_takes_its_twin_out_of_the_pause() -> None:
    replica = twinned(starts=False)
    replica.accepted(PauseTask("w"))
    replica.accepted(RunNow("w"))
    assert paused(replica) == {"w.a": False, "w.a~2": False}


@pytest.mark.parametrize("stops", [True, False])
def test_a_part_and_its_twin_that_are_paused_end_with_the_other(stops: bool) -> None:
    replica = twinned(starts=False)
    replica.accepted(PauseTask("w"))
    if stops:
        replica.accepted(CancelTask("w.a"))
    ends(replica, "w.a", "cancelled" if stops else "succeeded")
    assert status(replica, "w.a~2") == "cancelled"
    assert status(replica, "w") == ("failed" if stops else "succeeded")


def test_a_part_that_was_paused_before_it_had_a_twin_may_have_one_after() -> None:
    replica = replica_with(speculative())
    replica.run("w.a")
    replica.accepted(PauseTask("w.a"))
    assert refusal(replica) is Reason.TASK_PAUSED
    replica.accepted(ResumeTask("w.a"))
    assert speculate(replica) == "w.a~2"


@pytest.mark.parametrize("whom", ["w.a", "w"])
def test_before_version_8_a_pause_stops_the_twin(whom: str) -> None:
    replica = twinned(starts=False)
    replica.state.version = WORKFLOWS
    replica.accepted(PauseTask(whom))
    assert (status(replica, "w.a~2"), status(replica, "w.a")) == ("cancelled", "running")
    replica.accepted(ResumeTask(whom))
    ends(replica, "w.a")
    assert status(replica, "w") == "succeeded"


@pytest.mark.parametrize("whom", ["w.a", "w"])
def test_before_version_8_a_pause_takes_the_twin_that_a_part_waits_for(whom: str) -> None:
    replica = twinned()
    replica.state.version = WORKFLOWS
    ends(replica, "w.a", "failed")
    replica.accepted(PauseTask(whom))
    assert (status(replica, "w.a"), status(replica, "w.a~2")) == ("retrying", "cancelling")
    ends(replica, "w.a~2", "cancelled")
    assert (status(replica, "w.a"), status(replica, "w")) == ("failed", "failed")


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


def refusal(replica: Replica, task_id: str = "w.a") -> Reason:
    before = dump(replica.state)
    found = speculate(replica, task_id)
    assert isinstance(found, Rejected), found
    # A refused item changes nothing; the command itself was taken.
    assert [*dump(replica.state)][1:] == [*before][1:]
    return found.reason


def test_another_attempt_than_the_one_that_was_seen_gets_no_twin() -> None:
    replica = replica_with(speculative())
    token = replica.run("w.a")
    for task_id, seen in (("w.a", token + 1), ("w.a", 0), ("w.b", 0)):
        found = replica.accepted(Speculate((Straggler(task_id, seen),)))[0]
        assert isinstance(found, Rejected) and found.reason is Reason.STALE_TOKEN
    found = replica.accepted(Speculate((Straggler("nobody", 1),)))[0]
    assert found == Rejected(Reason.UNKNOWN_TASK, "nobody")
    replica.accepted(CancelTask("w.a"))
    assert refusal(replica) is Reason.STALE_TOKEN


def test_a_part_has_one_twin_and_a_twin_none() -> None:
    replica = twinned()
    assert refusal(replica) is Reason.DUPLICATE_ID
    assert refusal(replica, "w.a~2") is Reason.INVALID


@pytest.mark.parametrize(
    "part_a",
    [
        new_task("a", policy=Policy(limits=("m",))),
        new_task("a", policy=Policy(delivery=Delivery.AT_MOST_ONCE)),
    ],
)
def test_what_may_be_there_once_gets_no_twin(part_a: NewTask) -> None:
    replica = replica_with(speculative(part_a))
    replica.run("w.a")
    assert refusal(replica) is Reason.INVALID


def test_a_part_that_depends_on_others_gets_no_twin() -> None:
    replica = replica_with(speculative(part("b"), part("a", "b")))
    replica.run("w.b")
    replica.finish("w.b")
    replica.run("w.a")
    assert refusal(replica) is Reason.INVALID


def test_only_forks_that_ask_for_it_have_twins() -> None:
    replica = replica_with(group("w", part("a")))
    replica.run("w.a")
    replica.submit("alone")
    replica.run("alone")
    replica.submit("all", extra=Extra(broadcast=ALL_NODES))
    replica.run("all.1")
    for task_id in ("w.a", "alone", "all.1"):
        assert refusal(replica, task_id) is Reason.INVALID


def test_what_was_not_tried_at_all_is_first() -> None:
    replica = replica_with(speculative(part("a"), part("b"), parallel_max=1))
    replica.run("w.a")
    assert refusal(replica) is Reason.INVALID


def test_twins_count_in_what_may_run_at_once() -> None:
    replica = replica_with(speculative(part("a"), part("b"), parallel_max=2))
    replica.run("w.a")
    replica.run("w.b", "n2")
    assert refusal(replica) is Reason.INVALID
    replica.finish("w.b")
    assert speculate(replica) == "w.a~2"


def test_a_fork_that_gets_more_subtasks_has_no_twins_yet() -> None:
    asked = Fork(is_open=True, speculation=ASKED)
    replica = replica_with(new_task("w", extra=Extra(fork=asked)))
    replica.accepted(AddSubtasks("w", 0, (NewTask("", b"spec"),) * 2))
    replica.run("w.0")
    assert refusal(replica, "w.0") is Reason.INVALID
    replica.accepted(AddSubtasks("w", 2, (), is_last=True))
    assert speculate(replica, "w.0") == "w.0~2"


def test_one_that_is_paused_or_given_back_gets_none() -> None:
    replica = replica_with(speculative())
    replica.run("w.a")
    replica.accepted(PauseTask("w.a"))
    assert refusal(replica) is Reason.TASK_PAUSED
    replica.accepted(ResumeTask("w.a"))
    replica.accepted(DrainNode("n1"))
    assert refusal(replica) is Reason.TASK_PAUSED


def test_there_has_to_be_room_for_another_task() -> None:
    replica = replica_with(speculative())
    replica.run("w.a")
    replica.accepted(PutQueue(Queue("default", depth_max=3)))
    assert refusal(replica) is Reason.OVERLOADED
    replica.accepted(PutQueue(Queue("default")))
    replica.accepted(UpdateSettings(Settings(tasks_open_max=3)))
    assert refusal(replica) is Reason.OVERLOADED


def test_a_fork_says_what_it_may() -> None:
    replica = Replica()
    for asked in (Speculation(999), Speculation(share_permille=1_001), Speculation(min_ms=-1)):
        extra = Extra(fork=Fork(group("w", part("a")).extra.fork.parts, speculation=asked))  # type: ignore[union-attr]
        found = replica.refused(SubmitTasks((new_task("w", extra=extra),)))
        assert found.reason is Reason.INVALID
    for extra in (Extra(twin="x"), Extra(twin_of="x")):
        assert replica.refused(SubmitTasks((new_task("t", extra=extra),))).reason is Reason.INVALID


def test_before_version_7_there_is_none() -> None:
    replica = Replica()
    replica.state.version = SCHEDULES
    found = replica.refused(Speculate((Straggler("t", 1),)))
    assert found.reason is Reason.NEEDS_VERSION


# What else is to be seen of it ------------------------------------------------------------------


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
