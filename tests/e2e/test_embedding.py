"""A peer inside a program: the whole of it, and nothing of it left behind."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from raftsched import Peer, load_config
from raftsched.core.handlers.runs import run_id
from raftsched.core.model import TaskStatus
from raftsched.core.versions import WORKFLOWS
from raftsched.executor import leftovers
from raftsched.peer.errors import OutputGone, PeerStopped
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


async def test_an_embedded_peer_tries_only_what_failed_again(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path, size=1)
    ran, mended = tmp_path / "ran", tmp_path / "mended"
    one = f'echo "$RAFTSCHED_ITEM" >> {ran}; [ "$RAFTSCHED_ITEM" != 1 ] || [ -e {mended} ]'
    command = ["sh", "-c", one + ' && echo "$RAFTSCHED_ITEM" > "$RAFTSCHED_RESULT_FILE"']
    async with _peer(cluster, "n1") as peer:
        task = await peer.map(command, range(1_200), on_failure="finish")
        assert (await peer.wait(task.id, 50)).status == "failed"
        assert sorted(map(int, ran.read_text().split())) == [*range(1_200)]
        ran.unlink()
        mended.touch()
        again = await peer.retry(task.id, only_failed=True, idempotency_key="k")
        assert (await peer.retry(task.id, only_failed=True, idempotency_key="k")).id == again.id
        assert (await peer.wait(again.id, 20)).status == "succeeded"
        assert ran.read_text().split() == ["1"]
        results = [line["result"] async for line in peer.results(again.id)]
        assert results == [*range(1_200)]
        with pytest.raises(ValueError, match="succeeded"):
            await peer.retry(again.id, only_failed=True)
        with pytest.raises(KeyError):
            await peer.retry("nothing")
    await _until_gone(cluster)


async def test_an_embedded_peer_keeps_templates_and_runs_them(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path, size=1)
    parameters = {"code": {"type": "integer", "enum": [3, 4]}}
    task = {"command": ["sh", "-c", "test $CODE -eq 3"], "env": {"CODE": "${code}"}}
    use = {"name": "exit", "parameters": {"code": 3}}
    async with _peer(cluster, "n1") as peer:
        for _ in range(2):
            row = await peer.put_template("exit", task=task, parameters=parameters)
            assert row.version == 1
        with pytest.raises(ValueError, match="none of 3, 4"):
            await peer.submit(template={**use, "parameters": {"code": 5}})
        made = await peer.submit(template=use)
        assert (await peer.wait(made.id, 10)).status == "succeeded"
        schedule = await peer.schedule("tick", every="1h", task={"template": use})
        assert schedule.version == 1
        wrong: tuple[dict[str, Any], ...] = (
            {}, {"task": {"command": "${x}"}}, {"task": object()},
        )  # fmt: skip
        for document in wrong:
            with pytest.raises(ValueError):
                await peer.put_template("wrong", **document)
        assert await peer.delete_template("exit") is True
        assert await peer.delete_template("exit") is False
    await _until_gone(cluster)


async def test_embedded_peer_has_results_however_large_and_wherever_they_are(
    tmp_path: Path,
) -> None:
    cluster = Cluster(tmp_path)
    async with contextlib.AsyncExitStack() as stack:
        peers = [_peer(cluster, peer_id) for peer_id in cluster.ids]
        await asyncio.gather(*[stack.enter_async_context(peer) for peer in peers])
        async with asyncio.timeout(20):
            while any(peer.state.version < WORKFLOWS for peer in peers):
                await asyncio.sleep(0.02)
        line = "(echo '['; seq -s, 300000; echo ']') > $RAFTSCHED_RESULT_FILE"
        large = await peers[0].submit(line, shell=True)
        small = await peers[0].submit("echo '{\"a\": 1}' > $RAFTSCHED_RESULT_FILE", shell=True)
        none = await peers[0].submit(["true"])
        for task in (large, small, none):
            await peers[0].wait(task.id, 20)
        for peer in peers:
            assert await peer.result(large.id) == list(range(1, 300_001))
            assert await peer.result(small.id) == {"a": 1}
            with pytest.raises(LookupError, match="succeeded and left no result"):
                await peer.result(none.id)
            with pytest.raises(KeyError):
                await peer.result("unknown")
        node = (await peers[0].wait(large.id)).node
        (cluster.node_directory(node) / "output" / f"{large.id}.1.result").unlink()
        for peer in peers:
            with pytest.raises(OutputGone):
                await peer.result(large.id)
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


async def test_embedded_peer_maps_and_tells_how_far_it_is(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path, size=1)
    async with _peer(cluster, "n1") as peer:
        # At once: the cluster does not know its version yet.
        few = await peer.map(["sh", "-c", 'test "$RAFTSCHED_ITEM" != 3'], [1, 2, 3], name="few",
                             on_failure="ignore")  # fmt: skip
        assert (await peer.wait(few.id, 20)).status == "succeeded"
        lines = [line async for line in peer.results(few.id)]
        assert [line["state"] for line in lines] == ["succeeded", "succeeded", "failed"]
        assert (await peer.progress(few.id)).counts == {"failed": 1, "succeeded": 2}
        many = await peer.map({"command": ["true"], "constraints": ["zone = x"]}, range(2_500))
        assert (await peer.progress(many.id))[:2] == (0, 2_500)
        assert many.extra is not None and many.extra.fork is not None
        assert not many.extra.fork.is_open, "all are there"
        assert await peer.cancel(many.id)
        flow = await peer.submit(
            workflow={"tasks": [{"name": "a", "command": ["true"]},
                                {"name": "m", "map": {"task": {"command": ["true"]}, "range": [4]},
                                 "depends_on": ["a"]}]},
        )  # fmt: skip
        await peer.wait(flow.id, 20)
        assert (await peer.progress(flow.id))[:2] == (5, 5)
        alone = await peer.submit(["true"])
        with pytest.raises(LookupError, match="was not split"):
            _ = [line async for line in peer.results(alone.id)]
        with pytest.raises(ValueError, match="with its item the task has"):
            await peer.map(["echo", "{item}"], ["x" * 200_000] * 1_001)
        for unknown in (peer.progress("x"), anext(aiter(peer.results("x")))):
            with pytest.raises(KeyError):
                await unknown
    await _until_gone(cluster)
