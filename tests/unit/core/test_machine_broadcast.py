"""A task that runs on several nodes: one subtask for each, and one end."""

from __future__ import annotations

import pytest

from raftsched.core.commands import (
    ApplyRetention,
    CancelTask,
    CancelTasks,
    DeleteTask,
    EditTask,
    FireTimers,
    NodeLost,
    PauseTask,
    ResumeTask,
    RunNow,
    SetEligibility,
    SubmitTasks,
    UpdateSettings,
)
from raftsched.core.model import Eligibility, Settings, TaskStatus
from raftsched.core.outcomes import Accepted, Event, Reason, Rejected
from raftsched.core.planner import PlanPolicy, plan
from raftsched.core.policy import ALL_NODES, BROADCAST_MAX, Constraint, Extra, Op, Policy
from raftsched.core.versions import POLICIES
from tests.unit.core.builders import BEGIN_MS, Replica, new_task, register

PARTS = ["t1.1", "t1.2", "t1.3"]


def with_nodes(*node_ids: str) -> Replica:
    replica = Replica()
    for node_id in node_ids or ("n1", "n2", "n3"):
        replica.accepted(register(node_id, labels={"zone": "a" if node_id < "n3" else "b"}))
    return replica


def broadcast(replica: Replica, count: int = ALL_NODES, **extra: object) -> None:
    replica.submit("t1", extra=Extra(broadcast=count, **extra))  # type: ignore[arg-type]


def parts(replica: Replica) -> list[str]:
    return replica.state.trees.ids_of("t1")


def nodes_of(replica: Replica) -> list[str]:
    """To which node each subtask is bound."""
    bound = [replica.task(task_id).policy.constraints[-1] for task_id in parts(replica)]
    return [constraint.values[0] for constraint in bound]


def run_all(replica: Replica) -> None:
    """The planner places the subtasks, each where it belongs."""
    for placed in plan(replica.state, PlanPolicy()).assignments:
        replica.assign(placed.task_id, placed.node_id)


def test_every_node_has_one_subtask_and_the_planner_puts_it_there() -> None:
    replica = with_nodes()
    broadcast(replica)
    assert parts(replica) == PARTS
    assert nodes_of(replica) == ["n1", "n2", "n3"]
    run_all(replica)
    assert [replica.task(task_id).node for task_id in PARTS] == ["n1", "n2", "n3"]
    assert (replica.task().status, replica.task().reason) == (TaskStatus.WAITING, "subtasks")


def test_the_whole_succeeds_with_the_last_of_its_parts() -> None:
    replica = with_nodes()
    broadcast(replica)
    run_all(replica)
    for task_id in PARTS[:2]:
        replica.finish(task_id)
        assert replica.task().status is TaskStatus.WAITING
    replica.finish(PARTS[2])
    assert (replica.task().status, replica.task().reason) == (TaskStatus.SUCCEEDED, "")
    assert Event("task_finished", "t1", "", "succeeded") in replica.events


def test_one_part_that_fails_fails_the_whole_when_the_others_have_ended() -> None:
    replica = with_nodes()
    broadcast(replica)
    run_all(replica)
    replica.finish(PARTS[0], "failed")
    assert replica.task().status is TaskStatus.WAITING
    replica.finish(PARTS[1])
    replica.finish(PARTS[2])
    assert replica.task().status is TaskStatus.FAILED
    assert replica.task().reason == "1 of 3 subtasks did not succeed"


def test_only_nodes_that_fit_have_a_part() -> None:
    replica = with_nodes()
    replica.accepted(SetEligibility("n1", Eligibility.CORDONED))
    in_a = Policy(constraints=(Constraint("zone", Op.EQUAL, ("a",)),))
    replica.submit("t1", policy=in_a, extra=Extra(broadcast=ALL_NODES))
    assert nodes_of(replica) == ["n2"]


def test_a_number_of_nodes_takes_those_with_the_least_to_do() -> None:
    replica = with_nodes()
    replica.submit("busy")
    replica.assign("busy", "n2")
    broadcast(replica, 2)
    assert nodes_of(replica) == ["n1", "n3"]


@pytest.mark.parametrize(("count", "of"), [(4, 4), (ALL_NODES, 1)])
def test_without_enough_nodes_it_fails_and_says_how_many_there_are(count: int, of: int) -> None:
    replica = with_nodes() if count > 0 else Replica()
    broadcast(replica, count)
    found = len(replica.state.nodes)
    assert replica.task().status is TaskStatus.FAILED
    assert replica.task().reason == f"nodes-missing: {found} of {of} may take it"


def test_the_nodes_are_those_of_the_moment_in_which_it_may_run() -> None:
    replica = with_nodes("n1")
    broadcast(replica, delay_ms=1_000)
    assert parts(replica) == []
    replica.accepted(register("n2"))
    replica.now += 1_000
    assert replica.accepted(FireTimers()) == 1
    assert nodes_of(replica) == ["n1", "n2"]


def test_run_now_splits_at_once() -> None:
    replica = with_nodes()
    broadcast(replica, delay_ms=60_000)
    replica.accepted(RunNow("t1"))
    assert parts(replica) == PARTS


def test_cancel_ends_all_parts_and_the_whole_with_the_last() -> None:
    replica = with_nodes()
    broadcast(replica)
    replica.assign("t1.1", "n1")
    replica.accepted(CancelTask("t1", "enough"))
    assert [replica.task(i).status for i in PARTS] == [
        TaskStatus.CANCELLING, TaskStatus.CANCELLED, TaskStatus.CANCELLED,
    ]  # fmt: skip
    assert replica.task().status is TaskStatus.WAITING
    replica.accepted(CancelTask("t1", "again"))
    replica.finish("t1.1", "cancelled")
    assert (replica.task().status, replica.task().reason) == (TaskStatus.CANCELLED, "enough")


def test_cancel_before_any_part_runs_ends_it_at_once() -> None:
    replica = with_nodes()
    broadcast(replica)
    assert replica.accepted(CancelTasks(("t1", *PARTS))) == ("t1",)
    assert replica.task().status is TaskStatus.CANCELLED


def test_the_deadline_is_of_the_whole_and_of_its_parts() -> None:
    replica = with_nodes()
    broadcast(replica, expires_ms=1_000)
    replica.assign("t1.1", "n1")
    replica.now += 2_000
    replica.accepted(FireTimers())
    replica.finish("t1.1", "cancelled")
    assert {replica.task(i).status for i in PARTS} == {TaskStatus.EXPIRED}
    assert (replica.task().status, replica.task().reason) == (TaskStatus.EXPIRED, "deadline")


def test_pause_and_resume_are_of_all_parts() -> None:
    replica = with_nodes()
    broadcast(replica)
    replica.accepted(PauseTask("t1"))
    assert plan(replica.state, PlanPolicy()).assignments == ()
    replica.accepted(ResumeTask("t1"))
    assert len(plan(replica.state, PlanPolicy()).assignments) == 3


def test_a_part_whose_node_is_lost_waits_for_it() -> None:
    replica = with_nodes()
    broadcast(replica)
    run_all(replica)
    replica.accepted(NodeLost("n2", "a"))
    assert replica.task("t1.2").status is TaskStatus.QUEUED
    assert plan(replica.state, PlanPolicy()).assignments == ()
    replica.accepted(register("n2", "b"))
    assert [p.node_id for p in plan(replica.state, PlanPolicy()).assignments] == ["n2"]


def test_parts_are_deleted_with_the_whole_and_not_alone() -> None:
    replica = with_nodes()
    broadcast(replica)
    replica.accepted(CancelTask("t1"))
    assert replica.do(DeleteTask("t1.1")) == Rejected(Reason.PART_OF_TREE, "t1")
    replica.accepted(DeleteTask("t1"))
    assert [event.task_id for event in replica.events] == ["t1", *PARTS]
    assert len(replica.state.tasks) == 0


def test_retention_removes_the_tree_at_once_and_never_a_part_of_one_that_is_open() -> None:
    replica = with_nodes()
    broadcast(replica)
    run_all(replica)
    replica.finish("t1.1")
    replica.finish("t1.2")
    replica.accepted(UpdateSettings(Settings(finished_max=0)))
    assert replica.accepted(ApplyRetention()) == (0, 0)
    replica.finish("t1.3")
    weight = replica.state.finished.of("default").bytes
    assert weight == 4 * len(b"spec")
    assert replica.accepted(ApplyRetention()) == (4, 0)
    assert [event.task_id for event in replica.events] == ["t1", *PARTS]
    assert len(replica.state.tasks) == 0


def test_neither_the_whole_nor_a_part_is_edited() -> None:
    replica = with_nodes()
    broadcast(replica)
    for task_id, parent_id in (("t1", ""), ("t1.1", "t1")):
        assert replica.do(EditTask(new_task(task_id))) == Rejected(Reason.PART_OF_TREE, parent_id)


def test_a_wait_that_is_edited_away_splits() -> None:
    replica = with_nodes()
    broadcast(replica, delay_ms=60_000)
    replica.accepted(EditTask(new_task("t1", extra=Extra(broadcast=2))))
    assert len(parts(replica)) == 2


def test_a_broadcast_that_is_replaced_ends_before_the_next_begins() -> None:
    replica = with_nodes()
    broadcast(replica, unique_key="u", on_conflict="replace")
    run_all(replica)
    replica.submit("t2", extra=Extra(broadcast=1, unique_key="u", on_conflict="replace"))
    for task_id in PARTS:
        assert replica.task("t2").reason == "replaces"
        replica.finish(task_id, "cancelled")
    assert replica.task().status is TaskStatus.CANCELLED
    assert replica.state.trees.ids_of("t2") == ["t2.1"]


def test_the_same_submission_again_is_the_same_task() -> None:
    replica = with_nodes()
    broadcast(replica)
    again = replica.do(SubmitTasks((new_task("t1", extra=Extra(broadcast=ALL_NODES)),)))
    assert isinstance(again, Accepted)
    assert again.value.existing == (0,)
    assert parts(replica) == PARTS


def test_a_name_that_is_taken_is_passed_over() -> None:
    replica = with_nodes("n1")
    replica.submit("t1.1")
    broadcast(replica)
    assert parts(replica) == ["t1.1."]


def test_without_room_it_is_split_later() -> None:
    replica = with_nodes()
    replica.accepted(UpdateSettings(Settings(tasks_open_max=3)))
    replica.submit("t0")
    broadcast(replica)
    assert (replica.task().reason, parts(replica)) == ("overloaded", [])
    replica.accepted(CancelTask("t0"))
    replica.now += 1_000
    replica.accepted(UpdateSettings(Settings(tasks_open_max=4)))
    replica.accepted(FireTimers())
    assert parts(replica) == PARTS


@pytest.mark.parametrize(
    "extra",
    [
        Extra(parent="t0"),
        Extra(subtasks=2),
        Extra(stopping="x"),
        Extra(broadcast=-2),
        Extra(broadcast=BROADCAST_MAX + 1),
    ],
)
def test_what_only_apply_says_is_refused(extra: Extra) -> None:
    refused = with_nodes().refused(SubmitTasks((new_task("t1", extra=extra),)))
    assert refused.reason is Reason.INVALID


def test_the_version_before_knows_no_trees() -> None:
    replica = with_nodes()
    replica.state.version = POLICIES
    new = new_task("t1", extra=Extra(broadcast=2))
    assert replica.refused(SubmitTasks((new,))).reason is Reason.NEEDS_VERSION
    replica.submit("t1", extra=Extra(delay_ms=BEGIN_MS))
    assert replica.refused(EditTask(new)).reason is Reason.NEEDS_VERSION


def test_one_that_is_replaced_in_the_submission_that_made_it_ends() -> None:
    replica = with_nodes()
    extra = Extra(broadcast=ALL_NODES, unique_key="u", on_conflict="replace")
    replica.accepted(SubmitTasks((new_task("t1", extra=extra), new_task("t2", extra=extra))))
    assert (replica.task("t1").status, replica.task("t1").reason) == (
        TaskStatus.CANCELLED,
        "replaced",
    )
    assert {replica.task(i).status for i in PARTS} == {TaskStatus.CANCELLED}
    assert len(replica.state.trees.ids_of("t2")) == 3
    replica.accepted(CancelTask("t2"))
    assert replica.task("t2").status is TaskStatus.CANCELLED


@pytest.mark.parametrize("end", ["failed", "lost"])
def test_a_task_that_has_run_is_not_made_one_for_many_nodes(end: str) -> None:
    replica = with_nodes()
    replica.submit("t1", attempts_max=3, policy=Policy(backoff_base_ms=60_000))
    replica.run("t1")
    replica.finish("t1", end)
    refused = replica.refused(EditTask(new_task("t1", extra=Extra(broadcast=2))))
    assert refused.reason is Reason.INVALID
