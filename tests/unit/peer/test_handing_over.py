"""Leadership handed over because somebody asked, here or on another peer."""

from __future__ import annotations

import asyncio
from typing import cast

import msgspec
import pytest

from raftsched.peer import messages
from raftsched.peer.errors import NoLeader
from raftsched.peer.handing_over import HandOvers
from raftsched.raft.host import SystemClock
from raftsched.raft.log import LogClosed, LogStatus, NoQuorum, NotLeader, ReplicatedLog, Role


class FakeLog:
    """Of a peer n1, which leads; a transfer takes until ``done``."""

    def __init__(self) -> None:
        self.asked: list[str | None] = []
        self.done = asyncio.Event()
        self.error: Exception | None = None
        self.current = LogStatus(
            peer_id="n1", role=Role.LEADER, term=1, leader="n1", last_index=7, durable_index=7,
            commit_index=7, applied_index=7, is_current=True, last_contact_ms=5, connected=("n2",),
        )  # fmt: skip

    def status(self) -> LogStatus:
        return self.current

    def change(self, role: Role, leader: str | None, term: int = 1) -> None:
        self.current = msgspec.structs.replace(self.current, role=role, leader=leader, term=term)

    async def transfer_leadership(self, target: str | None, timeout_seconds: float) -> str:
        self.asked.append(target)
        await self.done.wait()
        if self.error is not None:
            raise self.error
        return target or "n2"


class Desk:
    """Hand-overs on such a log, and what they sent."""

    def __init__(self) -> None:
        self.log = FakeLog()
        self.sent: list[tuple[str, messages.AnyFrame]] = []
        self.is_connected = True
        self.hand_overs = HandOvers(cast(ReplicatedLog, self.log), SystemClock(), self._send)

    def _send(self, peer_id: str, frame: messages.AnyFrame) -> bool:
        self.sent.append((peer_id, frame))
        return self.is_connected


async def test_who_leads_already_is_not_asked() -> None:
    desk = Desk()
    assert await desk.hand_overs.run("n1") == "n1"
    assert desk.log.asked == [] and desk.sent == []


@pytest.mark.parametrize("error", [NotLeader("n2"), NoQuorum("nobody"), LogClosed("stopped")])
async def test_leader_that_cannot_hand_over_says_so(error: Exception) -> None:
    desk = Desk()
    desk.log.error = error
    desk.log.done.set()
    with pytest.raises(NoLeader, match="was not handed over"):
        await desk.hand_overs.run("n3")


async def test_follower_asks_the_leader_and_waits_for_another() -> None:
    desk = Desk()
    desk.log.change(Role.FOLLOWER, "n2")
    asking = asyncio.create_task(desk.hand_overs.run("n3"))
    await asyncio.sleep(0.02)
    assert desk.sent == [("n2", messages.HandOver("n3"))]
    desk.log.change(Role.FOLLOWER, None, 2)
    await asyncio.sleep(0.1)
    assert not asking.done()
    desk.log.change(Role.FOLLOWER, "n3", 2)
    assert await asyncio.wait_for(asking, 5) == "n3"


@pytest.mark.parametrize("leader", [None, "n2"])
async def test_follower_without_a_way_to_the_leader_says_so(leader: str | None) -> None:
    desk = Desk()
    desk.is_connected = False
    desk.log.change(Role.FOLLOWER, leader)
    with pytest.raises(NoLeader, match="cannot be reached") as caught:
        await desk.hand_overs.run(None)
    assert caught.value.leader == leader


async def test_questions_of_other_peers_make_one_hand_over_at_a_time() -> None:
    desk = Desk()
    for _ in range(50):
        desk.hand_overs.asked("n2")
    await asyncio.sleep(0)
    assert desk.log.asked == ["n2"]
    desk.log.done.set()
    await asyncio.sleep(0.01)
    desk.hand_overs.asked("n3")
    await asyncio.sleep(0.01)
    assert desk.log.asked == ["n2", "n3"]


async def test_question_for_somebody_else_is_left_alone() -> None:
    desk = Desk()
    desk.log.change(Role.FOLLOWER, "n2")
    desk.hand_overs.asked("n3")
    await asyncio.sleep(0)
    assert desk.log.asked == [] and desk.sent == []


async def test_question_that_cannot_be_answered_is_a_line_in_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    desk = Desk()
    desk.log.error = NoQuorum("nobody took over")
    desk.log.done.set()
    desk.hand_overs.asked("n2")
    desk.hand_overs.asked("n3")
    await asyncio.sleep(0.01)
    assert [record.levelname for record in caplog.records] == ["WARNING", "WARNING"]
    assert "n3 while it is handed over" in caplog.text and "nobody took over" in caplog.text


async def test_close_drops_what_is_under_way_and_begins_nothing() -> None:
    desk = Desk()
    desk.hand_overs.asked("n2")
    await asyncio.sleep(0)
    await desk.hand_overs.close()
    desk.log.done.set()
    desk.hand_overs.asked("n3")
    await desk.hand_overs.close()
    assert desk.log.asked == ["n2"] and len(asyncio.all_tasks()) == 1
