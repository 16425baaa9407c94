"""A peer inside a program: the whole of it, and nothing of it left behind."""

from __future__ import annotations

import asyncio
import socket
import sys
from pathlib import Path

import msgspec
import pytest

from raftsched import Peer, load_config
from raftsched.core.handlers.runs import run_id
from raftsched.core.model import TaskStatus
from raftsched.executor import leftovers
from raftsched.peer.errors import PeerStopped
from tests.e2e.cluster import Cluster, is_alive, runners, until

pytestmark = pytest.mark.timeout(60)


def _peer(cluster: Cluster, peer_id: str) -> Peer:
    return Peer(load_config(cluster.config, peer_id, cluster.directory / peer_id))


async def _led(peer: Peer) -> None:
    """A peer that has just started may not know a leader yet, and then takes nothing."""
    async with asyncio.timeout(5):
        while peer.status().leader is None or not peer.status().is_current:
            await asyncio.sleep(0.02)


async def _until_gone(cluster: Cluster) -> None:
    """No runner, no attempt and no asyncio task of ours is left."""
    await asyncio.to_thread(until, lambda: not runners(cluster.directory), 5)
    for peer_id in cluster.ids:
        assert leftovers.find(cluster.node_directory(peer_id)) == []
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_an_embedded_peer_says_its_schedules_at_every_start_and_they_run(
    tmp_path: Path,
) -> None:
    cluster = Cluster(tmp_path, size=1)
    async with _peer(cluster, "n1") as peer:
        for _ in range(2):
            row = await peer.schedule("tick", ["true"], every="0.2s", overlap="allow")
            assert row.version == 1
        async with asyncio.timeout(10):
            while len(done := peer.state.firings.slots_of("tick")) < 2:
                await asyncio.sleep(0.02)
        task = await peer.wait(f"{run_id('tick', done[0])}", 10)
        assert task.status == "succeeded"
        row = await peer.schedule("tick", every="1h", task={"command": ["true"], "timeout": "5s"})
        assert (row.version, row.paused) == (2, False)
        for wrong in ({"cron": "61 * * * *"}, {"every": "1h", "colour": 1}, {"every": object()}):
            with pytest.raises(ValueError):
                await peer.schedule("wrong", ["true"], **wrong)
        assert await peer.unschedule("tick", tasks=True) is True
        assert await peer.unschedule("tick") is False
    await _until_gone(cluster)


async def test_embedded_peer_runs_cancels_and_answers_http_and_leaves_nothing(
    tmp_path: Path,
) -> None:
    cluster = Cluster(tmp_path, size=1)
    async with _peer(cluster, "n1") as peer:
        # At once: nobody leads yet, and the submission waits for somebody.
        task = await peer.submit(["sh", "-c", "echo hello; exit 3"])
        task = await peer.wait(task.id, 10)
        assert (task.status, task.attempt) == ("failed", 1)
        assert peer.read_output(task.id, 1, "out", 0, 100).data == b"hello\n"

        with pytest.raises(ValueError, match="unknown field `timeuot`"):
            await peer.submit(["true"], timeuot="5s")
        with pytest.raises(ValueError, match="NUL"):
            await peer.submit(["echo", "\0"])
        keyed = [await peer.submit("exit 0", shell=True, idempotency_key="one") for _ in range(2)]
        assert keyed[0].id == keyed[1].id
        with pytest.raises(ValueError, match="another request"):
            await peer.submit("exit 1", shell=True, idempotency_key="one")

        endless = await peer.submit(["sleep", "60"], priority=90, name="endless")
        with pytest.raises(TimeoutError):
            await peer.wait(endless.id, 0.3)
        assert await peer.cancel(endless.id, "no need") is True
        assert (await peer.wait(endless.id, 10)).status == "cancelled"
        assert await peer.cancel(endless.id) is False
        for ask in (peer.wait, peer.cancel):
            with pytest.raises(KeyError):
                await ask("no-such-task")

        # The same state over HTTP, both ways.
        shown = await asyncio.to_thread(cluster.task, "n1", endless.id)
        assert (shown["state"], shown["name"], shown["priority"]) == ("cancelled", "endless", 90)
        other = await asyncio.to_thread(cluster.submit, "n1", ["true"])
        assert (await peer.wait(other, 10)).status == "succeeded"
        assert (
            await asyncio.to_thread(cluster.request, "n1", "GET", "/health/leader")
        ).status == 200
        assert len(runners(tmp_path)) == 1
    await _until_gone(cluster)
    with pytest.raises(PeerStopped):
        await peer.submit(["true"])
    with pytest.raises(OSError):
        await asyncio.to_thread(cluster.request, "n1", "GET", "/health/live")


async def test_attempt_outlives_the_program_and_the_next_one_adopts_it(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path, size=1, lease_seconds=6.0)
    gate = tmp_path / "gate"
    script = f"echo $$; while [ ! -e {gate} ]; do sleep 0.05; done; echo end"
    try:
        async with _peer(cluster, "n1") as peer:
            await _led(peer)
            task = await peer.submit(["sh", "-c", script])
            while peer.state.counts[TaskStatus.RUNNING] == 0:
                await peer.wait_index(peer.state.index, 5)
            output = cluster.node_directory("n1") / "output" / f"{task.id}.1.out"
            pid = int(await asyncio.to_thread(until, output.read_text))
        assert is_alive(pid)
        async with _peer(cluster, "n1") as peer:
            await _led(peer)
            gate.touch()
            assert (await peer.wait(task.id, 10)).status == "succeeded"
            rows = (await peer.wait(task.id, 1)).attempts
            assert [(row.number, row.status) for row in rows] == [(1, "succeeded")]
            assert peer.read_output(task.id, 1, "out", 0, 100).data == f"{pid}\nend\n".encode()
        await _until_gone(cluster)
    finally:
        await asyncio.to_thread(cluster.__exit__)


async def test_embedded_peer_calls_functions_of_the_program_it_is_in(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path, size=1)
    (tmp_path / "embedded_jobs.py").write_text(
        "from raftsched import App\napp = App('jobs')\n@app.task\ndef double(n): return 2 * n\n"
    )
    sys.path.append(str(tmp_path))
    try:
        config = load_config(cluster.config, "n1", tmp_path / "n1")
        config = msgspec.structs.replace(config, apps=("embedded_jobs:app",), workers=1)
        async with Peer(config) as peer:
            await _led(peer)
            call = {"function": "embedded_jobs:double", "args": [21]}
            task = await peer.wait((await peer.submit(python=call)).id, 10)
            assert (task.status, task.attempts[-1].result) == ("succeeded", b"42")
        await _until_gone(cluster)
    finally:
        sys.path.remove(str(tmp_path))


async def test_two_peers_in_one_program_are_a_cluster(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path, size=2)
    async with _peer(cluster, "n1") as one, _peer(cluster, "n2") as two:
        await _led(one)
        await _led(two)
        while len(one.state.nodes) < 2:
            await one.wait_index(one.state.index, 5)
        tasks = [await peer.submit(["true"]) for peer in (one, two) for _ in range(4)]
        ended = [await peer.wait(task.id, 10) for task in tasks for peer in (one, two)]
        assert {task.status for task in ended} == {"succeeded"}
        assert {task.node for task in ended} == {"n1", "n2"}
        assert one.status().leader == two.status().leader
    await _until_gone(cluster)


async def test_peer_whose_port_is_taken_fails_to_start_and_leaves_nothing(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path, size=1)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", cluster.api["n1"]))
        taken.listen()
        with pytest.raises(OSError):
            async with _peer(cluster, "n1"):
                pass
    await _until_gone(cluster)
    async with _peer(cluster, "n1") as peer:
        await _led(peer)
        assert (await peer.wait((await peer.submit(["true"])).id, 10)).status == "succeeded"
    await _until_gone(cluster)
