"""Tasks that rows name: there in the end, over, and run unless they say why not."""

from __future__ import annotations

import pytest

from jepsen_like.checker.slots import CHECKER
from jepsen_like.history import Final, FinalTask
from tests.jepsen.builders import PEERS, final, finals
from tests.jepsen.scheduled import DUE, ROWS, instead, slot, slots, whole

TASKS = [FinalTask(f"s-{second}", "succeeded", schedule="s") for second in DUE]


def _with(task: FinalTask | None, peers: list[str]) -> tuple[Final, ...]:
    """The task of slot 8 is that on these peers; None: it is not there."""
    others = [one for one in TASKS if one.id != "s-8"]
    mine = [task] if task else []
    return tuple(final(p, *others, *(mine if p in peers else [TASKS[3]])) for p in PEERS)


def test_rows_whose_tasks_never_ran_do_not_pass() -> None:
    verdict = CHECKER(whole(ROWS, instead([], *DUE[1:])))
    assert verdict.valid is False
    assert verdict.checked["violations"] == len(DUE) - 1
    assert all("has succeeded without having run on n1" in v.says for v in verdict.violations)


@pytest.mark.parametrize(
    ("task", "says"),
    [
        (None, "is not there"),
        (FinalTask("s-8", "queued"), "is still queued (no reason)"),
        (FinalTask("s-8", "queued", "no-room"), "is still queued (no-room)"),
        (FinalTask("s-8", "succeeded"), "has succeeded without having run"),
        (FinalTask("s-8", "failed"), "has not run, is failed and does not say why"),
    ],
)
@pytest.mark.parametrize("peers", [PEERS, ["n3"]])
def test_a_task_that_is_lost_is_found(task: FinalTask | None, says: str, peers: list[str]) -> None:
    rows = [slot(second, state="fired", task=f"s-{second}") for second in DUE]
    verdict = CHECKER(whole(rows, instead([], 8), finals=_with(task, peers)))
    found = [violation.says for violation in verdict.violations]
    on = peers[0]
    others = [] if peers == PEERS else ["has succeeded without having run on n1"]
    expected = others or [f"{says} on {on}"]
    assert len(found) == 1 and any(one in found[0] for one in expected), found


@pytest.mark.parametrize(
    "task",
    [
        FinalTask("s-8", "failed", "cannot-start: No space left on device"),
        FinalTask("s-8", "cancelled", "replaced"),
        FinalTask("s-8", "expired", "deadline"),
        FinalTask("s-8", "queued", paused=True),
    ],
)
def test_a_task_may_say_why_it_did_not_run(task: FinalTask) -> None:
    rows = [slot(second, state="fired", task=f"s-{second}") for second in DUE]
    verdict = CHECKER(whole(rows, instead([], 8), finals=_with(task, PEERS)))
    assert verdict.valid is True, verdict.violations
    assert verdict.checked["tasks_that_did_not_run"] == 1


def test_a_task_that_only_an_answer_before_the_heal_named_is_looked_for() -> None:
    early = slots([slot(8, "gone", state="fired")], 10_000)
    rows = [row for row in ROWS if row["task"] != "s-8"]
    verdict = CHECKER(whole(rows, instead([], 8), more=(early,)))
    (violation,) = verdict.violations
    assert "lost: gone of slot" in violation.says and "is not there on n1" in violation.says


def test_an_end_that_a_row_showed_never_changes() -> None:
    early = slots([slot(8, "s-8", state="failed")], 10_000)
    (violation,) = CHECKER(whole(ROWS, more=(early,))).violations
    assert "was shown failed and is succeeded" in violation.says


def test_without_a_last_read_what_became_of_tasks_is_in_doubt() -> None:
    verdict = CHECKER(whole(ROWS, finals=()))
    assert verdict.valid == "unknown" and "no peer was read" in verdict.doubts[0]
    assert CHECKER(whole(ROWS, finals=finals(*TASKS))).valid is True
