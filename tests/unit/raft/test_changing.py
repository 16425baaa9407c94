"""The leader's steps: which one is next, and what each of them waits for."""

from __future__ import annotations

from typing import Any, cast

import pytest

from raftsched.raft.changing import ANSWERED_SECONDS, KNOWS, LAG_ENTRIES_MAX, MemberChanges
from raftsched.raft.log import ChangeRefused, PeerView
from raftsched.raft.membership import Address, Configuration, Membership, encode

AT = Address("h:1")


def voters(*peer_ids: str) -> dict[str, Address]:
    return dict.fromkeys(peer_ids, AT)


class Leader:
    """n1, that leads, with an engine, a prober and a hand-over that do as they are told."""

    def __init__(self, configuration: Configuration, *silent: str) -> None:
        self.membership = Membership("n1", configuration)
        self.is_leader = self.is_current = True
        self.leader, self.term = "n1", 3
        self.commit_index = self.last_index = 1_000
        self.matched: dict[str, int] = {}
        self.is_active = False
        self.hand_overs = 0
        heard = [p for p in self.membership.others if p not in silent]
        self.views = {p: PeerView(100.0, None, 0.0, 100.0, {KNOWS: True}) for p in heard}
        self.now = 100.0
        part = cast(Any, self)
        self.changes = MemberChanges(
            self.membership, part, part, part, lambda: tuple(self.views), lambda: self.now
        )

    def match_index(self, peer_id: str) -> int:
        return self.matched.get(peer_id, self.last_index)

    def append_configuration(self, configuration: Configuration) -> None:
        self.last_index += 1
        self.membership.appended(self.last_index, encode(configuration))

    def commit(self) -> None:
        self.commit_index = self.last_index

    def step(self) -> str:
        self.changes.step()
        return self.changes.waits_for


def test_learner_votes_once_it_has_caught_up() -> None:
    leader = Leader(Configuration(voters("n1", "n2", "n3"), voters("n4")))
    leader.matched["n4"] = leader.last_index - LAG_ENTRIES_MAX - 1
    assert leader.step() == f"n4 lacks {LAG_ENTRIES_MAX + 1} entries"
    assert list(leader.membership.now.learners) == ["n4"]
    leader.matched["n4"] += 1
    assert leader.step() == ""
    assert sorted(leader.membership.now.voters) == ["n1", "n2", "n3", "n4"]


def test_learner_that_fell_silent_does_not_vote() -> None:
    leader = Leader(Configuration(voters("n1", "n2", "n3"), voters("n4")))
    leader.now += ANSWERED_SECONDS + 0.1
    assert leader.step() == "n4 does not answer"
    assert leader.membership.now.learners


def test_learner_that_would_cost_the_majority_does_not_vote() -> None:
    leader = Leader(Configuration(voters("n1", "n2", "n3"), voters("n4")), "n2", "n3")
    assert "n2, n3 did not answer" in leader.step()
    assert list(leader.membership.now.learners) == ["n4"]


def test_steps_wait_for_each_other_to_be_committed() -> None:
    leader = Leader(Configuration(voters("n1", "n2", "n3"), voters("n4"), {"n4": "n2"}))
    leader.step()
    index = leader.membership.index
    assert leader.step() == f"the change at index {index} is not committed yet"
    assert "n2" in leader.membership.now.voters
    leader.commit()
    leader.step()
    assert sorted(leader.membership.now.voters) == ["n1", "n3", "n4"]
    leader.commit()
    assert leader.step() == ""


def test_replaced_member_stays_while_its_going_would_cost_the_majority() -> None:
    leader = Leader(Configuration(voters("n1", "n2", "n3", "n4"), {}, {"n4": "n2"}), "n3", "n4")
    assert "n3, n4 did not answer" in leader.step()
    assert "n2" in leader.membership.now.voters


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"is_current": False}, "has not applied an entry"),
        ({"is_active": True}, "is being handed over"),
    ],
)
def test_nothing_is_begun_meanwhile(change: dict[str, Any], why: str) -> None:
    leader = Leader(Configuration(voters("n1", "n2", "n3"), voters("n4")))
    vars(leader).update(change)
    assert why in leader.step()
    with pytest.raises(ChangeRefused, match=why):
        leader.changes.begin({}, "n2")
    assert leader.last_index == 1_000


def test_follower_takes_no_step() -> None:
    leader = Leader(Configuration(voters("n1", "n2", "n3"), voters("n4")))
    leader.is_leader = False
    assert leader.step() == ""
    assert leader.last_index == 1_000


@pytest.mark.parametrize(
    ("add", "remove", "why"),
    [
        ({"n9": AT}, None, "was removed before"),
        ({"n4": AT}, None, "h:1 is the address of n"),
        ({"n4": Address("h:4")}, "n9", "is not a member, so nobody can replace it"),
        ({}, "n1", "leadership has to be handed over first"),
    ],
)
def test_what_is_not_allowed_is_refused(
    add: dict[str, Address], remove: str | None, why: str
) -> None:
    leader = Leader(Configuration(voters("n1", "n2", "n3"), removed=("n9",)))
    with pytest.raises(ChangeRefused, match=why):
        leader.changes.begin(add, remove)
    assert leader.last_index == 1_000


def test_one_peer_is_added_at_a_time() -> None:
    leader = Leader(Configuration(voters("n1", "n2", "n3"), voters("n4")))
    with pytest.raises(ChangeRefused, match="n4 is being added"):
        leader.changes.begin({"n5": Address("h:5")}, None)


def test_addition_is_given_up_by_removing_the_learner() -> None:
    leader = Leader(Configuration(voters("n1", "n2", "n3"), voters("n4")), "n4")
    leader.changes.begin({}, "n4")
    assert (leader.membership.now.learners, leader.membership.now.removed) == ({}, ("n4",))
