"""Reads of a peer: how long they wait for a leader, and what they say when none comes."""

from __future__ import annotations

import asyncio
import time
from typing import Any, cast

import msgspec
import pytest

from raftsched.peer import reading
from raftsched.peer.errors import IndexNotReached, PeerStopped, ReadTimeout
from raftsched.peer.reading import Reader
from raftsched.peer.service import Consistency
from raftsched.raft.host import SystemClock
from raftsched.raft.log import LogClosed, LogStatus, NoQuorum, ReplicatedLog, Role
from raftsched.raft.membership import Address, Configuration


class FakeLog:
    """Answers reads with ``index`` when told to, and applies nothing."""

    def __init__(self) -> None:
        self.index: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self.is_closed = False
        self.current = LogStatus(
            peer_id="n1", role=Role.FOLLOWER, term=1, leader="n2", last_index=7, durable_index=7,
            commit_index=7, applied_index=7, is_current=True, last_contact_ms=5, connected=("n2",),
        )  # fmt: skip

    def members(self) -> Configuration:
        return Configuration({"n1": Address("h1:1"), "n2": Address("h2:1")})

    def status(self) -> LogStatus:
        return self.current

    async def read_index(self, timeout_seconds: float) -> int:
        if self.is_closed:
            raise LogClosed("the log was stopped")
        try:
            return await asyncio.wait_for(asyncio.shield(self.index), timeout_seconds)
        except TimeoutError:
            raise NoQuorum(f"no majority answered within {timeout_seconds:.1f} s") from None

    async def wait_applied(self, index: int, timeout_seconds: float) -> None:
        if index > self.current.applied_index:
            await asyncio.sleep(timeout_seconds)
            raise NoQuorum("not applied")


class Reading:
    """A reader of such a log."""

    def __init__(self) -> None:
        self.log = FakeLog()
        self._reader = Reader(cast(ReplicatedLog, self.log), SystemClock())

    async def read(
        self,
        consistency: Consistency = "linearizable",
        min_index: int = 0,
        timeout_seconds: float = 5.0,
    ) -> None:
        await self._reader.wait_until_current(consistency, min_index, timeout_seconds)


@pytest.fixture
async def peer(monkeypatch: pytest.MonkeyPatch) -> Reading:
    monkeypatch.setattr(reading, "LEADERLESS_SECONDS", 0.1)
    return Reading()


def log_of(peer: Reading, **changes: Any) -> FakeLog:
    log = peer.log
    log.current = msgspec.structs.replace(log.current, **changes)
    return log


def test_limit_is_within_the_second_that_is_promised() -> None:
    assert reading.LEADERLESS_SECONDS <= 0.9


@pytest.mark.parametrize(
    "changes",
    [
        {"leader": None, "last_contact_ms": None},
        {"connected": ("n3",)},
        {"last_contact_ms": 200},
        {"role": Role.LEADER, "leader": "n1", "last_contact_ms": 200},
        {"role": Role.LEADER, "leader": "n1", "last_contact_ms": None},
    ],
    ids=["none is known", "not connected", "silent", "majority lost", "majority never had"],
)
async def test_read_that_hears_no_leader_is_given_up_soon(
    peer: Reading, changes: dict[str, Any]
) -> None:
    log_of(peer, **changes)
    began = time.monotonic()
    with pytest.raises(ReadTimeout, match="consistency=local"):
        await peer.read()
    assert time.monotonic() - began < 2.0
    await peer.read("local")


async def test_read_waits_for_a_leader_that_is_slow_but_heard(peer: Reading) -> None:
    log = log_of(peer)
    asyncio.get_running_loop().call_later(0.35, log.index.set_result, 7)
    await peer.read()


async def test_read_is_given_up_when_the_slow_leader_falls_silent(peer: Reading) -> None:
    log_of(peer)
    asyncio.get_running_loop().call_later(0.25, lambda: log_of(peer, leader=None))
    began = time.monotonic()
    with pytest.raises(ReadTimeout, match="silent"):
        await peer.read()
    assert time.monotonic() - began < 2.0


async def test_read_ends_at_its_deadline_also_with_a_leader(peer: Reading) -> None:
    log_of(peer)
    with pytest.raises(ReadTimeout):
        await peer.read(timeout_seconds=0.25)


@pytest.mark.parametrize("consistency", ["linearizable", "local"])
async def test_index_of_the_future_is_told_from_a_missing_leader(
    peer: Reading, consistency: Consistency
) -> None:
    log = log_of(peer)
    log.index.set_result(7)
    with pytest.raises(IndexNotReached) as caught:
        await peer.read(consistency, 99, 0.05)
    text = str(caught.value)
    assert "index 99 was not applied on n1 within 0.1 s (it is at 7" in text
    assert "consistency" not in text
    await peer.read(consistency, 7, 0.05)


async def test_read_of_a_peer_that_stops_says_so(peer: Reading) -> None:
    log_of(peer).is_closed = True
    with pytest.raises(PeerStopped):
        await peer.read()
