"""Each refusal is told, none floods the log."""

from __future__ import annotations

import pytest

from raftsched.raft.refusals import LINES_MAX, REPEAT_SECONDS, Refusals


def test_same_refusal_is_told_once_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    now = 100.0
    refusals = Refusals(lambda: now)
    for _ in range(5):
        refusals.tell("n1", "expired", "n1: expired")
        refusals.tell("n2", "expired", "n2: expired")
        refusals.tell("n1", "unknown", "n1: unknown")
    assert caplog.messages == ["n1: expired", "n2: expired", "n1: unknown"]
    now += REPEAT_SECONDS
    refusals.tell("n1", "expired", "n1: expired")
    assert len(caplog.messages) == 4


def test_many_different_ones_are_cut(caplog: pytest.LogCaptureFixture) -> None:
    now = 100.0
    refusals = Refusals(lambda: now)
    for number in range(10 * LINES_MAX):
        refusals.tell(f"n{number}", "x", "line")
    assert len(caplog.messages) == LINES_MAX + 1
    assert "not logged" in caplog.messages[-1]
    now += REPEAT_SECONDS
    refusals.tell("n1", "x", "again")
    assert caplog.messages[-1] == "again"
