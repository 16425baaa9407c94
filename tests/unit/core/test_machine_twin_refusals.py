"""Who gets a twin, and who does not."""

from __future__ import annotations

import pytest

from raftsched.core.commands import (
    AddSubtasks,
    CancelTask,
    DrainNode,
    PauseTask,
    PutQueue,
    ResumeTask,
    Speculate,
    Straggler,
    SubmitTasks,
    UpdateSettings,
)
from raftsched.core.model import NewTask, Queue, Settings
from raftsched.core.outcomes import Reason, Rejected
from raftsched.core.policy import ALL_NODES, Delivery, Extra, Policy
from raftsched.core.versions import SCHEDULES
from raftsched.core.workflow import Fork, Speculation
from tests.unit.core.builders import Replica, new_task
from tests.unit.core.forks import group, part
from tests.unit.core.twins import ASKED, refusal, replica_with, speculate, speculative, twinned


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
