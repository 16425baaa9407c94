"""When a peer hears strangers: after ten seconds without a leader, however it lost it."""

from __future__ import annotations

import random
from typing import Any, cast

from raftsched.raft.belonging import UNKNOWN_AFTER_SECONDS, Belonging
from raftsched.raft.elections import Elections
from raftsched.raft.host import Host
from raftsched.raft.membership import Address, Configuration, Membership


class Follower:
    """n1, which follows n2, with an engine and a transport that are looked at only."""

    peer_id = "n1"
    cluster_id = "c"
    election_min_seconds = 0.5

    def __init__(self) -> None:
        voters = dict.fromkeys(("n1", "n2", "n3"), Address("h:1"))
        self.seconds, self.is_leader, self.leader = 100.0, False, "n2"
        self.election_deadline = 1e9
        self.is_held = self.transfer_in_progress = False
        self.peers = {"n1": "h:1"}
        self.committed = Configuration(voters)
        part = cast(Any, self)
        membership = Membership("n1", self.committed)
        host = Host(clock=part, chance=random.Random(1))
        self.elections = Elections(part, membership, part, lambda peer, message: True, host)
        Belonging(part, membership, part, self.elections, part, part, self.monotonic)

    def monotonic(self) -> float:
        return self.seconds

    def configure(self) -> None: ...

    def set_members(self, addresses: dict[str, str], removed: tuple[str, ...]) -> None: ...

    def hears_strangers_after(self, seconds: float) -> bool:
        self.seconds += seconds
        return bool(cast(Any, self).is_open_to_all())


def test_strangers_are_heard_ten_seconds_after_the_leaders_link_broke() -> None:
    follower = Follower()
    follower.seconds += 1_000
    follower.elections.heard_leader()
    assert not follower.hears_strangers_after(1)
    follower.elections.link_lost("n2")
    assert not follower.hears_strangers_after(UNKNOWN_AFTER_SECONDS)
    assert follower.hears_strangers_after(0.1)


def test_strangers_are_heard_ten_seconds_after_the_leader_fell_silent() -> None:
    follower = Follower()
    follower.seconds += 1_000
    follower.elections.heard_leader()
    assert not follower.hears_strangers_after(UNKNOWN_AFTER_SECONDS)
    assert follower.hears_strangers_after(0.1)
    follower.elections.heard_leader()
    assert not follower.hears_strangers_after(0)


def test_strangers_are_heard_ten_seconds_after_a_start_without_a_leader() -> None:
    follower = Follower()
    assert not follower.hears_strangers_after(UNKNOWN_AFTER_SECONDS)
    assert follower.hears_strangers_after(0.1)


def test_leader_that_is_deposed_hears_no_strangers_at_once() -> None:
    follower = Follower()
    follower.seconds += 1_000
    follower.is_leader = True
    follower.elections.step()
    assert not follower.hears_strangers_after(0)
    follower.is_leader = False
    assert not follower.hears_strangers_after(UNKNOWN_AFTER_SECONDS)
    assert follower.hears_strangers_after(0.1)
