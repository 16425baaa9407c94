"""Reads of a peer: how long they wait for a leader, and what they say when none comes."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest

from raftsched.peer import peer as peer_module
from raftsched.peer.config import PeerAddress, PeerConfig
from raftsched.peer.errors import IndexNotReached, PeerStopped, ReadTimeout
from raftsched.peer.peer import Peer
from raftsched.raft.log import LogClosed, LogStatus, NoQuorum, Role
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


@pytest.fixture
async def peer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Peer:
    monkeypatch.setattr(peer_module, "LEADERLESS_SECONDS", 0.1)
    peers = {
        f"n{n}": PeerAddress(raft=f"127.0.0.1:{n}", api=f"127.0.0.1:{9 + n}") for n in (1, 2, 3)
    }
    peer = Peer(
        PeerConfig(
            cluster_id="c", peer_id="n1", peers=peers, data_dir=tmp_path, token="t", insecure=True
        )
    )
    peer.log = FakeLog()  # type: ignore[assignment]
    return peer


def log_of(peer: Peer, **changes: Any) -> FakeLog:
    log = peer.log
    assert isinstance(log, FakeLog)
    log.current = msgspec.structs.replace(log.current, **changes)
    return log


def test_limit_is_within_the_second_that_is_promised() -> None:
    assert peer_module.LEADERLESS_SECONDS <= 0.9


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
    peer: Peer, changes: dict[str, Any]
) -> None:
    log_of(peer, **changes)
    began = time.monotonic()
    with pytest.raises(ReadTimeout, match="consistency=local"):
        await peer.read()
    assert time.monotonic() - began < 2.0
    assert await peer.read("local") is peer.state


async def test_read_waits_for_a_leader_that_is_slow_but_heard(peer: Peer) -> None:
    log = log_of(peer)
    asyncio.get_running_loop().call_later(0.35, log.index.set_result, 7)
    assert await peer.read() is peer.state


async def test_read_is_given_up_when_the_slow_leader_falls_silent(peer: Peer) -> None:
    log_of(peer)
    asyncio.get_running_loop().call_later(0.25, lambda: log_of(peer, leader=None))
    began = time.monotonic()
    with pytest.raises(ReadTimeout, match="silent"):
        await peer.read()
    assert time.monotonic() - began < 2.0


async def test_read_ends_at_its_deadline_also_with_a_leader(peer: Peer) -> None:
    log_of(peer)
    with pytest.raises(ReadTimeout):
        await peer.read(timeout_seconds=0.25)


@pytest.mark.parametrize("consistency", ["linearizable", "local"])
async def test_index_of_the_future_is_told_from_a_missing_leader(
    peer: Peer, consistency: Any
) -> None:
    log = log_of(peer)
    log.index.set_result(7)
    with pytest.raises(IndexNotReached) as caught:
        await peer.read(consistency, 99, 0.05)
    text = str(caught.value)
    assert "index 99 was not applied on n1 within 0.1 s (it is at 7" in text
    assert "consistency" not in text
    assert await peer.read(consistency, 7, 0.05) is peer.state


async def test_read_of_a_peer_that_stops_says_so(peer: Peer) -> None:
    log_of(peer).is_closed = True
    with pytest.raises(PeerStopped):
        await peer.read()
