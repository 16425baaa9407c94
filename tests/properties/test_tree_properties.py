"""Trees with twins under pauses, cancels, retries, failures and lost nodes: all of it ends."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from typing import Any
from unittest.mock import patch

import pytest

from raftsched.api import retries
from raftsched.core.handlers import ends, forks, tasks
from raftsched.core.versions import PAUSED_TWINS
from tests.planted import twins
from tests.properties.trees import PARTS_MAX, drive

#: Runs, and things that happen in each.
EXAMPLES = int(os.environ.get("RAFTSCHED_EXAMPLES", "2000"))
RUNS = EXAMPLES if os.environ.get("RAFTSCHED_SOAK") else 20
STEPS = 150
#: Within so many a planted bug is found.
PLANTED_RUNS = 25
#: What the runs together must have come to, or they would show nothing.
SEEN = (
    "twins", "ended by twin-succeeded", "ended by kept", "waits for its twin in a pause",
    "retries", "NodeLost", "PauseTask of a pair", "CancelTask of a pair", "ResumeTask of a pair",
    "ApplyRetention", "DeleteTask", "AddSubtasks", "ActivateVersion",
)  # fmt: skip


@pytest.fixture(autouse=True)
def in_pieces() -> Iterator[None]:
    """So small that what is done in pieces takes several."""
    with ExitStack() as stack:
        for module, name, bound in (
            (forks, "WINDOW", 8), (ends, "STOPPED_MAX", 2), (tasks, "DELETED_MAX", 3),
            (retries, "PARTS_MAX", PARTS_MAX),
        ):  # fmt: skip
            stack.enter_context(patch.object(module, name, bound))
        yield


def test_random_trees_with_twins_end_once_whatever_is_done_to_them() -> None:
    seen: Counter[str] = Counter()
    for seed in range(RUNS):
        try:
            seen += drive(seed, STEPS)
        except AssertionError as error:
            raise AssertionError(f"seed {seed}: {error}") from error
    assert [name for name in SEEN if not seen[name]] == []


def stop_twins_at_a_pause() -> AbstractContextManager[Any]:
    return patch.object(tasks, "PAUSED_TWINS", PAUSED_TWINS + 1)


@pytest.mark.parametrize(
    ("planted", "first"),
    [
        (twins.count_both, 3),
        (twins.end_before_the_twin, 11),
        (twins.borrow_a_failure, 0),
        (stop_twins_at_a_pause, 4),
    ],
)
def test_a_planted_bug_is_found(
    planted: Callable[[], AbstractContextManager[Any]], first: int
) -> None:
    """``first``: a seed that shows it, as the runs are now."""
    for seed in range(first, first + PLANTED_RUNS):
        with planted():
            try:
                drive(seed, STEPS)
            except AssertionError:
                return
    pytest.fail(f"not found in {PLANTED_RUNS} runs")
