"""What a peer answers to one that would like to stand for election."""

from __future__ import annotations

import random
from typing import Any, cast

import pytest

from raftsched.raft.elections import Elections
from raftsched.raft.host import Host
from raftsched.raft.membership import Address, Configuration, Membership


class Voter:
    """n1 in term 16, whose log ends at (12, 100)."""

    election_min_seconds = 0.5
    term, last_term, last_index = 16, 12, 100
    is_leader = False

    def __init__(self) -> None:
        self.seconds = 100.0
        self.sent: list[dict[str, Any]] = []
        part = cast(Any, self)
        voters = dict.fromkeys(("n1", "n2", "n3"), Address("h:1"))
        host = Host(clock=part, chance=random.Random(1))
        self.elections = Elections(
            part, Membership("n1", Configuration(voters)), part, self.send, host
        )

    def monotonic(self) -> float:
        return self.seconds

    def send(self, peer_id: str, message: dict[str, Any]) -> bool:
        self.sent.append(message)
        return True

    def asked(self, term: int, log: tuple[int, int]) -> list[dict[str, Any]]:
        ask = {"term": term, "last_log_term": log[0], "last_log_index": log[1]}
        self.elections.asked("n2", ask)
        return self.sent


@pytest.mark.parametrize("term", [13, 16])
def test_whoever_asks_for_an_old_term_is_told_the_present_one(term: int) -> None:
    """Else one with the longer log, and one with the later term, would wait for ever."""
    assert Voter().asked(term, (12, 101)) == [{"type": "term_hint", "term": 16}]


@pytest.mark.parametrize("log", [(12, 100), (12, 101), (13, 2)])
def test_whoever_has_as_much_is_told_yes(log: tuple[int, int]) -> None:
    assert Voter().asked(17, log) == [{"type": "prevote_ok", "term": 17}]


@pytest.mark.parametrize("log", [(12, 99), (11, 500)])
def test_whoever_has_less_is_told_nothing(log: tuple[int, int]) -> None:
    assert Voter().asked(17, log) == []


def test_nobody_is_told_yes_while_a_leader_is_heard() -> None:
    voter = Voter()
    voter.elections.heard_leader()
    assert voter.asked(17, (12, 101)) == []
    voter.seconds += 0.6
    assert voter.asked(17, (12, 101)) == [{"type": "prevote_ok", "term": 17}]
