"""How old a follower's state is: by the leader's word, never younger than it is."""

from __future__ import annotations

import random

from raftsched.raft.freshness import MARK_SECONDS, MARKS_MAX, Freshness


def test_not_known_before_all_that_was_committed_when_it_was_heard_is_applied() -> None:
    freshness = Freshness()
    assert freshness.at(3, 73) is None
    freshness.heard(3, 318, 73, 1.0)
    assert freshness.at(3, 73) is None and freshness.at(3, 317) is None
    assert freshness.at(3, 318) == 1.0


def test_state_grows_old_while_the_leader_commits_and_nothing_is_applied() -> None:
    freshness = Freshness()
    freshness.heard(3, 10, 10, 1.0)
    for tenth in range(11, 80):
        freshness.heard(3, tenth, 10, tenth / 10)
    assert freshness.at(3, 10) == 1.0
    told = freshness.at(3, 40)
    assert told is not None and 4.0 - MARK_SECONDS <= told <= 4.0


def test_leader_that_commits_nothing_keeps_it_fresh() -> None:
    freshness = Freshness()
    for second in range(1, 1000):
        freshness.heard(3, 10, 10, float(second))
    assert freshness.at(3, 10) == 999.0


def test_another_term_begins_without_a_word_and_an_older_one_says_nothing() -> None:
    freshness = Freshness()
    freshness.heard(3, 10, 10, 1.0)
    assert freshness.at(4, 10) is None
    freshness.heard(4, 12, 10, 2.0)
    freshness.heard(3, 10, 10, 3.0)
    assert freshness.at(4, 11) is None and freshness.at(3, 11) is None
    assert freshness.at(4, 12) == 2.0


def test_never_said_to_be_younger_than_it_is_and_hardly_older() -> None:
    chance = random.Random(7)
    freshness = Freshness()
    heard: list[tuple[float, int]] = []
    committed = applied = 0
    now = 0.0
    for _ in range(3_000):
        now += chance.choice((0.001, 0.02, 0.1, 0.4))
        committed += chance.randrange(50)
        heard.append((now, committed))
        freshness.heard(1, committed, applied, now)
        applied = min(committed, applied + chance.choice((0, 0, 20, 200)))
        true = max((at for at, index in heard if index <= applied), default=None)
        told = freshness.at(1, applied)
        assert (told is None) == (true is None)
        if told is not None and true is not None:
            assert true - MARK_SECONDS <= told <= true


def test_marks_are_bounded_and_whoever_is_far_behind_is_not_fresh_before_the_last_of_them() -> None:
    freshness = Freshness()
    for second in range(1, 10 * MARKS_MAX):
        freshness.heard(1, second, 0, float(second))
    assert len(freshness._marks) == MARKS_MAX
    last = 10 * MARKS_MAX - 1
    assert freshness.at(1, last - 1) == MARKS_MAX - 1
    assert freshness.at(1, last) == last
