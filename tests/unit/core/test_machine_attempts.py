"""Reports of attempts: the token first, then what became of the task."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from raftsched.core.commands import AttemptFinished, AttemptStarted, PauseTask, ReportAttempts
from raftsched.core.model import (
    OUTPUT_TAIL_BYTES_MAX,
    RESULT_BYTES_MAX,
    RESULT_FILE_BYTES_MAX,
    AttemptStatus,
    TaskStatus,
)
from raftsched.core.outcomes import Accepted, Event
from raftsched.core.versions import POLICIES, WORKFLOWS
from tests.unit.core.builders import Replica, finished, register, started


def with_node(**settings: int) -> Replica:
    """A replica with one node."""
    replica = Replica(**settings)
    replica.accepted(register())
    return replica


def test_a_started_attempt_runs() -> None:
    replica = with_node()
    token = replica.bring("t1", TaskStatus.ASSIGNED)
    task, attempt = replica.task(), replica.latest()
    assert replica.do(started("t1", token)) == Accepted(())
    running = msgspec.structs.replace(attempt, status=AttemptStatus.RUNNING, started_at=replica.now)
    assert replica.task() == msgspec.structs.replace(
        task, status=TaskStatus.RUNNING, modify_index=replica.index, attempts=(running,)
    )
    assert replica.task().started_at == replica.now
    assert replica.events == [Event("task_started", "t1", "n1")]
    assert replica.usage() == (1, 0, 0)


def test_a_start_reported_twice_changes_nothing_more() -> None:
    replica = with_node()
    token = replica.bring("t1", TaskStatus.RUNNING)
    before = replica.task()
    assert replica.do(started("t1", token)) == Accepted(())
    assert replica.task() == before
    assert replica.events == []


def test_a_succeeded_attempt_ends_its_task() -> None:
    replica = with_node()
    token = replica.bring("t1", TaskStatus.RUNNING)
    task, attempt = replica.task(), replica.latest()
    outcome = replica.do(
        finished("t1", token, exit_code=0, output_tail=b"done\n", output_bytes=5, run_ms=3)
    )
    assert outcome == Accepted(())
    ended = msgspec.structs.replace(
        attempt,
        status=AttemptStatus.SUCCEEDED,
        finished_at=replica.now,
        exit_code=0,
        output_tail=b"done\n",
        output_bytes=5,
    )
    assert replica.task() == msgspec.structs.replace(
        task,
        status=TaskStatus.SUCCEEDED,
        finished_at=replica.now,
        modify_index=replica.index,
        attempts=(ended,),
    )
    assert replica.events == [Event("task_finished", "t1", "n1", "succeeded")]
    assert replica.usage() == (0, 0, 0)


@pytest.mark.parametrize(
    ("run_ms", "started_ago_ms"),
    [(0, 0), (7, 7), (10_000, 10), (-5, 0)],
    ids=["at once", "a while", "longer than assigned", "rubbish"],
)
def test_the_start_of_an_attempt_nobody_reported_is_derived_from_its_run(
    run_ms: int, started_ago_ms: int
) -> None:
    replica = with_node()
    token = replica.bring("t1", TaskStatus.ASSIGNED)
    replica.accepted(finished("t1", token, run_ms=run_ms))
    at = replica.now - started_ago_ms
    assert (replica.latest().started_at, replica.task().started_at) == (at, at)


def test_start_and_end_in_one_report_end_the_task() -> None:
    replica = with_node()
    token = replica.bring("t1", TaskStatus.ASSIGNED)
    report = ReportAttempts(
        "n1",
        "a",
        started=(AttemptStarted("t1", token),),
        finished=(AttemptFinished("t1", token, "succeeded"),),
    )
    assert replica.do(report) == Accepted(())
    assert replica.task().status is TaskStatus.SUCCEEDED
    assert [event.kind for event in replica.events] == ["task_started", "task_finished"]


def test_only_the_end_of_a_long_output_is_kept() -> None:
    replica = with_node()
    token = replica.bring("t1", TaskStatus.RUNNING)
    tail = b"x" * 10 + b"y" * OUTPUT_TAIL_BYTES_MAX
    replica.accepted(finished("t1", token, output_tail=tail, output_bytes=10**9))
    assert replica.latest().output_tail == b"y" * OUTPUT_TAIL_BYTES_MAX
    assert replica.latest().output_bytes == 10**9


# Reports that come wrong, twice or late --------------------------------------------------------


def refused_report(replica: Replica, report: ReportAttempts, task_id: str, token: int) -> None:
    """The report's one item is refused and recorded; the rows stay as they were."""
    before = replica.state.tasks.get(task_id)
    assert replica.do(report) == Accepted(((task_id, token),))
    assert replica.state.tasks.get(task_id) == before
    assert replica.events == [Event("report_refused", task_id, report.node_id, str(token))]


@pytest.mark.parametrize("make", [started, finished])
@pytest.mark.parametrize("status", [TaskStatus.ASSIGNED, TaskStatus.RUNNING, TaskStatus.CANCELLING])
@pytest.mark.parametrize("off_by", [-1, 1, 1_000])
def test_a_report_with_a_wrong_token_is_refused(make: Any, status: TaskStatus, off_by: int) -> None:
    replica = with_node()
    token = replica.bring("t1", status) + off_by
    refused_report(replica, make("t1", token), "t1", token)


@pytest.mark.parametrize("make", [started, finished])
def test_a_report_of_another_node_is_refused(make: Any) -> None:
    replica = with_node()
    replica.accepted(register("n2"))
    token = replica.bring("t1", TaskStatus.RUNNING)
    refused_report(replica, make("t1", token, node_id="n2"), "t1", token)


@pytest.mark.parametrize("make", [started, finished])
def test_a_report_of_a_task_nobody_knows_is_refused(make: Any) -> None:
    refused_report(with_node(), make("nobody", 1), "nobody", 1)


@pytest.mark.parametrize("make", [started, finished])
@pytest.mark.parametrize("token", [0, 1])
def test_a_report_of_a_task_that_was_never_assigned_is_refused(make: Any, token: int) -> None:
    replica = with_node()
    replica.submit("t1")
    refused_report(replica, make("t1", token), "t1", token)


@pytest.mark.parametrize("end", ["succeeded", "failed", "timed_out", "cancelled", "lost"])
@pytest.mark.parametrize("status", [TaskStatus.SUCCEEDED, TaskStatus.FAILED, TaskStatus.CANCELLED])
def test_an_end_reported_twice_is_refused(status: TaskStatus, end: str) -> None:
    replica = with_node()
    token = replica.bring("t1", status)
    refused_report(replica, finished("t1", token, end), "t1", token)


def test_a_start_reported_after_the_end_is_refused() -> None:
    replica = with_node()
    token = replica.bring("t1", TaskStatus.SUCCEEDED)
    refused_report(replica, started("t1", token), "t1", token)


def test_a_report_of_an_attempt_that_was_retried_is_refused() -> None:
    replica = with_node()
    replica.submit("t1", attempts_max=2)
    old = replica.run("t1")
    replica.accepted(finished("t1", old, "failed"))
    refused_report(replica, finished("t1", old), "t1", old)
    replica.run("t1")
    refused_report(replica, finished("t1", old), "t1", old)


def test_good_items_of_a_report_take_effect_beside_refused_ones() -> None:
    replica = with_node()
    replica.submit("t1", "t2", "t3")
    one, two = replica.assign("t1"), replica.assign("t2")
    report = ReportAttempts(
        "n1",
        "a",
        started=(AttemptStarted("t1", one), AttemptStarted("t3", 9)),
        finished=(AttemptFinished("nobody", 8, "failed"), AttemptFinished("t2", two, "succeeded")),
    )
    assert replica.do(report) == Accepted((("t3", 9), ("nobody", 8)))
    assert replica.task("t1").status is TaskStatus.RUNNING
    assert replica.task("t2").status is TaskStatus.SUCCEEDED
    assert replica.task("t3").status is TaskStatus.QUEUED


@pytest.mark.parametrize("word", ["exploded", "", "running", "starting", "assigned"])
def test_an_end_that_is_no_end_is_refused_and_the_others_count(word: str) -> None:
    replica = with_node()
    one, two = replica.bring("t1", TaskStatus.RUNNING), replica.bring("t2", TaskStatus.RUNNING)
    before = replica.task("t1")
    report = ReportAttempts(
        "n1",
        "a",
        finished=(AttemptFinished("t1", one, word), AttemptFinished("t2", two, "succeeded")),
    )
    assert replica.do(report) == Accepted((("t1", one),))
    assert replica.task("t1") == before
    assert replica.task("t2").status is TaskStatus.SUCCEEDED


# Retries ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("end", ["failed", "timed_out", "cancelled"])
def test_a_task_with_attempts_left_waits_again(end: str) -> None:
    replica = with_node()
    replica.submit("t1", attempts_max=2)
    token = replica.run("t1")
    assert replica.do(finished("t1", token, end, exit_code=1, reason="broke")) == Accepted(())
    task = replica.task()
    assert (task.status, task.attempt, task.losses) == (TaskStatus.QUEUED, 1, 0)
    assert task.finished_at == 0
    assert (replica.latest().status, replica.latest().reason) == (AttemptStatus(end), "broke")
    assert list(replica.state.ready) == ["t1"]
    assert replica.events == [Event("task_queued", "t1", "n1", "broke")]


@pytest.mark.parametrize("attempts_max", [1, 2, 5])
def test_a_task_fails_after_its_last_attempt(attempts_max: int) -> None:
    replica = with_node()
    replica.submit("t1", attempts_max=attempts_max)
    for _ in range(attempts_max):
        assert replica.task().status is TaskStatus.QUEUED
        replica.fail("t1")
    task = replica.task()
    assert (task.status, task.attempt, task.reason) == (TaskStatus.FAILED, attempts_max, "failed")
    assert task.finished_at == replica.now
    assert [attempt.number for attempt in replica.attempts()] == [*range(1, attempts_max + 1)]
    assert replica.events == [Event("task_finished", "t1", "n1", "failed")]


@pytest.mark.parametrize(
    ("end", "given", "shown"),
    [("failed", "", "failed"), ("timed_out", "", "timed_out"), ("failed", "exit-3", "exit-3")],
)
def test_a_failed_task_says_why(end: str, given: str, shown: str) -> None:
    replica = with_node()
    token = replica.bring("t1", TaskStatus.RUNNING)
    replica.accepted(finished("t1", token, end, reason=given))
    assert (replica.task().status, replica.task().reason) == (TaskStatus.FAILED, shown)


def test_a_success_after_failures_forgets_why_they_failed() -> None:
    replica = with_node()
    replica.submit("t1", attempts_max=2)
    replica.fail("t1")
    replica.accepted(finished("t1", replica.run("t1"), reason="chatty"))
    assert (replica.task().status, replica.task().reason) == (TaskStatus.SUCCEEDED, "")


def test_a_task_that_is_paused_while_it_runs_waits_paused_for_its_retry() -> None:
    replica = with_node()
    replica.submit("t1", attempts_max=2)
    token = replica.run("t1")
    replica.accepted(PauseTask("t1"))
    replica.accepted(finished("t1", token, "failed"))
    assert (replica.task().status, replica.task().paused) == (TaskStatus.QUEUED, True)
    assert list(replica.state.ready) == []


@pytest.mark.parametrize(
    ("version", "result", "size", "kept"),
    [
        (WORKFLOWS, b"", 5 << 20, (b"", 5 << 20)),
        (WORKFLOWS, b"", RESULT_FILE_BYTES_MAX, (b"", RESULT_FILE_BYTES_MAX)),
        (WORKFLOWS, b"", RESULT_FILE_BYTES_MAX + 1, (b"", 0)),
        (WORKFLOWS, b"", -1, (b"", 0)),
        (WORKFLOWS, b"1", 5 << 20, (b"1", 0)),
        (WORKFLOWS, b"1" * (RESULT_BYTES_MAX + 1), 5, (b"", 5)),
        (WORKFLOWS - 1, b"", 5 << 20, (b"", 0)),
        (WORKFLOWS - 1, b"1", 0, (b"1", 0)),
        (POLICIES - 1, b"1", 7, (b"", 0)),
    ],
)
def test_size_of_a_result_on_the_node_is_kept_within_its_bound_and_by_version(
    version: int, result: bytes, size: int, kept: tuple[bytes, int]
) -> None:
    replica = with_node()
    token = replica.bring("t1", TaskStatus.RUNNING)
    replica.state.version = version
    replica.accepted(finished("t1", token, result=result, result_bytes=size))
    assert (replica.latest().result, replica.latest().result_bytes) == kept
    assert replica.task().status is TaskStatus.SUCCEEDED
