"""An embedded peer: what its calls say when the cluster does not answer."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from raftsched import Peer
from raftsched.api.fanout import Made
from raftsched.api.retries import PartsGone
from raftsched.core.commands import AddSubtasks, AnyCommand
from raftsched.core.model import NewTask, Task
from raftsched.core.outcomes import Accepted, Outcome
from raftsched.core.policy import Extra
from raftsched.peer.config import PeerAddress, PeerConfig
from raftsched.peer.errors import (
    NoLeader,
    Overloaded,
    PeerError,
    PeerStopped,
    ReadTimeout,
    UnknownOutcome,
)
from raftsched.raft.log import LogStatus, Role
from tests.unit.core.builders import task


class Deaf(Peer):
    """A peer all of whose proposals and reads fail, with these errors in turn."""

    errors: list[PeerError]
    asked = 0

    def status(self) -> LogStatus:
        return LogStatus("n1", Role.FOLLOWER, 1, None, 0, 0, 0, 0, False, None, ())

    async def propose(self, command: AnyCommand, timeout_seconds: float = 10.0) -> Outcome:
        raise self._next()

    async def read(self, *_: object, **__: object) -> None:  # type: ignore[override]
        raise self._next()

    def _next(self) -> PeerError:
        self.asked += 1
        return self.errors[min(self.asked, len(self.errors)) - 1]


class Willing(Peer):
    """A peer whose proposals are all accepted, and remembered."""

    async def propose(self, command: AnyCommand, timeout_seconds: float = 10.0) -> Outcome:
        self.proposed = [*getattr(self, "proposed", []), command]
        return Accepted()

    async def add(self, task: Task, count: int, made: Made) -> None:
        await self._add_subtasks(task, count, made, 1.0)


def _config(tmp_path: Path, raft: str = "127.0.0.1:1") -> PeerConfig:
    peers = {"n1": PeerAddress(raft=raft, api="127.0.0.1:4")}
    for n in (2, 3):
        peers[f"n{n}"] = PeerAddress(raft=f"127.0.0.1:{n}", api=f"127.0.0.1:{3 + n}")
    return PeerConfig(
        cluster_id="c", peer_id="n1", peers=peers, data_dir=tmp_path, token="t", insecure=True
    )


def _deaf(tmp_path: Path, *errors: PeerError) -> Deaf:
    peer = Deaf(_config(tmp_path))
    peer.errors = list(errors)
    return peer


async def test_nobody_leads_for_the_whole_time_that_was_waited(tmp_path: Path) -> None:
    peer = _deaf(tmp_path, NoLeader("no leader for 0.1 s (1 peers reachable); retry later"))
    with pytest.raises(NoLeader) as caught:
        await peer.submit(["true"], timeout_seconds=0.5)
    found = re.fullmatch(r"no leader for (\d\.\d) s \(1 of 3 peers reachable\)", str(caught.value))
    assert found is not None and float(found[1]) >= 0.4, caught.value
    assert peer.asked > 1


async def test_overload_to_the_end_stays_an_overload(tmp_path: Path) -> None:
    peer = _deaf(tmp_path, Overloaded("the intake is full", retry_after_seconds=7))
    with pytest.raises(Overloaded, match=r"overloaded for 0.. s: the intake is full") as caught:
        await peer.cancel("t", timeout_seconds=0.3)
    assert caught.value.retry_after_seconds == 7


async def test_one_try_of_unknown_outcome_makes_that_of_all_unknown(tmp_path: Path) -> None:
    peer = _deaf(tmp_path, UnknownOutcome("no outcome within 10 s"), NoLeader("no leader"))
    with pytest.raises(UnknownOutcome):
        await peer.submit(["true"], timeout_seconds=0.3)
    assert peer.asked > 1


async def test_wait_asks_again_while_nobody_leads(tmp_path: Path) -> None:
    peer = _deaf(tmp_path, ReadTimeout("none leads"), ReadTimeout("none leads"), PeerStopped("end"))
    with pytest.raises(PeerStopped):
        await peer.wait("t")
    assert peer.asked == 3


async def test_peer_that_fails_to_start_leaves_nothing_that_takes_commands(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        peer = Peer(_config(tmp_path, f"127.0.0.1:{taken.getsockname()[1]}"))
        with pytest.raises(OSError):
            await peer.start()
    with pytest.raises(PeerStopped):
        await peer.submit(["true"], timeout_seconds=0.2)
    await peer.stop()


async def test_a_retry_whose_parts_are_gone_ends_what_it_had_begun(tmp_path: Path) -> None:
    def made(first: int) -> Iterator[NewTask]:
        yield from [NewTask("", b"x")] * 1_000
        raise PartsGone("old")

    peer = Willing(_config(tmp_path))
    with pytest.raises(PartsGone, match="the parts of old were deleted"):
        await peer.add(task("new", extra=Extra()), 1_200, made)
    end = peer.proposed[-1]
    assert isinstance(end, AddSubtasks)
    assert (end.task_id, end.tasks, end.failure[:19]) == ("new", (), "items-missing: the ")
