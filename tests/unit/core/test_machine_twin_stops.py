"""Parts with a twin that are paused, resumed and cancelled."""

from __future__ import annotations

import pytest

from raftsched.core.commands import (
    Assignment,
    AssignTasks,
    CancelTask,
    PauseTask,
    ResumeTask,
    RunNow,
)
from raftsched.core.outcomes import Reason, Rejected
from raftsched.core.versions import WORKFLOWS
from tests.unit.core.builders import Replica
from tests.unit.core.forks import status
from tests.unit.core.twins import ends, refusal, replica_with, speculate, speculative, twinned


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
