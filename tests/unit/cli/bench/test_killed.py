"""What the files of attempts say about a leader that was killed under them."""

from __future__ import annotations

from pathlib import Path

import pytest

from raftsched.cli.bench.killed import Beats, beats, killed_report, longest_gap, overlaps


def test_beats_are_by_attempt_and_a_line_cut_short_is_none(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("1 10.5\n1 10.7\n2 16.0\n1 10")
    assert beats(log) == {1: [10.5, 10.7], 2: [16.0]}


@pytest.mark.parametrize(
    ("found", "count"),
    [
        ({1: [1.0, 2.0]}, 0),
        ({1: [1.0, 2.0], 2: [2.1]}, 0),
        ({1: [1.0, 2.0], 2: [2.0]}, 1),
        ({1: [1.0, 3.0], 2: [2.0, 5.0], 3: [4.0]}, 2),
        ({1: [1.0, 3.0], 3: [2.0]}, 1),
    ],
)
def test_an_attempt_that_writes_after_a_later_one_began_overlaps(found: Beats, count: int) -> None:
    assert overlaps(found) == count


def test_longest_gap_is_of_the_first_attempt() -> None:
    assert longest_gap({1: [1.0, 1.2, 2.0], 2: [9.0, 99.0]}) == pytest.approx(0.8)
    assert longest_gap({}) == 0.0


def test_report_counts_what_was_disturbed_late_lost_or_twice_at_once() -> None:
    dead: dict[str, Beats] = {
        "a": {1: [9.0, 10.0], 2: [17.0]},
        "b": {1: [9.0, 18.0], 2: [17.5, 18.5]},
        "c": {1: [9.0]},
    }
    others: dict[str, Beats] = {"d": {1: [9.0, 9.5]}, "e": {1: [9.0], 2: [12.0]}}
    ended = ["succeeded", "succeeded", "running", "succeeded", "missing"]
    report = killed_report(dead, others, ended, 10.0, 5.0)
    assert (report["attempts"], report["on_the_dead_node"]) == (5, 3)
    assert report["run_again_seconds"] == {"p50": 7.0, "p99": 7.5, "longest": 7.5, "samples": 2}
    assert report["bar"] == {"measured": 7.5, "at_most": 8.0, "is_met": True}
    assert (report["overlaps"], report["lost"]) == (1, 2)
    assert (report["others_started_again"], report["others_longest_pause_seconds"]) == (1, 0.5)
