"""An embedded peer: what its calls say when the cluster does not answer."""

from __future__ import annotations

import re
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from raftsched import Peer
from raftsched.core.commands import AnyCommand
from raftsched.core.outcomes import Outcome, Reason, Rejected
from raftsched.core.state import State
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


class Answering(Peer):
    """A peer that is current, and whose proposals come to these outcomes or errors in turn."""

    answers: list[Outcome | PeerError]
    asked: list[AnyCommand]

    async def propose(self, command: AnyCommand, timeout_seconds: float = 10.0) -> Outcome:
        self.asked.append(command)
        answer = self.answers.pop(0)
        if isinstance(answer, PeerError):
            raise answer
        return answer

    async def read(self, *_: object, **__: object) -> State:
        return self.state


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


def _answering(tmp_path: Path, *answers: Outcome | PeerError) -> Answering:
    peer = Answering(_config(tmp_path))
    peer.answers, peer.asked = list(answers), []
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


UNKNOWN = UnknownOutcome("no outcome within 10 s")


async def test_what_a_try_of_unknown_outcome_has_deleted_was_there(tmp_path: Path) -> None:
    gone = Rejected(Reason.UNKNOWN_TASK, "t")
    assert await _answering(tmp_path, UNKNOWN, gone).delete("t") is True
    assert await _answering(tmp_path, gone).delete("t") is False
    gone = Rejected(Reason.UNKNOWN_SCHEDULE, "s")
    assert await _answering(tmp_path, UNKNOWN, gone).delete_schedule("s") is True
    assert await _answering(tmp_path, gone).unschedule("s") is False


async def test_a_refusal_behind_a_try_of_unknown_outcome_is_not_believed(tmp_path: Path) -> None:
    exists = Rejected(Reason.SCHEDULE_EXISTS, "s")
    fields: dict[str, Any] = {"every": "1h", "task": {"command": ["true"]}}
    with pytest.raises(ValueError, match="there is a schedule"):
        await _answering(tmp_path, exists).create_schedule("s", **fields)
    with pytest.raises(UnknownOutcome, match=r"there is a schedule 's'.*may have done it"):
        await _answering(tmp_path, UNKNOWN, exists).create_schedule("s", **fields)


async def test_every_try_has_the_same_key_and_ids(tmp_path: Path) -> None:
    trouble = (NoLeader("none"), UNKNOWN, Overloaded("full"), Rejected(Reason.NEEDS_VERSION))
    refused = Rejected(Reason.QUEUE_FULL, "q")
    asks: tuple[Callable[[Peer], Awaitable[Any]], ...] = (
        lambda peer: peer.submit(["true"]),
        lambda peer: peer.trigger_schedule("s"),
        lambda peer: peer.create_schedule("s", every="1h", task={"command": ["true"]}),
    )
    for ask in asks:
        peer = _answering(tmp_path, *trouble, refused)
        with pytest.raises(ValueError, match="queue"):
            await ask(peer)
        assert len(peer.asked) == 5
        assert all(command == peer.asked[0] for command in peer.asked)


@pytest.mark.parametrize(
    ("reason", "error"),
    [
        (Reason.UNKNOWN_TASK, KeyError),
        (Reason.UNKNOWN_SCHEDULE, KeyError),
        (Reason.TASK_TERMINAL, ValueError),
        (Reason.MODIFIED, ValueError),
        (Reason.OVERLOADED, ValueError),
    ],
)
async def test_refusals_are_said_in_the_words_of_python(
    tmp_path: Path, reason: Reason, error: type[Exception]
) -> None:
    with pytest.raises(error):
        await _answering(tmp_path, Rejected(reason, "x")).pause("x")


async def test_what_is_no_json_is_a_value_error_before_anything_is_asked(tmp_path: Path) -> None:
    peer = _answering(tmp_path)
    for ask in (
        peer.submit(["true"], env={"A": object()}),
        peer.schedule("s", task={"command": object()}),
        peer.edit("t", {"env": object()}),
        peer.run_template("t", {"a": object()}),
        peer.set_queue("q", concurrency=object()),
    ):
        with pytest.raises(ValueError, match="it is no JSON"):
            await ask
    assert peer.asked == []
