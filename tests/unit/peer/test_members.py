"""Changes of the group, asked for: which version of the cluster they need, on whose word."""

from __future__ import annotations

from typing import Any, cast

import pytest

from raftsched.core.versions import MEMBERSHIP
from raftsched.peer.errors import NeedsVersion
from raftsched.peer.members import Members
from raftsched.peer.messages import AnyFrame, ChangeMembers, MembersTold
from raftsched.raft.log import LogStatus, Role
from raftsched.raft.membership import Address, Configuration
from tests.unit.peer.test_timekeeping import Clock

NEW = {"n4": Address("h4:1", "h4:2")}


class Log:
    """A log of ``n1``, which leads or follows ``n2``."""

    def __init__(self, role: Role) -> None:
        self.role = role
        self.changes: list[tuple[dict[str, Address], str | None]] = []
        self.change_waits_for = ""

    def status(self) -> LogStatus:
        leader = "n1" if self.role is Role.LEADER else "n2"
        return cast(LogStatus, Status(self.role, leader))

    async def change_membership(
        self, add: dict[str, Address], remove: str | None, timeout_seconds: float
    ) -> None:
        self.changes.append((add, remove))

    def members(self) -> Configuration:
        return Configuration()

    def peer_views(self) -> dict[str, Any]:
        return {}


class Status:
    """What is asked of a status."""

    def __init__(self, role: Role, leader: str) -> None:
        self.role, self.leader = role, leader
        self.connected: tuple[str, ...] = ("n2",)
        self.last_index = 7


class Bench:
    """The desk of ``n1``."""

    def __init__(self, version: int, role: Role = Role.LEADER) -> None:
        self.log, self.sent = Log(role), list[AnyFrame]()
        self.version, self.looks = version, 0
        self.members = Members(cast(Any, self.log), Clock(), "n1", self._send, self._in_force)

    def _in_force(self) -> int:
        """It rises at the third look."""
        self.looks += 1
        return self.version if self.looks < 3 else MEMBERSHIP

    def _send(self, peer_id: str, frame: AnyFrame) -> bool:
        self.sent.append(frame)
        if isinstance(frame, ChangeMembers):
            told = MembersTold(frame.number, "needs-version", "the leader says 2", ())
            self.members.frame("n2", told)
        return True


@pytest.mark.parametrize(("add", "remove"), [(NEW, ""), ({}, "n2"), (NEW, "n2")])
async def test_no_change_before_its_version_is_in_force(
    add: dict[str, Address], remove: str
) -> None:
    bench = Bench(MEMBERSHIP - 1)
    with pytest.raises(NeedsVersion, match="needs cluster version 3, 2 is in force"):
        await bench.members.change(add, remove, 0.0)
    assert bench.log.changes == []


async def test_change_is_made_once_its_version_is_in_force() -> None:
    bench = Bench(MEMBERSHIP)
    assert (await bench.members.change(NEW, "n2", 1.0)).is_done
    assert bench.log.changes == [(NEW, "n2")]


async def test_members_are_told_whatever_is_in_force() -> None:
    assert (await Bench(1).members.change({}, "", 1.0)).is_done


async def test_the_leaders_version_counts_not_that_of_who_is_asked() -> None:
    bench = Bench(MEMBERSHIP, Role.FOLLOWER)
    with pytest.raises(NeedsVersion, match="the leader says 2"):
        await bench.members.change(NEW, "", 0.0)


async def test_change_of_a_new_cluster_waits_for_its_version() -> None:
    bench = Bench(1)
    assert (await bench.members.change(NEW, "", 1.0)).is_done
    assert (bench.looks, bench.log.changes) == (3, [(NEW, None)])
