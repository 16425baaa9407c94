"""Waiting for a task: woken by what is about it, and only by that."""

from __future__ import annotations

import asyncio

from raftsched.core import codec
from raftsched.core.commands import (
    ENTRY_VERSION,
    AnyCommand,
    Batch,
    CancelTask,
    DeleteTask,
    Entry,
    PauseTask,
    SubmitTasks,
)
from raftsched.core.model import Task
from raftsched.peer.replica import Replica
from tests.unit.core.builders import new_task


class Bench:
    """A replica, fed one command an entry."""

    def __init__(self) -> None:
        self.replica = Replica("c")
        self.index = 0

    def apply(self, command: AnyCommand) -> None:
        self.index += 1
        batch = Batch("n1", 1, self.index, (command,))
        entry = codec.encode_entry(Entry(ENTRY_VERSION, 1, 1_000 + self.index, (batch,)))
        self.replica.apply(self.index, 1, entry)

    def submit(self, task_id: str) -> int:
        """The index of the task's row."""
        self.apply(SubmitTasks((new_task(task_id),)))
        return self.index

    def waiting(self, task_id: str, index: int, seconds: float = 30.0) -> asyncio.Task[Task | None]:
        return asyncio.create_task(self.replica.wait_changed(task_id, index, seconds))


async def _turns() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_wait_for_a_change_ends_with_a_change_of_that_task_only() -> None:
    bench = Bench()
    index = bench.submit("t")
    first, second = bench.waiting("t", index), bench.waiting("t", index + 3)
    await _turns()
    for n in range(3):
        bench.submit(f"other-{n}")
        await _turns()
    assert not first.done()
    bench.apply(PauseTask("t"))
    task = await first
    assert task is not None and task.paused and task.modify_index == bench.index
    assert await second is task, "the row is newer than its index too"
    assert not bench.replica._change_waiters


async def test_wait_for_a_change_that_is_not_new_enough_goes_on() -> None:
    bench = Bench()
    index = bench.submit("t")
    waiting = bench.waiting("t", index + 1)
    await _turns()
    bench.apply(PauseTask("t"))
    await _turns()
    assert not waiting.done()
    bench.apply(CancelTask("t"))
    task = await waiting
    assert task is not None and task.status == "cancelled"


async def test_wait_for_a_change_that_was_is_none() -> None:
    bench = Bench()
    index = bench.submit("t")
    task = await bench.waiting("t", index - 1)
    assert task is not None and task.modify_index == index


async def test_wait_for_a_change_ends_at_its_timeout_and_leaves_nothing() -> None:
    bench = Bench()
    index = bench.submit("t")
    task = await bench.waiting("t", index, 0.01)
    assert task is not None and task.modify_index == index
    assert not bench.replica._change_waiters


async def test_wait_for_a_change_ends_when_the_task_goes() -> None:
    bench = Bench()
    bench.submit("t")
    bench.apply(CancelTask("t"))
    waiting = bench.waiting("t", bench.index)
    await _turns()
    bench.apply(DeleteTask("t"))
    assert await waiting is None
    assert await bench.waiting("t", 0) is None


async def test_wait_for_a_change_ends_when_a_snapshot_brings_it() -> None:
    bench, ahead = Bench(), Bench()
    for each in (bench, ahead):
        each.submit("t")
    waiting = bench.waiting("t", 1)
    await _turns()
    ahead.apply(PauseTask("t"))
    bench.replica.restore(2, list(ahead.replica.begin_snapshot()))
    task = await waiting
    assert task is not None and task.paused
