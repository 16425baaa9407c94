"""Leases: who may go on, who has surely stopped, and when neither is known."""

from __future__ import annotations

from typing import Any

import pytest

from raftsched.core.commands import CancelTask, NodeLeft, NodeLost
from raftsched.core.model import TaskStatus
from raftsched.core.state import State
from raftsched.peer.leases import DRIFT_MARGIN_SECONDS, GRANT_WINDOW_SECONDS, LeaseBook
from tests.unit.core.builders import Replica, finished, register

LEASE = 15.0
#: A lease granted at 0 has surely run out after this, whoever granted it.
LIMIT = LEASE + GRANT_WINDOW_SECONDS + DRIFT_MARGIN_SECONDS
A_BIT = 0.001
ELECTED_AT = 100.0
N1 = ("n1", "a")


def condemned_by(book: LeaseBook, state: State, now: float) -> list[tuple[str, str]]:
    """Whom the book condemns now."""
    return [(verdict.node_id, verdict.incarnation) for verdict in book.condemned(state, now)]


def leading(now: float = ELECTED_AT) -> LeaseBook:
    """The book of a peer that was elected just now."""
    book = LeaseBook(LEASE)
    book.elected(now)
    return book


def cluster(*nodes: tuple[str, str]) -> Replica:
    """A state that knows these incarnations."""
    replica = Replica()
    for node_id, incarnation in nodes or [N1]:
        replica.accepted(register(node_id, incarnation))
    return replica


# Granting --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("quorum_age", "granted"),
    [
        (0.0, True),
        (GRANT_WINDOW_SECONDS - A_BIT, True),
        (GRANT_WINDOW_SECONDS, True),
        (GRANT_WINDOW_SECONDS + A_BIT, False),
        (1e9, False),
        (None, False),
    ],
)
def test_a_lease_is_granted_only_under_a_fresh_quorum(
    quorum_age: float | None, granted: bool
) -> None:
    book = leading()
    assert book.grant(*N1, ELECTED_AT + 5, quorum_age) is granted
    assert book.age(*N1, ELECTED_AT + 5) == (0 if granted else 5)


def test_a_peer_that_was_never_elected_grants_nothing() -> None:
    assert not LeaseBook(LEASE).grant(*N1, 0.0, 0.0)


def test_a_deposed_peer_grants_nothing_and_condemns_nobody() -> None:
    book, state = leading(), cluster().state
    book.deposed()
    late = ELECTED_AT + 10 * LIMIT
    assert not book.grant(*N1, late, 0.0)
    assert condemned_by(book, state, late) == []
    assert book.age(*N1, late) == 0


def test_a_refused_grant_does_not_prolong_the_last_one() -> None:
    book, state = leading(), cluster().state
    book.grant(*N1, ELECTED_AT, 0.0)
    assert not book.grant(*N1, ELECTED_AT + LEASE, None)
    assert condemned_by(book, state, ELECTED_AT + LIMIT + A_BIT) == [N1]


def test_a_condemned_incarnation_is_never_granted_again() -> None:
    book, state = leading(), cluster().state
    late = ELECTED_AT + LIMIT + A_BIT
    assert condemned_by(book, state, late) == [N1]
    assert not book.grant(*N1, late, 0.0)
    assert not book.grant(*N1, late + 1_000, 0.0)


def test_the_next_incarnation_of_a_condemned_node_is_granted() -> None:
    book, state = leading(), cluster().state
    late = ELECTED_AT + LIMIT + A_BIT
    condemned_by(book, state, late)
    assert book.grant("n1", "b", late, 0.0)


# Condemning ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("age", "condemned"),
    [
        (0.0, []),
        (LEASE, []),
        (LEASE + GRANT_WINDOW_SECONDS, []),
        (LIMIT, []),
        (LIMIT + A_BIT, [N1]),
    ],
)
def test_a_node_is_condemned_only_after_lease_window_and_drift(
    age: float, condemned: list[Any]
) -> None:
    book, state = leading(), cluster().state
    granted_at = ELECTED_AT + 30
    book.grant(*N1, granted_at, 0.0)
    assert condemned_by(book, state, granted_at + age) == condemned


def test_a_new_leader_starts_every_timer_at_its_election() -> None:
    book, state = leading(0.0), cluster().state
    book.grant(*N1, 1.0, 0.0)
    book.elected(1_000.0)
    assert book.age(*N1, 1_000.0) == 0
    assert condemned_by(book, state, 1_000.0 + LIMIT) == []
    assert condemned_by(book, state, 1_000.0 + LIMIT + A_BIT) == [N1]


def test_a_new_election_forgets_the_verdicts_of_the_last_one() -> None:
    book, state = leading(0.0), cluster().state
    assert condemned_by(book, state, LIMIT + A_BIT) == [N1]
    book.deposed()
    book.elected(1_000.0)
    assert book.grant(*N1, 1_000.0, 0.0)


def test_a_registration_starts_the_timer() -> None:
    book, state = leading(), cluster().state
    registered_at = ELECTED_AT + 60
    book.seen(*N1, registered_at)
    assert condemned_by(book, state, registered_at + LIMIT) == []
    assert condemned_by(book, state, registered_at + LIMIT + A_BIT) == [N1]


def test_each_verdict_is_given_once() -> None:
    book, state = leading(), cluster().state
    late = ELECTED_AT + LIMIT + A_BIT
    assert condemned_by(book, state, late) == [N1]
    assert condemned_by(book, state, late + 100) == []


def test_only_the_silent_are_condemned_and_in_order() -> None:
    book = leading()
    state = cluster(("n3", "a"), ("n2", "a"), ("n1", "a")).state
    late = ELECTED_AT + LIMIT + A_BIT
    book.grant("n2", "a", late - 1, 0.0)
    assert condemned_by(book, state, late) == [("n1", "a"), ("n3", "a")]


@pytest.mark.parametrize("gone", [NodeLost("n1", "a"), NodeLeft("n1", "a")])
def test_a_node_that_is_known_to_be_gone_is_not_condemned(gone: Any) -> None:
    replica = cluster()
    replica.accepted(gone)
    assert condemned_by(leading(), replica.state, ELECTED_AT + 10 * LIMIT) == []


def test_an_old_incarnation_is_condemned_while_it_holds_attempts() -> None:
    replica = cluster()
    token = replica.bring("t1", TaskStatus.RUNNING)
    replica.accepted(register("n1", "b", clean=False))
    late = ELECTED_AT + LIMIT + A_BIT
    granted = leading()
    granted.grant("n1", "b", late, 0.0)
    assert condemned_by(granted, replica.state, late) == [("n1", "a")]
    replica.accepted(finished("t1", token))
    granted = leading()
    granted.grant("n1", "b", late, 0.0)
    assert condemned_by(granted, replica.state, late) == []


@pytest.mark.parametrize("cancelling", [False, True])
def test_a_node_that_left_is_condemned_while_it_holds_attempts(cancelling: bool) -> None:
    replica = cluster()
    replica.bring("t1", TaskStatus.ASSIGNED)
    if cancelling:
        replica.accepted(CancelTask("t1"))
    replica.accepted(NodeLeft("n1", "a"))
    assert condemned_by(leading(), replica.state, ELECTED_AT + LIMIT + A_BIT) == [N1]


def test_nobody_is_condemned_in_an_empty_cluster() -> None:
    assert leading().condemned(Replica().state, 1e9) == []


# Pardoning -------------------------------------------------------------------------------------


def test_a_pardoned_incarnation_is_granted_again() -> None:
    book, state = leading(), cluster().state
    late = ELECTED_AT + LIMIT + A_BIT
    condemned_by(book, state, late)
    book.pardon(*N1)
    assert book.grant(*N1, late, 0.0)
    assert condemned_by(book, state, late + LIMIT) == []


def test_a_pardoned_incarnation_that_stays_silent_is_condemned_again() -> None:
    book, state = leading(), cluster().state
    late = ELECTED_AT + LIMIT + A_BIT
    condemned_by(book, state, late)
    book.pardon(*N1)
    assert condemned_by(book, state, late) == [N1]


def test_a_pardon_touches_no_other_incarnation() -> None:
    book, state = leading(), cluster(("n1", "a"), ("n2", "a")).state
    late = ELECTED_AT + LIMIT + A_BIT
    assert condemned_by(book, state, late) == [("n1", "a"), ("n2", "a")]
    book.pardon("n1", "b")
    book.pardon("n2", "a")
    assert not book.grant("n1", "a", late, 0.0)
    assert book.grant("n2", "a", late, 0.0)


def test_pardoning_the_innocent_changes_nothing() -> None:
    book, state = leading(), cluster().state
    book.pardon(*N1)
    assert condemned_by(book, state, ELECTED_AT + LIMIT) == []
    assert condemned_by(book, state, ELECTED_AT + LIMIT + A_BIT) == [N1]
