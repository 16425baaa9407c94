"""What time alone does to tasks: delays, retries, timeouts in the queue, deadlines."""

from __future__ import annotations

import pytest

from raftsched.core.commands import (
    CancelTask,
    EditTask,
    FireTimers,
    PauseTask,
    RunNow,
    UpdateSettings,
)
from raftsched.core.model import Settings, TaskStatus
from raftsched.core.outcomes import Accepted
from raftsched.core.policy import Backoff, Extra, Policy
from tests.unit.core.builders import Replica, finished, new_task, register

WAITING = TaskStatus.WAITING
QUEUED = TaskStatus.QUEUED
RETRYING = TaskStatus.RETRYING
EXPIRED = TaskStatus.EXPIRED
LATER = 1_000


def with_node() -> Replica:
    replica = Replica()
    replica.accepted(register())
    return replica


def fire(replica: Replica, after_ms: int = 0, limit: int = 100) -> int:
    """Let time pass, and fire; how many timers did."""
    outcome = replica.do(FireTimers(limit), now=replica.now + after_ms)
    assert isinstance(outcome, Accepted)
    fired: int = outcome.value
    return fired


# Delays ----------------------------------------------------------------------------------------


def test_a_delayed_task_waits_until_its_time_and_not_a_millisecond_less() -> None:
    replica = with_node()
    replica.submit("t1", extra=Extra(delay_ms=LATER))
    created = replica.task().created_at
    assert (replica.task().status, replica.task().reason) == (WAITING, "not-before")
    assert replica.task().ready_at == created + LATER
    assert list(replica.state.ready) == []
    replica.do(FireTimers(), now=created + LATER - 1)
    assert replica.task().status is WAITING
    assert fire(replica, 1) == 1
    assert (replica.task().status, replica.task().reason) == (QUEUED, "")
    assert [event.kind for event in replica.events] == ["task_queued"]
    assert fire(replica, 10 * LATER) == 0


def test_a_time_in_the_past_delays_nothing() -> None:
    replica = with_node()
    replica.submit("t1", extra=Extra(not_before=1))
    assert replica.task().status is QUEUED


@pytest.mark.parametrize("status", [WAITING, RETRYING])
def test_run_now_ends_the_wait(status: TaskStatus) -> None:
    replica = with_node()
    if status is WAITING:
        replica.submit("t1", extra=Extra(delay_ms=LATER))
    else:
        replica.submit("t1", attempts_max=2, policy=Policy())
        replica.fail("t1")
    assert replica.task().status is status
    replica.accepted(PauseTask("t1"))
    replica.accepted(RunNow("t1"))
    assert (replica.task().status, replica.task().paused) == (QUEUED, False)
    assert list(replica.state.ready) == ["t1"]
    assert replica.state.timers.first() == 0


def test_a_cancelled_wait_has_no_timer() -> None:
    replica = with_node()
    replica.submit("t1", extra=Extra(delay_ms=LATER))
    replica.accepted(CancelTask("t1"))
    assert (replica.task().status, len(replica.state.timers)) == (TaskStatus.CANCELLED, 0)


# Retries ---------------------------------------------------------------------------------------


def test_a_failed_attempt_is_tried_again_after_its_backoff() -> None:
    replica = with_node()
    asked = Policy(backoff=Backoff.LINEAR, backoff_base_ms=LATER, jitter_permille=0)
    replica.submit("t1", attempts_max=3, policy=asked)
    for failures in (1, 2):
        replica.fail("t1")
        failed_at = replica.latest().finished_at
        task = replica.task()
        assert (task.status, task.ready_at) == (RETRYING, failed_at + failures * LATER)
        replica.do(FireTimers(), now=task.ready_at - 1)
        assert replica.task().status is RETRYING
        assert fire(replica, 1) == 1
        assert replica.task().status is QUEUED
    replica.fail("t1")
    assert replica.task().status is TaskStatus.FAILED
    assert len(replica.state.timers) == 0


def test_a_task_that_fails_at_once_backs_off_without_being_asked_to() -> None:
    replica = with_node()
    replica.submit("t1", attempts_max=2, policy=None)
    replica.fail("t1")
    assert replica.task().status is RETRYING
    assert 800 <= replica.task().ready_at - replica.now <= 1_200


def test_a_task_that_succeeds_on_its_second_attempt_has_simply_succeeded() -> None:
    replica = with_node()
    replica.submit("t1", attempts_max=2)
    replica.fail("t1")
    replica.accepted(finished("t1", replica.run("t1")))
    assert (replica.task().status, replica.task().reason) == (TaskStatus.SUCCEEDED, "")


def test_an_exit_code_that_is_not_named_ends_the_task() -> None:
    replica = with_node()
    replica.submit("t1", attempts_max=3, policy=Policy(retry_on_exit=(75,)))
    replica.accepted(finished("t1", replica.run("t1"), "failed", exit_code=1, reason="exit-code-1"))
    assert (replica.task().status, replica.task().reason) == (TaskStatus.FAILED, "exit-code-1")


def test_an_exit_code_that_is_named_is_tried_again() -> None:
    replica = with_node()
    replica.submit("t1", attempts_max=3, policy=Policy(retry_on_exit=(75,)))
    replica.accepted(finished("t1", replica.run("t1"), "failed", exit_code=75))
    assert replica.task().status is RETRYING


def test_a_retry_has_the_place_in_the_queue_that_the_task_had() -> None:
    replica = with_node()
    replica.submit("t1", attempts_max=2, policy=Policy())
    replica.submit("t2")
    replica.fail("t1")
    fire(replica, 2 * LATER)
    assert list(replica.state.ready) == ["t1", "t2"]


# Waits that are too long -----------------------------------------------------------------------


def test_a_task_that_waits_too_long_for_its_first_attempt_expires() -> None:
    replica = with_node()
    replica.submit("t1", policy=Policy(queue_timeout_ms=LATER))
    assert fire(replica, LATER - 20) == 0
    assert fire(replica, 20) == 1
    assert (replica.task().status, replica.task().reason) == (EXPIRED, "queue-timeout")
    assert replica.task().finished_at == replica.now


def test_the_wait_in_the_queue_begins_when_the_delay_ends() -> None:
    replica = with_node()
    replica.submit("t1", policy=Policy(queue_timeout_ms=100), extra=Extra(delay_ms=LATER))
    fire(replica, LATER)
    assert replica.task().status is QUEUED
    assert fire(replica, 99) == 0
    assert fire(replica, 1) == 1
    assert replica.task().status is EXPIRED


def test_a_task_that_was_started_waits_for_its_retry_as_long_as_it_takes() -> None:
    replica = with_node()
    replica.submit("t1", attempts_max=2, policy=Policy(queue_timeout_ms=100))
    replica.fail("t1")
    fire(replica, 100 * LATER)
    assert fire(replica, 100 * LATER) == 0
    assert replica.task().status is QUEUED


@pytest.mark.parametrize("extra", [Extra(expires_ms=LATER), Extra(deadline=1_001_020)])
@pytest.mark.parametrize("status", [QUEUED, WAITING, RETRYING])
def test_a_deadline_ends_what_does_not_run(status: TaskStatus, extra: Extra) -> None:
    replica = with_node()
    fields = {"queued": {}, "waiting": {"delay_ms": 9 * LATER}, "retrying": {}}[status]
    changed = Extra(extra.not_before, extra.deadline, fields.get("delay_ms", 0), extra.expires_ms)
    replica.submit("t1", attempts_max=2, extra=changed, policy=Policy(backoff_base_ms=9 * LATER))
    if status is RETRYING:
        replica.fail("t1")
    assert replica.task().status is status
    fire(replica, 2 * LATER)
    assert (replica.task().status, replica.task().reason) == (EXPIRED, "deadline")


@pytest.mark.parametrize(
    ("end", "status"),
    [("cancelled", EXPIRED), ("succeeded", TaskStatus.SUCCEEDED), ("failed", EXPIRED)],
)
def test_a_deadline_stops_what_runs_and_it_expires_when_its_node_says_so(
    end: str, status: TaskStatus
) -> None:
    replica = with_node()
    replica.submit("t1", extra=Extra(expires_ms=LATER), attempts_max=3)
    token = replica.run("t1")
    fire(replica, LATER)
    assert (replica.task().status, replica.task().reason) == (TaskStatus.CANCELLING, "deadline")
    replica.accepted(finished("t1", token, end))
    assert replica.task().status is status


def test_a_cancel_with_that_word_is_a_cancel() -> None:
    replica = with_node()
    replica.submit("t1")
    token = replica.run("t1")
    replica.accepted(CancelTask("t1", "deadline"))
    replica.accepted(finished("t1", token, "cancelled"))
    assert replica.task().status is TaskStatus.CANCELLED


# Many ------------------------------------------------------------------------------------------


def test_what_is_due_fires_in_order_and_no_more_than_asked_for() -> None:
    replica = with_node()
    for number, delay in enumerate((300, 100, 200, 100)):
        replica.submit(f"t{number}", extra=Extra(delay_ms=delay))
    assert fire(replica, LATER, limit=2) == 2
    assert [event.task_id for event in replica.events] == ["t1", "t3"]
    assert fire(replica, 0, limit=2) == 2
    assert [event.task_id for event in replica.events] == ["t2", "t0"]
    assert fire(replica, 0, limit=2) == 0


def test_a_timer_that_went_away_and_came_back_fires_once_and_counts_once() -> None:
    replica = with_node()
    for number in range(3):
        replica.submit(f"t{number}", extra=Extra(delay_ms=LATER))
    replica.accepted(EditTask(new_task("t0", extra=Extra(delay_ms=9 * LATER))))
    replica.accepted(EditTask(new_task("t0", extra=Extra(delay_ms=LATER))))
    assert fire(replica, LATER, limit=2) == 2
    assert [event.task_id for event in replica.events] == ["t0", "t1"]


def test_before_the_version_is_in_force_a_failure_is_tried_again_at_once() -> None:
    replica = with_node()
    replica.state.version = 3
    replica.submit("t1", attempts_max=2, policy=None)
    replica.fail("t1")
    assert (replica.task().status, replica.task().ready_at) == (QUEUED, 0)


def test_the_settings_of_this_version_do_not_count_before_it_is_in_force() -> None:
    replica = Replica()
    replica.state.version = 3
    replica.accepted(UpdateSettings(Settings(ageing_ms=7, losses_max=9)))
    assert replica.state.settings == Settings(losses_max=9)
