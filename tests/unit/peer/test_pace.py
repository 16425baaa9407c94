"""How far ahead of its slots a node is given work."""

from __future__ import annotations

from raftsched.peer.pace import TOP_UP_SHARE, WINDOW_SECONDS, Pace


def test_node_that_ended_nothing_lately_is_given_nothing_ahead() -> None:
    pace = Pace()
    assert pace.ahead(10.0, {"n1": 0}) == {}
    pace.ended("n1", 5, 10.0)
    assert pace.ahead(10.0 + WINDOW_SECONDS / 2, {}) == {"n1": 5}
    assert pace.ahead(10.0 + WINDOW_SECONDS * 1.01, {}) == {}


def test_ends_within_the_window_add_up_by_node() -> None:
    pace = Pace()
    for number in range(10):
        pace.ended("n1", 3, 10.0 + number * WINDOW_SECONDS / 5)
        pace.ended("n2", 1, 10.0)
    now = 10.0 + 9 * WINDOW_SECONDS / 5
    # Those of the last five fifths and of this moment.
    assert pace.ahead(now, {}) == {"n1": 18}


def test_node_is_filled_up_only_when_it_worked_off_a_good_part() -> None:
    pace = Pace()
    pace.ended("n1", 100, 10.0)
    full, low = int(100 * TOP_UP_SHARE) + 1, int(100 * TOP_UP_SHARE)
    # What it may hold is what it holds: nothing is added.
    assert pace.ahead(10.0, {"n1": full}) == {"n1": full}
    assert pace.ahead(10.0, {"n1": low}) == {"n1": 100}
    assert pace.ahead(10.0, {"n1": -3}) == {"n1": 100}
