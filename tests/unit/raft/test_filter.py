"""The filter keeps from PySyncObj what would make it lose data (findings S1, S2, S3, S9, S12)."""

from __future__ import annotations

from typing import Any

import pytest

from raftsched.raft.filter import MessageFilter
from raftsched.raft.log import SafetyViolation


class View:
    """A log of (index, term) from ``first`` on."""

    def __init__(self, terms: list[int], *, first: int = 1, term: int = 3, commit: int = 1) -> None:
        self.terms = terms
        self.first_index = first
        self.term = term
        self.commit_index = self.applied_index = commit
        self.is_leader = False

    @property
    def last_index(self) -> int:
        return self.first_index + len(self.terms) - 1

    @property
    def last_term(self) -> int:
        return self.terms[-1]

    def term_at(self, index: int) -> int | None:
        position = index - self.first_index
        return self.terms[position] if 0 <= position < len(self.terms) else None


def append(previous: int, previous_term: int, *terms: int, term: int = 3, commit: int = 0) -> Any:
    return {
        "type": "append_entries",
        "term": term,
        "commit_index": commit,
        "prevLogIdx": previous,
        "prevLogTerm": previous_term,
        "entries": [(b"x", previous + 1 + i, t) for i, t in enumerate(terms)],
    }


def test_repeated_append_truncates_nothing_and_is_acknowledged_here() -> None:
    """S2: an old overlapping append must not make the follower drop what it acknowledged."""
    passed, answer = MessageFilter(View([1, 3, 3, 3, 3])).incoming("n1", append(1, 1, 3, 3))
    assert passed == {"type": "append_entries", "term": 3, "commit_index": 0}
    assert answer is not None
    assert (answer["next_node_idx"], answer["success"], answer["lt"]) == (4, True, 3)


def test_stale_heartbeat_truncates_nothing() -> None:
    passed, answer = MessageFilter(View([1, 3, 3, 3])).incoming("n1", append(2, 3))
    assert passed is not None and "prevLogIdx" not in passed
    assert answer is not None and answer["next_node_idx"] == 3


def test_matching_prefix_is_stripped() -> None:
    passed, answer = MessageFilter(View([1, 3, 3])).incoming("n1", append(1, 1, 3, 3, 3, 3))
    assert answer is None and passed is not None
    assert (passed["prevLogIdx"], passed["prevLogTerm"]) == (3, 3)
    assert [e[1] for e in passed["entries"]] == [4, 5]


def test_commit_index_goes_no_further_than_what_the_message_verifies() -> None:
    """S1: entries of the follower's own, unverified, are not committed."""
    view = View([1, 2, 2, 2, 2], commit=1)
    passed, _ = MessageFilter(view).incoming("n1", append(1, 1, commit=5))
    assert passed is not None and passed["commit_index"] == 1
    still_dumping = {"type": "append_entries", "term": 3, "commit_index": 5, "serialized": None}
    passed, _ = MessageFilter(view).incoming("n1", still_dumping)
    assert passed is not None and passed["commit_index"] == 1


def test_real_conflict_is_passed_on_behind_the_common_prefix() -> None:
    view = View([1, 2, 2, 2], commit=2)
    passed, _ = MessageFilter(view).incoming("n1", append(1, 1, 2, 3, 3))
    assert passed is not None
    assert (passed["prevLogIdx"], [e[2] for e in passed["entries"]]) == (2, [3, 3])


def test_conflict_with_a_committed_entry_stops_the_peer() -> None:
    with pytest.raises(SafetyViolation, match=r"committed entry 3; .*directories of all peers"):
        MessageFilter(View([1, 2, 2, 2], commit=4)).incoming("n1", append(2, 2, 3))


@pytest.mark.parametrize(
    ("terms", "previous", "goes_on_at"),
    [([1, 3, 3], 9, 4), ([1, 2, 2, 2], 9, 3), ([1, 2, 2, 2], 4, 3)],
    ids=["gap in this term", "gap behind another term", "conflict"],
)
def test_mismatch_is_answered_with_a_place_that_cannot_run_in_circles(
    terms: list[int], previous: int, goes_on_at: int
) -> None:
    """S12."""
    view = View(terms, commit=2)
    passed, answer = MessageFilter(view).incoming("n1", append(previous, 3, 3, commit=9))
    assert passed is not None and passed["commit_index"] <= 2 and "prevLogIdx" not in passed
    assert answer is not None
    assert (answer["reset"], answer["success"]) == (True, False)
    assert answer["next_node_idx"] == goes_on_at


def test_append_from_before_the_log_matches_what_the_snapshot_covers() -> None:
    view = View([3, 3, 3], first=10, commit=11)
    passed, answer = MessageFilter(view).incoming("n1", append(5, 2, 2, 2))
    assert passed is not None and answer is not None and answer["success"]
    passed, _ = MessageFilter(view).incoming("n1", append(8, 2, 2, 3, 3, 3, 3))
    assert passed is not None
    assert (passed["prevLogIdx"], [e[1] for e in passed["entries"]]) == (12, [13])


def test_acknowledgement_of_another_term_is_dropped() -> None:
    """S3."""
    ack = {"type": "next_node_idx", "next_node_idx": 9, "reset": False, "success": True}
    filter_ = MessageFilter(View([1, 3]))
    assert filter_.incoming("n1", {**ack, "lt": 2}) == (None, None)
    assert filter_.incoming("n1", ack) == (None, None)
    assert filter_.incoming("n1", {**ack, "lt": 3})[0] is not None
    assert filter_.outgoing(ack) == {**ack, "lt": 3}


def test_leader_of_an_older_term_is_told() -> None:
    """S16."""
    passed, answer = MessageFilter(View([1, 3])).incoming("n1", append(1, 1, term=2))
    assert passed is None
    assert answer == {"type": "term_hint", "term": 3}


def test_second_vote_of_a_peer_in_a_term_is_dropped() -> None:
    filter_ = MessageFilter(View([1]))
    vote = {"type": "response_vote", "term": 3}
    assert filter_.incoming("n1", vote)[0] == vote
    assert filter_.incoming("n1", vote)[0] is None
    assert filter_.incoming("n2", vote)[0] == vote
    assert filter_.incoming("n1", {**vote, "term": 4})[0] is not None


@pytest.mark.parametrize("kind", ["apply_command", "apply_command_response", "rubbish"])
def test_what_is_not_known_reaches_nobody(kind: str) -> None:
    filter_ = MessageFilter(View([1]))
    assert filter_.incoming("n1", {"type": kind}) == (None, None)
    assert filter_.outgoing({"type": kind}) is None


def test_pieces_of_pickles_are_refused() -> None:
    """S18."""
    message = {**append(1, 1), "transmission": "start", "data": b"x"}
    assert MessageFilter(View([1])).incoming("n1", message) == (None, None)
