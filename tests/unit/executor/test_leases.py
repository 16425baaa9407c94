"""When leases end, and that those of attempts that wait are found over in time."""

from __future__ import annotations

from raftsched.core.spec import TaskSpec
from raftsched.executor.leases import KILL_MARGIN_SECONDS, Leases
from raftsched.executor.messages import StartAttempt


def attempt(token: int, lease_seconds: float = 0, grace_ms: int = 5_000) -> StartAttempt:
    spec = TaskSpec(("true",), grace_ms=grace_ms)
    return StartAttempt(token, f"t{token}", 1, spec, int(lease_seconds * 1000))


def leases_from(granted_at: float, seconds: float) -> Leases:
    leases = Leases(seconds)
    leases._granted_at = 0.0
    leases.renew(granted_at, seconds)
    return leases


def test_lease_is_the_attempts_own_or_the_nodes_and_counts_from_the_latest_grant() -> None:
    leases = leases_from(100.0, 15.0)
    assert (leases.left(attempt(1), 101.0), leases.left(attempt(2, 60), 101.0)) == (14.0, 59.0)
    leases.renew(90.0, 10.0)
    assert leases.left(attempt(1), 101.0) == 9.0


def test_request_to_end_goes_out_a_grace_before_or_a_quarter_of_the_lease() -> None:
    leases = leases_from(100.0, 16.0)
    assert leases.stop_early(attempt(1, grace_ms=1_000)) == 1.0 + KILL_MARGIN_SECONDS
    assert leases.stop_early(attempt(1, grace_ms=60_000)) == 4.0 + KILL_MARGIN_SECONDS


def test_attempts_that_wait_are_over_once_their_own_lease_is() -> None:
    leases = leases_from(100.0, 15.0)
    waiting = [attempt(1), attempt(2, 5), attempt(3, 60)]
    for each in waiting:
        leases.waits(each)
    assert not leases.may_be_over(104.9)
    assert leases.may_be_over(105.0)
    assert [each.token for each in leases.over(waiting, 105.0)] == [2]
    del waiting[1]
    assert not leases.may_be_over(114.9)
    assert [each.token for each in leases.over(waiting, 115.0)] == [1]


def test_shorter_lease_of_the_node_counts_for_those_that_wait_already() -> None:
    leases = leases_from(100.0, 15.0)
    leases.waits(attempt(1))
    leases.renew(100.0, 5.0)
    assert leases.may_be_over(105.0)
    assert [each.token for each in leases.over([attempt(1)], 105.0)] == [1]


def test_where_nothing_waits_nothing_is_over() -> None:
    leases = leases_from(100.0, 15.0)
    assert not leases.may_be_over(1e9)
    leases.waits(attempt(1))
    assert leases.over([], 1e9) == []
    assert not leases.may_be_over(1e9)
