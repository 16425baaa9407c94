"""Runners that hang, are of another kind, or cannot be started: noticed, ended, replaced."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from raftsched.core.commands import AnyCommand
from raftsched.core.outcomes import Accepted, Outcome
from raftsched.core.spec import TaskSpec
from raftsched.executor import leftovers, messages
from raftsched.executor.client import RunnerClient, RunnerLost
from raftsched.executor.frames import LENGTH
from raftsched.executor.messages import StartAttempt
from raftsched.executor.runner_socket import listen, socket_address
from raftsched.peer.agent import NodeAgent
from raftsched.peer.config import PeerAddress, PeerConfig
from raftsched.peer.host import PeerHost
from raftsched.peer.replica import Replica

from .harness import running


def _runner(directory: Path) -> int:
    return int((directory / "runner.pid").read_text())


async def test_runner_that_hangs_at_the_start_is_ended_with_its_attempts(tmp_path: Path) -> None:
    async with running(tmp_path) as node:
        node.start("setsid sleep 100 & sleep 100", shell=True)
        await node.report(1, "started")
        hung = _runner(tmp_path)
        os.kill(hung, signal.SIGSTOP)
        await node.client.close(stop_runner=False)
        began = time.monotonic()
        client = await RunnerClient.adopt_or_start(tmp_path, lease_seconds=1.0)
        assert 1.0 <= time.monotonic() - began < 8.0
        assert (client.adopted, client.clean, client.inventory) == (False, True, {})
        assert leftovers.find(tmp_path) == []
        assert leftovers.runners(tmp_path) == [_runner(tmp_path)] != [hung]
        await client.close(stop_runner=False)


async def test_runner_that_answers_late_is_adopted_and_its_attempts_go_on(tmp_path: Path) -> None:
    async with running(tmp_path) as node:
        node.start("sleep", "100")
        await node.report(1, "started")
        os.kill(_runner(tmp_path), signal.SIGSTOP)
        await node.client.close(stop_runner=False)
        adopting = asyncio.create_task(RunnerClient.adopt_or_start(tmp_path, lease_seconds=30))
        _, waits = await asyncio.wait([adopting], timeout=0.5)
        assert waits
        os.kill(_runner(tmp_path), signal.SIGCONT)
        client = await adopting
        assert client.adopted
        assert client.incarnation == node.client.incarnation
        assert client.inventory[1].finished is None
        await client.close(stop_runner=False)


async def test_runner_that_holds_the_lock_and_does_not_listen_is_ended(tmp_path: Path) -> None:
    code = "import sys, time; f = open(sys.argv[1], 'a'); print(flush=True); time.sleep(60)"
    arguments = [sys.executable, "-c", code, str(tmp_path / leftovers.LOCK)]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE) as mute:
        assert mute.stdout is not None
        await asyncio.to_thread(mute.stdout.readline)
        async with running(tmp_path, lease_seconds=1.0) as node:
            assert not node.client.adopted
        assert mute.wait(5) == -signal.SIGKILL


async def test_silence_is_noticed_and_an_idle_runner_is_not_taken_for_silent(
    tmp_path: Path,
) -> None:
    async with running(tmp_path) as node:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1.0):
                await node.client.watch(0.3)
        os.kill(_runner(tmp_path), signal.SIGSTOP)
        async with asyncio.timeout(5):
            await node.client.watch(0.3)
        assert await asyncio.to_thread(leftovers.end_runner, tmp_path)
        assert leftovers.runners(tmp_path) == []


async def test_runner_of_another_version_is_told_to_end_and_is_not_spoken_to(
    tmp_path: Path,
) -> None:
    with listen(tmp_path) as listener:
        listener.settimeout(5)
        connecting = asyncio.create_task(RunnerClient._connect(tmp_path, 5))
        other, _ = await asyncio.to_thread(listener.accept)
        with other:
            other.sendall(messages.encode(messages.Hello(messages.RUNNER_PROTOCOL + 1, "x", ())))
            other.settimeout(5)
            said = await asyncio.to_thread(other.recv, 4096)
            assert messages.split(bytearray(said)) == [messages.Quit()]
            assert await connecting is None


async def test_large_attempts_are_given_in_several_frames(tmp_path: Path) -> None:
    async with running(tmp_path) as node:
        text = "x" * 64 * 1024
        attempts = [StartAttempt(token, f"t{token}", 1, TaskSpec(("true",), stdin=text))
                    for token in range(1, 601)]  # fmt: skip
        frames = [len(frame) for frame in messages.start_frames(attempts, 0)]
        assert len(frames) > 2
        assert max(frames) <= messages.FRAME_BYTES_MAX + LENGTH.size
        node.client.start(attempts, 0)
        node.client.stop(600, "heard all before this")
        await node.report(600)
        await node.client.close(stop_runner=False)
        client = await RunnerClient.adopt_or_start(tmp_path, lease_seconds=30)
        assert client.adopted
        assert list(client.inventory) == list(range(1, 601))
        await client.close(stop_runner=False)


async def test_long_inventory_comes_in_parts(tmp_path: Path) -> None:
    count = 2 * messages.PART_MAX + 1
    async with running(tmp_path) as node:
        node.client.start(
            [StartAttempt(t, f"t{t}", 1, TaskSpec(("true",))) for t in range(count)], 0
        )
        node.client.stop(count - 1, "heard all before this")
        await node.report(count - 1)
        await node.client.close(stop_runner=False)
        address, descriptor = socket_address(tmp_path)
        with socket.socket(socket.AF_UNIX) as peer:
            peer.connect(address)
            os.close(descriptor)
            peer.settimeout(5)
            buffer, hellos = bytearray(), list[messages.AnyMessage]()
            while len(hellos) < 3:
                buffer += peer.recv(65536)
                hellos += messages.split(buffer)
        assert [(len(h.inventory), h.more) for h in hellos if isinstance(h, messages.Hello)] == [
            (messages.PART_MAX, True),
            (messages.PART_MAX, True),
            (1, False),
        ]
        client = await RunnerClient.adopt_or_start(tmp_path, lease_seconds=30)
        assert list(client.inventory) == list(range(count))
        await client.close(stop_runner=False)


# The peer's side ---------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def _agent(directory: Path, lease_seconds: float) -> AsyncIterator[NodeAgent]:
    """A node whose every proposal is accepted."""

    async def accept(command: AnyCommand, timeout: float) -> Outcome:
        return Accepted()

    config = PeerConfig(
        cluster_id="c",
        peer_id="n1",
        peers={"n1": PeerAddress("127.0.0.1:7400", "127.0.0.1:7500")},
        data_dir=directory,
        lease_seconds=lease_seconds,
    )
    agent = NodeAgent(config, Replica("c"), PeerHost(), accept, lambda renew: None)
    task = asyncio.create_task(agent.run())
    try:
        yield agent
        assert not task.done()
    finally:
        task.cancel()
        await asyncio.wait([task])
        leftovers.end_runner(directory / "node")


async def test_peer_without_a_runner_says_so_and_tries_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "node").write_text("in the way")
    async with _agent(tmp_path, 2.0) as agent, asyncio.timeout(10):
        while not caplog.records:
            await asyncio.sleep(0.01)
        assert not agent.registered.is_set()
        (tmp_path / "node").unlink()
        await agent.registered.wait()
    [record] = [r for r in caplog.records if r.levelno >= logging.ERROR]
    assert record.getMessage().startswith("no runner yet, trying again: ")
    assert record.exc_info is None


async def test_peer_replaces_a_runner_that_hangs_and_registers_anew(tmp_path: Path) -> None:
    async with _agent(tmp_path, 1.0) as agent, asyncio.timeout(15):
        await agent.registered.wait()
        hung, incarnation = _runner(tmp_path / "node"), agent.incarnation
        os.kill(hung, signal.SIGSTOP)
        while agent.incarnation == incarnation:
            await asyncio.sleep(0.01)
        await agent.registered.wait()
        assert leftovers.runners(tmp_path / "node") == [_runner(tmp_path / "node")] != [hung]


async def test_runner_that_cannot_start_is_reported_at_once(tmp_path: Path) -> None:
    (tmp_path / "runner.pid").mkdir()
    began = time.monotonic()
    with pytest.raises(RunnerLost, match=r"did not start; see .*runner\.log"):
        await RunnerClient.adopt_or_start(tmp_path, lease_seconds=2)
    assert time.monotonic() - began < 8.0


def test_report_keeps_the_ends_of_a_long_reason() -> None:
    reason = messages.bounded("begin" + "x" * 60_000 + "end")
    assert len(reason) == messages.REASON_CHARS_MAX
    assert (reason[:5], reason[-3:]) == ("begin", "end")
    exact = "x" * messages.REASON_CHARS_MAX
    assert messages.bounded(exact) == exact
