"""Tasks that wait for the ends of others."""

from __future__ import annotations

from typing import Any

import pytest

from raftsched.core.commands import (
    ApplyRetention,
    CancelTask,
    DeleteTask,
    EditTask,
    FireTimers,
    PutSchedule,
    RunNow,
    SubmitTasks,
    UpdateSettings,
)
from raftsched.core.dependencies import DEPTH_MAX, in_order
from raftsched.core.model import NewTask, Settings, TaskStatus
from raftsched.core.outcomes import Reason, Rejected
from raftsched.core.policy import ALL_NODES, Extra
from raftsched.core.schedule import Schedule
from raftsched.core.versions import SCHEDULES
from raftsched.core.workflow import Dependency, On
from tests.unit.core.builders import Replica, new_task, register


def depending(task_id: str, *others: str, on: On = On.SUCCESS, **extra: Any) -> NewTask:
    """A task that waits for others."""
    depends_on = tuple(Dependency(other, on) for other in others)
    return new_task(task_id, extra=Extra(depends_on=depends_on, **extra))


def with_tasks(*tasks: NewTask) -> Replica:
    """A node, and these tasks submitted together."""
    replica = Replica()
    replica.accepted(register(slots=100))
    replica.accepted(SubmitTasks(tasks))
    return replica


def finish(replica: Replica, task_id: str, status: str = "succeeded") -> None:
    replica.assign(task_id)
    replica.finish(task_id, status)


def status(replica: Replica, task_id: str) -> tuple[str, str]:
    task = replica.task(task_id)
    return task.status.value, task.reason


def test_it_is_ready_when_all_have_succeeded() -> None:
    replica = with_tasks(new_task("a"), new_task("b"), depending("c", "a", "b"))
    assert status(replica, "c") == ("waiting", "depends-on")
    finish(replica, "a")
    assert status(replica, "c") == ("waiting", "depends-on")
    finish(replica, "b")
    assert status(replica, "c") == ("queued", "")
    assert replica.task("c").ready_at == replica.state.now


def test_one_that_did_not_succeed_cancels_it_and_what_waits_for_it() -> None:
    replica = with_tasks(
        new_task("a"), new_task("b"), depending("c", "a", "b"), depending("d", "c"),
        depending("e", "c", on=On.FAILURE), depending("f", "c", on=On.ALWAYS),
    )  # fmt: skip
    finish(replica, "a", "failed")
    assert status(replica, "c") == ("cancelled", "depends-on: a failed")
    assert status(replica, "d") == ("cancelled", "depends-on: c cancelled")
    assert status(replica, "e") == ("queued", "")
    assert status(replica, "f") == ("queued", "")
    finish(replica, "b")
    assert status(replica, "c") == ("cancelled", "depends-on: a failed")


@pytest.mark.parametrize(
    ("on", "end", "expected"),
    [
        (On.SUCCESS, "succeeded", "queued"),
        (On.SUCCESS, "failed", "cancelled"),
        (On.FAILURE, "succeeded", "cancelled"),
        (On.FAILURE, "failed", "queued"),
        (On.FAILURE, "timed_out", "queued"),
        (On.ALWAYS, "succeeded", "queued"),
        (On.ALWAYS, "failed", "queued"),
    ],
)
def test_the_end_that_is_waited_for(on: On, end: str, expected: str) -> None:
    replica = with_tasks(new_task("a"), depending("b", "a", on=on))
    finish(replica, "a", end)
    assert status(replica, "b")[0] == expected


@pytest.mark.parametrize(
    ("needs", "ends", "expected"),
    [
        (1, ["succeeded"], "queued"),
        (1, ["failed", "failed"], "waiting"),
        (1, ["failed", "failed", "failed"], "cancelled"),
        (2, ["failed", "succeeded"], "waiting"),
        (2, ["failed", "succeeded", "succeeded"], "queued"),
        (2, ["failed", "failed"], "cancelled"),
    ],
)
def test_some_of_them_may_be_enough(needs: int, ends: list[str], expected: str) -> None:
    names = ["a", "b", "c"]
    replica = with_tasks(*map(new_task, names), depending("d", *names, needs=needs))
    for name, end in zip(names, ends, strict=False):
        finish(replica, name, end)
    assert status(replica, "d")[0] == expected


def test_ends_of_before_count() -> None:
    replica = with_tasks(new_task("a"), new_task("b"))
    finish(replica, "a")
    finish(replica, "b", "failed")
    replica.accepted(SubmitTasks((depending("c", "a"),)))
    assert status(replica, "c") == ("queued", "")
    replica.accepted(SubmitTasks((depending("d", "b"),)))
    assert status(replica, "d") == ("cancelled", "depends-on")
    refused = replica.refused(SubmitTasks((depending("e", "nobody"),)))
    assert (refused.reason, refused.detail) == (Reason.UNKNOWN_DEPENDENCY, "nobody")


def test_what_is_needed_is_neither_deleted_nor_forgotten() -> None:
    replica = with_tasks(new_task("a"), new_task("b"))
    finish(replica, "a")
    replica.accepted(SubmitTasks((depending("c", "a", "b"),)))
    assert replica.refused(DeleteTask("a")) == Rejected(Reason.HAS_DEPENDENTS, "c")
    replica.accepted(UpdateSettings(Settings(finished_max=0)))
    assert replica.accepted(ApplyRetention()) == (0, 0)
    finish(replica, "b")
    finish(replica, "c")
    assert replica.accepted(ApplyRetention()) == (3, 0)


def test_one_that_ended_long_ago_is_again_as_old_as_it_was() -> None:
    replica = with_tasks(new_task("a"), new_task("b"))
    finish(replica, "a")
    finish(replica, "b")
    replica.accepted(SubmitTasks((depending("c", "a"),)))
    replica.accepted(CancelTask("c"))
    assert list(replica.state.finished) == ["a", "b", "c"]


def test_one_that_comes_later_in_the_submission_is_unknown() -> None:
    replica = Replica()
    tasks = (depending("b", "a"), new_task("a"))
    assert replica.refused(SubmitTasks(tasks, atomic=True)).reason is Reason.UNKNOWN_DEPENDENCY


def test_its_own_wait_begins_when_the_others_have_ended() -> None:
    replica = with_tasks(new_task("a"), depending("b", "a", delay_ms=60_000))
    finish(replica, "a")
    assert status(replica, "b") == ("waiting", "not-before")
    replica.now += 60_000
    replica.accepted(FireTimers())
    assert status(replica, "b")[0] == "queued"


def test_its_deadline_does_not_wait() -> None:
    replica = with_tasks(new_task("a"), depending("b", "a", expires_ms=1_000), depending("c", "b"))
    replica.now += 1_000
    replica.accepted(FireTimers())
    assert status(replica, "b") == ("expired", "deadline")
    assert status(replica, "c") == ("cancelled", "depends-on: b expired")


def test_a_broadcast_may_wait_and_be_waited_for() -> None:
    replica = with_tasks(
        new_task("a"), depending("b", "a", broadcast=ALL_NODES), depending("c", "b")
    )
    finish(replica, "a")
    assert replica.state.trees.ids_of("b") == ["b.1"]
    finish(replica, "b.1")
    assert status(replica, "b")[0] == "succeeded"
    assert status(replica, "c")[0] == "queued"


def test_what_waits_for_others_is_not_run_by_hand_and_is_cancelled() -> None:
    replica = with_tasks(new_task("a"), depending("b", "a"))
    assert replica.refused(RunNow("b")).detail == "waits for the end of a"
    replica.accepted(EditTask(new_task("b", priority=80)))
    assert status(replica, "b") == ("waiting", "depends-on")
    replica.accepted(CancelTask("b"))
    finish(replica, "a")
    assert status(replica, "b")[0] == "cancelled"


def test_a_long_chain_falls_without_depth() -> None:
    chain = [new_task("t0")]
    chain += [depending(f"t{n}", f"t{n - 1}") for n in range(1, 1_200)]
    replica = with_tasks(*chain)
    replica.accepted(CancelTask("t0"))
    assert replica.task("t1199").status is TaskStatus.CANCELLED
    assert replica.state.open_count == 0


@pytest.mark.parametrize(
    "extra",
    [
        Extra(awaits=("a",)),
        Extra(met=1),
        Extra(needs=1),
        Extra(depends_on=(Dependency("a"),), needs=2),
        Extra(depends_on=(Dependency("a"),), unique_key="u", on_conflict="replace"),
        Extra(depends_on=(Dependency("a"),) * 1_001),
    ],
    ids=lambda extra: repr(extra)[:30],
)
def test_rubbish_is_refused(extra: Extra) -> None:
    replica = with_tasks(new_task("a"))
    new = new_task("b", extra=extra)
    assert replica.refused(SubmitTasks((new,))).reason is Reason.INVALID


def test_a_schedule_s_task_waits_for_nobody() -> None:
    replica = with_tasks(new_task("a"))
    schedule = Schedule("s", depending("", "a"), b"timing")
    assert replica.refused(PutSchedule(schedule)).reason is Reason.INVALID


def test_the_version_before_knows_no_dependencies() -> None:
    replica = with_tasks(new_task("a"))
    replica.state.version = SCHEDULES
    refused = replica.refused(SubmitTasks((depending("b", "a"),)))
    assert refused.reason is Reason.NEEDS_VERSION


@pytest.mark.parametrize(
    ("edges", "ring"),
    [
        ({"a": ["a"]}, ["a", "a"]),
        ({"a": ["b"], "b": ["c"], "c": ["a"]}, ["a", "b", "c", "a"]),
        ({"x": ["a"], "a": ["b"], "b": ["a"]}, ["a", "b", "a"]),
    ],
)
def test_a_ring_is_named(edges: dict[str, list[str]], ring: list[str]) -> None:
    assert in_order(edges) == ([], ring)


def test_an_order_has_everything_behind_what_it_waits_for() -> None:
    edges = {"d": ["b", "c", "elsewhere"], "b": ["a"], "c": ["a"], "a": []}
    order, ring = in_order(edges)
    assert ring == []
    assert sorted(order) == ["a", "b", "c", "d"]
    assert all(
        order.index(o) < order.index(n) for n, those in edges.items() for o in those if o in edges
    )
    chain = {f"t{n}": [f"t{n + 1}"] for n in range(DEPTH_MAX + 5)}
    order, too_deep = in_order(chain)
    assert order == []
    assert len(too_deep) > 1
