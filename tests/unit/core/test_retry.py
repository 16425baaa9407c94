"""How long a task that failed waits."""

from __future__ import annotations

import pytest

from raftsched.core.policy import Backoff, Policy
from raftsched.core.retry import may_retry, wait_ms


def policy(**fields: object) -> Policy:
    """Without jitter unless said otherwise."""
    return Policy(**{"jitter_permille": 0, **fields})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("backoff", "waits"),
    [
        (Backoff.CONSTANT, [100, 100, 100, 100]),
        (Backoff.LINEAR, [100, 200, 300, 400]),
        (Backoff.EXPONENTIAL, [100, 200, 400, 800]),
    ],
)
def test_the_wait_grows_as_the_policy_says(backoff: Backoff, waits: list[int]) -> None:
    asked = policy(backoff=backoff, backoff_base_ms=100)
    assert [wait_ms(asked, "t", failures) for failures in range(1, 5)] == waits


@pytest.mark.parametrize("failures", [10, 63, 1_000, 10**9])
def test_no_wait_is_longer_than_the_longest(failures: int) -> None:
    assert wait_ms(policy(backoff_base_ms=100, backoff_max_ms=5_000), "t", failures) == 5_000


def test_jitter_stays_in_its_part_and_is_the_same_for_everybody() -> None:
    asked = policy(backoff=Backoff.CONSTANT, backoff_base_ms=1_000, jitter_permille=200)
    waits = [wait_ms(asked, f"t{n}", 1) for n in range(500)]
    assert waits == [wait_ms(asked, f"t{n}", 1) for n in range(500)]
    assert min(waits) < 820 and max(waits) > 1_180
    assert all(800 <= wait <= 1_200 for wait in waits)
    assert len({wait_ms(asked, "t", failures) for failures in range(1, 20)}) > 10


def test_a_pinned_wait_never_changes() -> None:
    # Another number is another state on peers of another version.
    assert wait_ms(Policy(), "task-1", 3) == 3_765


@pytest.mark.parametrize(
    ("on_exit", "code", "again"),
    [
        ((), 1, True),
        ((), None, True),
        ((75,), 75, True),
        ((75,), 1, False),
        ((75,), None, False),
    ],
)
def test_only_the_exit_codes_that_are_named_are_worth_another_attempt(
    on_exit: tuple[int, ...], code: int | None, again: bool
) -> None:
    assert may_retry(policy(retry_on_exit=on_exit), code) is again
