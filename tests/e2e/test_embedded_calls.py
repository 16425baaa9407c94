"""Everything that a peer in a program can be asked for beside submitting and waiting."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from raftsched import App, Peer, load_config
from raftsched.client.aio import AsyncClient
from raftsched.core.schedule import edited_at
from raftsched.core.versions import WORKFLOWS
from raftsched.peer.config import PeerConfig
from tests.e2e.cluster import TOKEN, Cluster

pytestmark = pytest.mark.timeout(60)


def _config(cluster: Cluster, peer_id: str) -> PeerConfig:
    return load_config(cluster.config, peer_id, cluster.directory / peer_id)


@pytest.fixture
def cluster(tmp_path: Path) -> Cluster:
    return Cluster(tmp_path, size=1)


@pytest.fixture
async def peer(cluster: Cluster) -> AsyncIterator[Peer]:
    async with Peer(_config(cluster, "n1")) as peer:
        yield peer


@pytest.fixture
async def client(cluster: Cluster, peer: Peer) -> AsyncIterator[AsyncClient]:
    """Asks the same peer over HTTP."""
    async with AsyncClient(f"127.0.0.1:{cluster.api['n1']}", token=TOKEN) as client:
        yield client


async def _all(items: AsyncIterator[Any]) -> list[Any]:
    return [item async for item in items]


async def test_a_task_is_held_changed_and_let_go(peer: Peer) -> None:
    task = await peer.submit(["true"], not_before="1h", name="late", labels={"team": "a"})
    assert (await peer.pause(task.id)).paused
    assert not (await peer.resume(task.id)).paused
    explained = await peer.explain(task.id)
    assert (explained["task"], explained["state"]) == (task.id, "waiting")
    assert await peer.edit(task.id, {"priority": 90}, dry_run=True) == {"valid": True}
    edited = await peer.edit(task.id, {"priority": 90})
    assert (edited.priority, (await peer.get(task.id)).priority) == (90, 90)
    with pytest.raises(ValueError, match="modif"):
        await peer.edit(task.id, {"priority": 80}, if_index=task.modify_index)
    with pytest.raises(ValueError, match=r"^/colour: unknown field"):
        await peer.edit(task.id, {"colour": 1})
    with pytest.raises(ValueError, match="only a task that has ended"):
        await peer.delete(task.id)
    seen = await peer.watch_task(edited, 0.1)
    assert seen == edited
    await peer.run_now(task.id)
    assert (await peer.watch_task(edited, 10)).modify_index > edited.modify_index
    assert (await peer.wait(task.id, None)).status == "succeeded"
    with pytest.raises(ValueError, match="has ended"):
        await peer.pause(task.id)
    [attempt] = await peer.attempts(task.id)
    assert (attempt.number, attempt.status) == (1, "succeeded")
    assert await peer.delete(task.id) is True
    assert await peer.delete(task.id) is False
    unknown = (
        peer.get, peer.pause, peer.resume, peer.run_now, peer.explain, peer.attempts, peer.tree,
    )  # fmt: skip
    for ask in unknown:
        with pytest.raises(KeyError):
            await ask(task.id)
    assert await peer.submit(["true"], dry_run=True) == {"valid": True}
    assert await peer.map(["true"], [1], dry_run=True) == {"valid": True}
    assert await _all(peer.list()) == []


async def test_a_pause_of_a_tree_holds_its_parts(peer: Peer, client: AsyncClient) -> None:
    await peer.wait((await peer.submit(["true"])).id, 20)
    await peer.cordon("n1")
    parts = [{"name": "a", "command": ["true"]},
             {"name": "b", "command": ["true"], "depends_on": ["a"]}]  # fmt: skip
    flow = await peer.submit(workflow={"tasks": parts})
    await peer.pause(flow.id)
    await peer.uncordon("n1")
    other = await peer.submit(["true"])
    await peer.wait(other.id, 20)
    assert (await peer.progress(flow.id))[:2] == (0, 2)
    tree = await peer.tree(flow.id)
    assert [item["name"] for item in tree["items"]] == ["a", "b"]
    assert (await peer.tree(flow.id, 1))["items"] == tree["items"][:1]
    there = await client.tree(flow.id)
    assert {**tree, "index": 0} == {**there, "index": 0}
    told: list[int] = []
    await peer.resume(flow.id)
    ended = await peer.wait(flow.id, 20, progress=lambda p: told.append(p.done))
    assert (ended.status, told[-1]) == ("succeeded", 2)


async def test_tasks_are_listed_and_changed_by_a_filter(peer: Peer, client: AsyncClient) -> None:
    documents = [
        {"command": ["true"], "queue": f"q{n % 2}", "not_before": "1h", "labels": {"n": f"{n}"}}
        for n in range(7)
    ]
    told: list[int] = []
    made = await peer.submit_batch(
        [*documents, {"command": 1}], idempotency_key="k", progress=told.append
    )
    assert (made.created, told, [at for at, _ in made.refused]) == (7, [8], [7])
    again = await client.submit_batch([*documents, {"command": 1}], idempotency_key="k")
    assert again.ids == made.ids, "the key means the same from outside"
    assert (await peer.submit_batch(documents, dry_run=True)).accepted == 7
    with pytest.raises(ValueError):
        await peer.submit_batch([{"command": object()}])
    with pytest.raises(ValueError):
        await peer.submit_batch([{"command": ["true"]}, {}], atomic=True)

    newest = [task.id async for task in peer.list(queue="q0", page=2)]
    assert newest == [task.id async for task in client.list(queue="q0")]
    assert len(newest) == 4
    assert [task.id async for task in peer.list(queue="q0", limit=3, page=2)] == newest[:3]
    assert len(await _all(peer.list(label=["n:4", "n:5"]))) == 0
    assert len(await _all(peer.list(label="n:4"))) == 1
    filters: tuple[dict[str, Any], ...]
    filters = ({"colour": "red"}, {"state": "odd"}, {"since": "yesterday"})
    for wrong in filters:
        with pytest.raises(ValueError):
            await _all(peer.list(**wrong))

    assert (await peer.pause_many(queue="q0", dry_run=True))["matched"] == 4
    paused = await peer.pause_many(queue="q0")
    assert (paused["matched"], paused["changed"], sorted(paused["ids"])) == (4, 4, sorted(newest))
    assert (await peer.resume_many(queue="q0", limit=1)) == {
        "matched": 1, "changed": 1, "ids": newest[:1], "more": True, "refused": [],
    }  # fmt: skip
    assert (await peer.edit_many({"priority": 7}, queue="q0"))["changed"] == 4
    assert {task.priority async for task in peer.list(queue="q0")} == {7}
    assert (await peer.run_many(queue="q0"))["changed"] == 4
    for task_id in newest:
        await peer.wait(task_id, 20)
    assert (await peer.delete_many(state="succeeded"))["changed"] == 4
    assert (await peer.cancel_many(queue="q1", reason="no need"))["changed"] == 3
    assert {task.reason async for task in peer.list(state="cancelled")} == {"no need"}
    assert (await peer.retry_many(state="cancelled"))["changed"] == 3
    filters = ({}, {"queue": ""}, {"queue": "q0", "limit": 0}, {"colour": "red"})
    for wrong in filters:
        with pytest.raises(ValueError):
            await peer.cancel_many(**wrong)


async def test_output_and_results_are_read_here_and_from_other_nodes(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path)
    gate = tmp_path / "gate"
    script = f"echo begin; while [ ! -e {gate} ]; do sleep 0.05; done; echo end"
    async with contextlib.AsyncExitStack() as stack:
        peers = [Peer(_config(cluster, peer_id)) for peer_id in cluster.ids]
        await asyncio.gather(*[stack.enter_async_context(peer) for peer in peers])
        async with asyncio.timeout(20):
            while any(peer.state.version < WORKFLOWS for peer in peers):
                await asyncio.sleep(0.02)
        task = await peers[0].submit(script, shell=True)
        following = [
            asyncio.create_task(_all(peer.output(task.id, 1, follow=True))) for peer in peers[1:]
        ]
        async with asyncio.timeout(20):
            while not (await peers[0].get(task.id)).attempt:
                await asyncio.sleep(0.02)
        following += [asyncio.create_task(_all(p.output(task.id, follow=True))) for p in peers]
        gate.touch()
        for pieces in await asyncio.gather(*following[2:]):
            assert b"".join(pieces) == b"begin\nend\n"
        # Asked before there was an attempt, which is then unknown, or there already.
        for found in await asyncio.gather(*following[:2], return_exceptions=True):
            assert isinstance(found, KeyError | list)
        left = "echo '[1,  2]' > $RAFTSCHED_RESULT_FILE"
        other = await peers[0].submit(left, shell=True)
        await peers[0].wait(other.id, 20)
        for peer in peers:
            assert b"".join(await _all(peer.output(task.id, offset=6))) == b"end\n"
            assert b"".join(await _all(peer.output(task.id, tail=4))) == b"end\n"
            assert json.loads(await peer.result_json(other.id, 1)) == [1, 2]
            assert await peer.result(other.id) == [1, 2]
            with pytest.raises(KeyError):
                await peer.result(other.id, 2)
            with pytest.raises(KeyError):
                await _all(peer.output("unknown"))


async def test_schedules_are_kept_looked_at_and_run(peer: Peer, client: AsyncClient) -> None:
    task = {"command": ["true"]}
    made = await peer.create_schedule("nightly", cron="0 2 * * *", task=task, idempotency_key="k")
    same = await peer.create_schedule("nightly", cron="0 2 * * *", task=task, idempotency_key="k")
    assert (made.version, edited_at(made)) == (1, edited_at(same))
    assert edited_at(await peer.schedule("nightly")) == edited_at(made)
    with pytest.raises(ValueError, match="there is a schedule"):
        await peer.create_schedule("nightly", cron="0 2 * * *", task=task)
    plan = await peer.put_schedule("nightly", cron="0 3 * * *", task=task, dry_run=True)
    assert plan == {"valid": True, "action": "update", "fields": ["cron"]}
    put = await peer.put_schedule("nightly", cron="0 3 * * *", task=task, if_match=edited_at(made))
    with pytest.raises(ValueError, match="was asked for; read it again"):
        await peer.put_schedule("nightly", cron="0 4 * * *", task=task, if_match=edited_at(made))
    edited = await peer.edit_schedule("nightly", zone="Europe/Berlin")
    assert (put.version, edited.version) == (2, 3)
    with pytest.raises(ValueError, match=r"^/zone: "):
        await peer.edit_schedule("nightly", zone="Mars/Olympus")
    assert (await peer.pause_schedule("nightly")).paused
    assert not (await peer.resume_schedule("nightly")).paused

    previews = [await peer.preview_schedule("nightly", n=3, after="2026-10-24T00:00:00Z")]
    previews.append(
        await peer.preview_schedule(
            cron="0 3 * * *", zone="Europe/Berlin", n=3, after="2026-10-24T00:00:00Z"
        )
    )
    for preview in previews:
        assert [slot["offset"] for slot in preview["items"]] == ["+02:00", "+01:00", "+01:00"]
    for wrong in ({"cron": "61 * * * *"}, {"every": "1h", "n": 0}, {"every": "1h", "after": "x"}):
        with pytest.raises(ValueError):
            await peer.preview_schedule(**wrong)

    run = await peer.trigger_schedule("nightly", idempotency_key="now")
    assert (await peer.trigger_schedule("nightly", idempotency_key="now")).id == run.id
    assert (await peer.wait(run.id, 20)).status == "succeeded"
    [slot] = await _all(peer.slots("nightly"))
    assert (slot["task"], slot["reason"]) == (run.id, "triggered")
    assert [slot] == await _all(client.slots("nightly"))

    await peer.schedule("often", ["true"], every="100ms", paused=True, overlap="allow")
    since, until = "2025-01-01T00:00:00Z", "2025-01-01T00:00:02Z"
    dry = await peer.backfill_schedule("often", since, until, dry_run=True)
    assert (len(dry["instants"]), dry["tasks"], dry["next_from"]) == (20, [], None)
    done = await peer.backfill_schedule("often", since, until)
    assert (done["instants"], len(done["tasks"])) == (dry["instants"], 20)
    assert (await peer.backfill_schedule("often", since, until))["tasks"] == []
    more = await peer.backfill_schedule("often", since, dry_run=True)
    assert len(more["instants"]) == 1_000 and more["next_from"] > more["instants"][-1]
    assert {slot["reason"] async for slot in peer.slots("often")} == {"backfill"}
    with pytest.raises(ValueError, match=r"^/from: "):
        await peer.backfill_schedule("often", "whenever")

    await peer.schedule("hourly", ["true"], every="1h")
    forecast = [expected["schedule"] async for expected in peer.forecast(limit=10)]
    assert len(forecast) == 10 and set(forecast) <= {"hourly", "nightly"}
    with pytest.raises(ValueError, match="ends after its begin"):
        await _all(peer.forecast("2026-01-02T00:00:00Z", "2026-01-01T00:00:00Z"))
    assert [row.name async for row in peer.schedules()] == ["hourly", "nightly", "often"]
    assert await peer.delete_schedule("often", tasks=True) is True
    assert await peer.delete_schedule("often") is False
    for unknown in (
        peer.schedule("often"), peer.pause_schedule("often"), peer.resume_schedule("often"),
        peer.trigger_schedule("often"), peer.backfill_schedule("often", since),
        peer.edit_schedule("often", cron="@daily"), peer.preview_schedule("often"),
        _all(peer.slots("often")),
    ):  # fmt: skip
        with pytest.raises(KeyError):
            await unknown


async def test_templates_are_looked_at_and_run(peer: Peer) -> None:
    task = {"command": ["sh", "-c", "exit $CODE"], "env": {"CODE": "${code}"}}
    parameters = {"code": {"type": "integer"}}
    plan = await peer.put_template("exit", task=task, parameters=parameters, dry_run=True)
    assert plan["action"] == "create"
    row = await peer.put_template("exit", task=task, parameters=parameters)
    assert (await peer.template("exit"), await _all(peer.templates())) == (row, [row])
    plan = await peer.put_template("exit", task=task, parameters=parameters, dry_run=True)
    assert plan == {"valid": True, "action": "none", "fields": []}
    with pytest.raises(ValueError, match="was asked for; read it again"):
        await peer.put_template("exit", task=task, parameters=parameters, if_match=1 << 40)
    made = await peer.run_template("exit", {"code": 0}, idempotency_key="k", priority=60)
    again = await peer.run_template("exit", {"code": 0}, idempotency_key="k", priority=60)
    assert (made.id, (await peer.wait(made.id, 20)).status) == (again.id, "succeeded")
    assert await peer.run_template("exit", {"code": 1}, dry_run=True) == {"valid": True}
    with pytest.raises(ValueError, match=r"^/parameters/code: "):
        await peer.run_template("exit", {"code": "none"})
    for unknown in (peer.template("none"), peer.run_template("none")):
        with pytest.raises(KeyError):
            await unknown


async def test_queues_limits_and_nodes_answer_as_a_client_has_them(
    peer: Peer, client: AsyncClient
) -> None:
    assert (await peer.set_queue("q", concurrency=3, max_depth=9))["concurrency"] == 3
    assert (await peer.pause_queue("q"))["paused"] is True
    waits = await peer.submit(["true"], queue="q")
    assert (await peer.purge_queue("q", dry_run=True))["matched"] == 1
    assert (await peer.purge_queue("q", reason="over"))["ids"] == [waits.id]
    assert (await peer.resume_queue("q"))["paused"] is False
    assert await peer.queue("q") == await client.queue("q")
    assert await _all(peer.queues()) == await _all(client.queues())
    with pytest.raises(ValueError, match="unknown field `colour`"):
        await peer.set_queue("q", colour=1)
    with pytest.raises(KeyError):
        await peer.queue("a b")
    assert (await peer.delete_queue("q"), await peer.delete_queue("q")) == (True, False)

    assert (await peer.set_limit("disk", count=2))["count"] == 2
    assert await peer.limit("disk") == await client.limit("disk")
    assert await _all(peer.limits()) == await _all(client.limits())
    with pytest.raises(ValueError, match=r"^/rate/per: "):
        await peer.set_limit("disk", rate={"count": 1, "per": 0})
    assert (await peer.delete_limit("disk"), await peer.delete_limit("disk")) == (True, False)

    assert (await peer.set_node_labels("n1", {"zone": "x"}))["labels"]["zone"] == "x"
    assert (await peer.cordon("n1"))["eligibility"] == "cordoned"
    assert [node["id"] for node in await peer.nodes()] == ["n1"]
    assert (await peer.uncordon("n1"))["eligibility"] == "eligible"
    assert (await peer.drain("n1", "5s"))["id"] == "n1"
    await peer.uncordon("n1")
    for wrong in (peer.set_node_labels("n1", {"a b": ""}), peer.drain("n1", "soon")):
        with pytest.raises(ValueError):
            await wrong
    for unknown in (peer.node("x"), peer.cordon("x"), peer.drain("x"), peer.uncordon("x"),
                    peer.set_node_labels("x", {})):  # fmt: skip
        with pytest.raises(KeyError):
            await unknown


async def test_a_flow_of_functions_runs_on_the_peer_of_its_program(
    cluster: Cluster, tmp_path: Path
) -> None:
    import msgspec

    (tmp_path / "flow_jobs.py").write_text(
        "from raftsched import App\napp = App('jobs')\n"
        "@app.task\ndef double(n): return 2 * n\n"
        "@app.task\ndef total(numbers): return sum(numbers)\n"
    )
    sys.path.append(str(tmp_path))
    try:
        import flow_jobs  # type: ignore[import-not-found]

        app: App = flow_jobs.app
        config = msgspec.structs.replace(_config(cluster, "n1"), apps=("flow_jobs:app",), workers=1)
        async with Peer(config) as peer:
            flow = app.map(flow_jobs.double, range(4)).then(flow_jobs.total)
            task = await peer.submit(**flow.document())
            assert (await peer.wait(task.id, 30)).status == "succeeded"
            [end] = flow.result_ids(task.id)
            assert await peer.result(end) == 12
    finally:
        sys.path.remove(str(tmp_path))
        sys.modules.pop("flow_jobs", None)
