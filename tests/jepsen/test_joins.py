"""Parts of a workflow: what has to be over before they start, and what they are told of it."""

from __future__ import annotations

from typing import Any

import pytest

from jepsen_like.checker.joins import CHECKER
from jepsen_like.checker.verdict import Verdict
from jepsen_like.history import Effect, FinalTask
from tests.jepsen.builders import attempt, evidence, finals, submit

SPLIT = attempt("g.split", 1, 100, 200)
ITEMS = [*attempt("g.each.0", 2, 300, 400), *attempt("g.each.1", 3, 300, 500)]
JOIN = attempt("g.join", 4, 600, 700)
ROWS = [
    FinalTask("g", "succeeded"),
    FinalTask("g.split", "succeeded", parent="g"),
    FinalTask("g.each", "succeeded", parent="g"),
    FinalTask("g.each.0", "succeeded", parent="g.each"),
    FinalTask("g.each.1", "succeeded", parent="g.each"),
    FinalTask("g.join", "succeeded", parent="g"),
]


def judged(effects: list[Effect], fails: int = 0, rows: list[FinalTask] = ROWS) -> Verdict:
    graph = {"split": [], "each": ["split"], "join": ["each"]}
    asked = submit("g", 0, 10, workflow=graph, maps={"each": 2}, fails=fails)
    whole = evidence("workflow", calls=[asked], effects=effects, finals=finals(*rows))
    return CHECKER(whole)


def test_a_workflow_whose_parts_wait_for_each_other_passes() -> None:
    verdict = judged([*SPLIT, *ITEMS, *JOIN])
    assert (verdict.valid, verdict.checked["joins"]) == (True, 1)
    # One item was lost, and ran again elsewhere.
    lost = attempt("g.each.0", 2, 300, 350, exit=None)
    again = attempt("g.each.0", 5, 450, 550, number=2)
    assert judged([*SPLIT, *lost, *again, *ITEMS[4:], *JOIN]).valid is True


def test_a_map_that_goes_on_after_failures_needs_every_item_to_have_run() -> None:
    failed = [*attempt("g.each.0", 2, 300, 400, exit=1), *attempt("g.each.1", 3, 300, 500, exit=1)]
    assert judged([*SPLIT, *failed, *JOIN], fails=1).valid is True
    assert judged([*SPLIT, *failed, *JOIN]).valid is False
    one = attempt("g.each.0", 2, 300, 400, exit=1)
    (violation,) = judged([*SPLIT, *one, *JOIN], fails=1).violations
    assert "g.each.1, which it waits for, had not run" in violation.says
    lost = [*ROWS[:4], FinalTask("g.each.1", "failed", "lost", parent="g.each"), ROWS[5]]
    assert judged([*SPLIT, *one, *JOIN], fails=1, rows=lost).valid is True


@pytest.mark.parametrize(
    ("effects", "says"),
    [
        ([*SPLIT, *attempt("g.each.0", 2, 300, 400), *JOIN], "g.each.1, which it waits for"),
        ([*SPLIT, *ITEMS, *attempt("g.join", 4, 450, 700)], "50 ms before the last sign of life"),
        ([*ITEMS, *JOIN], "g.split, which it waits for, had not succeeded"),
        ([*attempt("g.split", 1, 100, 350), *ITEMS, *JOIN], "of g.split, a part of split"),
        (
            [*SPLIT, *ITEMS, *attempt("g.each.1", 5, 590, 650, number=2), *JOIN],
            "before the last sign of life of g.each.1",
        ),
    ],
)
def test_a_part_that_does_not_wait_is_found(effects: list[Effect], says: str) -> None:
    verdict = judged(effects)
    assert verdict.valid is False
    assert any(says in violation.says for violation in verdict.violations), verdict.violations


def told(*items: tuple[int, str], state: str = "succeeded") -> list[dict[str, Any]]:
    lines: list[dict[str, Any]] = [{"task": "g.each", "state": state, "split": True}]
    for index, item_state in items:
        item = {"of": "g.each", "index": index, "task": f"g.each.{index}", "state": item_state}
        lines.append(item)
    return lines


@pytest.mark.parametrize(
    ("inputs", "says"),
    [
        (told((0, "succeeded"), (1, "succeeded")), ""),
        (told((0, "succeeded")), "items [0] of g.each, which has 2"),
        (told((0, "succeeded"), (0, "succeeded")), "items [0, 0] of g.each"),
        (told((0, "succeeded"), (1, "running")), "g.each.1 is running, which has not ended"),
        (told((0, "succeeded"), (1, "failed")), "g.each.1 is failed, and it is succeeded in"),
        (told((0, "succeeded"), (1, "succeeded"), state="waiting"), "g.each is waiting"),
    ],
)
def test_what_a_join_is_told_is_what_its_items_came_to(
    inputs: list[dict[str, Any]], says: str
) -> None:
    join = attempt("g.join", 4, 600, 700)
    join[-1] = Effect("g.join", 1, 4, "n1", "end", join[-1].at, exit=0, inputs=inputs)
    verdict = judged([*SPLIT, *ITEMS, *join])
    found = [violation.says for violation in verdict.violations]
    assert len(found) == int(bool(says)), found
    assert all(says in words for words in found), found


def test_a_workflow_run_without_a_join_says_nothing() -> None:
    assert judged([*SPLIT, *ITEMS]).valid == "unknown"
