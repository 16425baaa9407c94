"""What is particular to the asynchronous client: many at once, its bounds, its imports."""

from __future__ import annotations

import asyncio
import subprocess
import sys

import pytest

from raftsched.client import AsyncClient, aio_transport, errors
from raftsched.client.aio_pipeline import AsyncSubmission
from raftsched.core.commands import CancelTask
from raftsched.peer.errors import NoLeader, UnknownOutcome
from tests.unit.api.fake_service import TOKEN
from tests.unit.api.harness import serving
from tests.unit.client.stub import TASK, Answer, Stub, sequence


async def test_a_task_from_its_submission_to_its_output() -> None:
    async with serving() as api, AsyncClient(api.address, token=TOKEN) as client:
        api.service.add_node("n1")
        task = await client.submit(["true"], name="x")
        waiting = asyncio.create_task(task.wait(5))
        await asyncio.sleep(0)
        api.service.run(task.id, output=b"done\n")
        assert (await waiting).state == "succeeded"
        assert b"".join([piece async for piece in task.output(follow=True)]) == b"done\n"
        assert [found.id async for found in client.list()] == [task.id]
        with pytest.raises(errors.NotFound):
            await client.get("nope")


async def test_many_share_a_client_at_once() -> None:
    async with serving() as api, AsyncClient(api.address, token=TOKEN) as client:
        tasks = await asyncio.gather(*[client.submit(["true"], name=f"t{n}") for n in range(50)])
        assert len({task.id for task in tasks}) == 50
        assert len([task async for task in client.list(page=7)]) == 50


async def test_a_call_that_was_cancelled_leaves_the_client_as_it_was() -> None:
    async with serving() as api, AsyncClient(api.address, token=TOKEN) as client:
        task = await client.submit(["true"])
        waiting = asyncio.create_task(task.wait())
        await asyncio.sleep(0.01)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert (await client.get(task.id)).state == "queued"
        await client.cancel(task.id)


async def test_what_has_no_turn_in_time_was_surely_not_sent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(aio_transport, "REQUESTS_MAX", 1)
    async with serving() as api, AsyncClient(api.address, token=TOKEN) as client:
        task = await client.submit(["true"])
        waiting = asyncio.create_task(task.wait())
        await asyncio.sleep(0.01)
        with pytest.raises(errors.ConnectionFailed, match="1 requests of this client") as caught:
            await client.request("GET", "/v1/cluster", timeout_seconds=0.05)
        assert caught.value.applied is False
        api.service.apply(CancelTask(task.id))
        assert (await waiting).state == "cancelled"


async def test_a_closed_client_may_be_used_again() -> None:
    with Stub(sequence(Answer(200, TASK))) as stub:
        client = AsyncClient(stub.address, token="")
        await client.get("t-1")
        await client.close()
        assert (await client.get("t-1")).id == "t-1"
        await client.close()
    assert stub.connections == 2


async def test_pipelined_tasks_reach_the_state_and_a_bad_one_fails_alone() -> None:
    async with serving() as api, AsyncClient(api.address, token=TOKEN) as client:
        async with client.pipeline() as pipe:
            good = [await pipe.submit(["true"], name=f"t{n}") for n in range(20)]
            bad = await pipe.submit(["true"], priority="high")
            with pytest.raises(errors.InvalidRequest) as caught:
                await bad
        assert [error["pointer"] for error in caught.value.errors] == ["/priority"]
        ids = [(await submission).id for submission in good]
        assert [api.service.task(i).id for i in ids] == ids
        assert len(set(ids)) == len(api.state.tasks) == 20


async def test_a_pipelined_task_is_made_once_though_its_outcome_was_unknown() -> None:
    async with serving() as api, AsyncClient(api.address, token=TOKEN) as client:
        api.service.answer_trouble = UnknownOutcome("late")
        async with client.pipeline(linger_seconds=0) as pipe:
            submission = await pipe.submit(["true"])
            while not api.service.proposed:
                await asyncio.sleep(0)
            while not api.state.tasks:
                await asyncio.sleep(0)
            api.service.answer_trouble = None
            assert (await submission).id in api.state.tasks
        assert len(api.state.tasks) == 1


async def test_a_cancelled_pipeline_leaves_what_was_under_way_unknown() -> None:
    async with serving() as api, AsyncClient(api.address, token=TOKEN) as client:
        api.service.propose_trouble = NoLeader("gone")
        submissions: list[AsyncSubmission] = []

        async def submit() -> None:
            async with client.pipeline(linger_seconds=0) as pipe:
                submissions.append(await pipe.submit(["true"]))

        task = asyncio.create_task(submit())
        while not api.service.proposed:
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        with pytest.raises(errors.OutcomeUnknown):
            await submissions[0]


def test_the_synchronous_client_imports_nothing_asynchronous() -> None:
    code = (
        "import sys, raftsched.client; assert not {'asyncio', 'aiohttp'} & set(sys.modules);"
        "raftsched.client.AsyncClient; assert 'aiohttp' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
