"""An embedded peer whose tries get no answer: what is done once, and what is said of it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from raftsched import Peer
from raftsched.core import codec
from raftsched.core.commands import AnyCommand, CancelTask, UpdateSettings
from raftsched.core.model import Settings, TaskStatus
from raftsched.core.outcomes import Outcome, Reason, Rejected
from raftsched.core.state import State
from raftsched.peer.config import PeerAddress, PeerConfig
from raftsched.peer.errors import (
    IndexNotReached,
    NeedsVersion,
    PeerError,
    PeerStopped,
    ReadTimeout,
    TooLarge,
    UnknownOutcome,
)
from tests.unit.api.fake_service import FakeService

DAY = ("2023-11-10T00:00:00Z", "2023-11-11T00:00:00Z")
TASK = {"command": ["true"]}


class Unheard(Peer):
    """A peer over the real state, which does not hear so many of the next answers."""

    service: FakeService
    lost = 0
    #: What happens between a try whose answer was lost and the next one.
    between: Callable[[], object] = staticmethod(lambda: None)
    #: What is said instead of everything.
    trouble: PeerError | None = None

    @property
    def state(self) -> State:
        return self.service.state

    async def propose(self, command: AnyCommand, timeout_seconds: float = 10.0) -> Outcome:
        if self.trouble is not None:
            raise self.trouble
        outcome = await self.service.propose(command)
        if self.lost:
            self.lost -= 1
            self.between()
            raise UnknownOutcome("this peer caught up by a snapshot past the command")
        return outcome

    async def read(self, *_: object, **__: object) -> State:
        if self.trouble is not None:
            raise self.trouble
        return self.state


@pytest.fixture
def peer(tmp_path: Path) -> Unheard:
    address = PeerAddress(raft="127.0.0.1:1", api="127.0.0.1:2")
    made = Unheard(
        PeerConfig(
            cluster_id="c", peer_id="n1", peers={"n1": address}, data_dir=tmp_path, token="t",
            insecure=True,
        )
    )  # fmt: skip
    made.service = FakeService(2)
    return made


async def unheard(peer: Unheard, asked: Awaitable[Any], count: int = 1) -> Any:
    """What comes of it though the first answers are lost."""
    peer.lost = count
    try:
        return await asked
    finally:
        assert not peer.lost


# Done once ----------------------------------------------------------------------------------------


async def test_a_trigger_runs_once(peer: Unheard) -> None:
    await peer.schedule("s", ["true"], every="1h")
    run = await unheard(peer, peer.trigger_schedule("s"))
    assert [task.id async for task in peer.list()] == [run.id]


async def test_a_backfill_names_all_runs_that_it_made_though_a_try_before_made_them(
    peer: Unheard,
) -> None:
    await peer.schedule("s", ["true"], cron="0 */6 * * *", overlap="allow")
    made = await unheard(peer, peer.backfill_schedule("s", *DAY))
    assert made["next_from"] is None
    assert made["tasks"] == [f"s.20231110T{hour:02}0000Z" for hour in (0, 6, 12, 18)]
    assert len([task async for task in peer.list()]) == 4
    again = await unheard(peer, peer.backfill_schedule("s", *DAY))
    assert again["tasks"] == [], "all have a run"


async def test_a_backfill_that_found_no_room_the_second_time_may_have_made_some(
    peer: Unheard,
) -> None:
    await peer.schedule("s", ["true"], cron="* * * * *", overlap="queue")
    with pytest.raises(UnknownOutcome, match="as many runs of schedule 's' wait as may"):
        await unheard(peer, peer.backfill_schedule("s", *DAY))
    assert len([task async for task in peer.list()]) == 100
    with pytest.raises(ValueError, match="as many runs of schedule 's' wait as may"):
        await peer.backfill_schedule("s", *DAY)


async def test_a_schedule_that_was_put_counts_one_version(peer: Unheard) -> None:
    assert (await unheard(peer, peer.put_schedule("s", every="1h", task=TASK))).version == 1
    assert (await unheard(peer, peer.put_schedule("s", every="2h", task=TASK))).version == 2
    assert (await unheard(peer, peer.edit_schedule("s", every="3h"))).version == 3
    assert (await unheard(peer, peer.create_schedule("t", every="1h", task=TASK))).version == 1


async def test_edits_of_many_are_counted_though_a_try_before_did_them(peer: Unheard) -> None:
    ids = [(await peer.submit(["true"], queue="q")).id for _ in range(3)]
    answer = await unheard(peer, peer.edit_many({"priority": 90}, queue="q"), 3)
    assert (answer["matched"], answer["changed"], answer["refused"]) == (3, 3, [])
    assert [peer.service.task(task_id).priority for task_id in ids] == [90] * 3


async def test_a_cancel_that_ended_the_task_with_a_lost_try_says_so(peer: Unheard) -> None:
    task = await peer.submit(["true"])
    assert await unheard(peer, peer.cancel(task.id)) is True
    assert await peer.cancel(task.id) is False
    peer.service.add_node()
    failed = await peer.submit(["true"])
    peer.service.start(failed.id)
    peer.service.finish(failed.id, "failed")
    assert await unheard(peer, peer.cancel(failed.id)) is False


# Doubt --------------------------------------------------------------------------------------------


async def test_an_edit_is_not_refused_for_what_became_of_the_task_behind_it(peer: Unheard) -> None:
    task = await peer.submit(["true"], not_before="1h")
    peer.between = lambda: peer.service.apply(CancelTask(task.id))
    with pytest.raises(UnknownOutcome, match=r"cannot be edited; a try before.*may have done it"):
        await unheard(peer, peer.edit(task.id, {"priority": 90}))
    assert peer.service.task(task.id).priority == 90
    with pytest.raises(ValueError, match="cannot be edited"):
        await peer.edit(task.id, {"priority": 80})


async def test_a_change_that_named_an_index_is_in_doubt_if_it_is_another_now(peer: Unheard) -> None:
    row = await peer.put_schedule("s", every="1h", task=TASK)
    with pytest.raises(UnknownOutcome, match="may have done it"):
        await unheard(peer, peer.put_schedule("s", every="2h", task=TASK, if_match=row.edit_index))
    with pytest.raises(ValueError, match="read it again"):
        await peer.put_schedule("s", every="3h", task=TASK, if_match=row.edit_index)


@pytest.mark.parametrize("end", [PeerStopped("it stops"), NeedsVersion("old"), TooLarge("large")])
@pytest.mark.parametrize(
    "ask",
    [
        lambda peer: peer.submit(["true"]),
        lambda peer: peer.cancel("t"),
        lambda peer: peer.trigger_schedule("s"),
    ],
)
async def test_what_is_surely_not_done_now_may_have_been_done_before(
    peer: Unheard, ask: Callable[[Peer], Awaitable[Any]], end: PeerError
) -> None:
    peer.between = lambda: setattr(peer, "trouble", end)
    with pytest.raises(UnknownOutcome):
        await unheard(peer, ask(peer))
    with pytest.raises(type(end)):
        await ask(peer)


async def test_a_map_of_which_some_items_are_refused_is_made_in_part(peer: Unheard) -> None:
    peer.service.apply(UpdateSettings(Settings(tasks_open_max=100)))
    with pytest.raises(UnknownOutcome, match=r"not all subtasks of .* are made"):
        await peer.map(["true"], range(1_100))
    assert len([task async for task in peer.list()]) >= 1


async def test_a_cancel_that_is_refused_says_why_and_not_that_the_task_had_ended(
    peer: Unheard, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = await peer.submit(["true"])
    refused = Rejected(Reason.REPLICA_DIVERGENCE, "the replicas differ")
    monkeypatch.setattr(peer.service, "apply", lambda _: refused)
    with pytest.raises(ValueError, match="the replicas differ"):
        await peer.cancel(task.id)
    assert peer.service.task(task.id).status is TaskStatus.QUEUED


# Reads --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [ReadTimeout("nobody leads"), IndexNotReached("behind")])
async def test_a_read_is_tried_again_until_its_time_is_over(
    peer: Unheard, error: PeerError
) -> None:
    peer.trouble, began = error, peer.clock.monotonic()
    with pytest.raises(type(error)):
        await peer.get("t", timeout_seconds=0.5)
    assert peer.clock.monotonic() - began >= 0.3


async def _rest(peer: Unheard, items: AsyncIterator[Any]) -> list[Any]:
    """All of it, though a snapshot replaces the state behind the first."""
    found = [await anext(items)]
    old = peer.service.state
    chunks = list(codec.snapshot_chunks(old))
    old.end_snapshot()
    peer.service.state = codec.restore_state(chunks)
    for _ in old.take_apart():
        pass
    return found + [item async for item in items]


async def test_a_snapshot_in_the_middle_of_a_list_takes_nothing_out_of_it(peer: Unheard) -> None:
    for name in ("a", "b", "c"):
        await peer.schedule(name, ["true"], every="1h")
        await peer.put_template(name, task=TASK)
        await peer.set_queue(name, concurrency=5)
        await peer.set_limit(name, count=5)
    whole = await peer.map(["true"], range(3))
    assert len(await _rest(peer, peer.schedules())) == 3
    assert len(await _rest(peer, peer.templates())) == 3
    assert [view["concurrency"] for view in await _rest(peer, peer.queues())][:3] == [5, 5, 5]
    assert [view["count"] for view in await _rest(peer, peer.limits())] == [5, 5, 5]
    assert [line["index"] for line in await _rest(peer, peer.results(whole.id))] == [0, 1, 2]


# Keys ---------------------------------------------------------------------------------------------


async def test_a_key_is_bounded_as_it_is_over_http(peer: Unheard) -> None:
    asks: tuple[Callable[[str], Awaitable[Any]], ...] = (
        lambda key: peer.submit(["true"], idempotency_key=key),
        lambda key: peer.submit_batch([TASK], idempotency_key=key),
        lambda key: peer.create_schedule("s", every="1h", task=TASK, idempotency_key=key),
        lambda key: peer.trigger_schedule("s", idempotency_key=key),
        lambda key: peer.run_template("t", idempotency_key=key),
        lambda key: peer.retry("t", idempotency_key=key),
    )
    for ask in asks:
        for key in ("k" * 201, "a\0b"):
            with pytest.raises(ValueError, match="at most 200 printable characters"):
                await ask(key)
    assert peer.service.proposed == []
