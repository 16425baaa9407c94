"""Output of deleted tasks goes from the disk, and no other does."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from raftsched.core.commands import Entry
from raftsched.core.outcomes import Applied, Event
from raftsched.executor import removal
from raftsched.executor.removal import OutputRemoval

from .test_hung import _agent


def _fill(directory: Path, *names: str) -> Path:
    folder = directory / "output"
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).write_text(name)
    return folder


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@contextlib.asynccontextmanager
async def _removing(each: OutputRemoval, current: asyncio.Event) -> AsyncIterator[None]:
    task = asyncio.create_task(each.run(current))
    try:
        async with asyncio.timeout(10):
            yield
        assert not task.done()
    finally:
        task.cancel()
        await asyncio.wait([task])


async def test_all_attempts_of_unknown_tasks_go_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(removal, "STEP_FILES", 3)
    kept = ["known.1.out", "with.dots.2.out", "notes", "a.out", "x.y.out", "gone.1.err"]
    kept += ["known.1.result", "known.1.part"]
    gone = ["gone.1.out", "gone.17.out", "with.1.out", "known.1.1.out", "1.1.out"]
    gone += ["gone.1.result", "gone.1.part"]
    folder = _fill(tmp_path, *kept, *gone)
    await OutputRemoval(tmp_path, {"known", "with.dots"}.__contains__).step()
    assert _names(folder) == sorted(kept)


async def test_node_without_output_has_nothing_to_remove(tmp_path: Path) -> None:
    await OutputRemoval(tmp_path, lambda task_id: False).step()
    assert list(tmp_path.iterdir()) == []


async def test_nothing_goes_before_the_state_is_current_then_what_was_deleted_meanwhile_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(removal, "GATHER_SECONDS", 0.0)
    folder = _fill(tmp_path, "a.1.out", "b.1.out", "old.1.out")
    tasks = set[str]()
    each, current = OutputRemoval(tmp_path, tasks.__contains__), asyncio.Event()
    async with _removing(each, current):
        for _ in range(5):
            each.look()
            await asyncio.sleep(0.01)
        assert _names(folder) == ["a.1.out", "b.1.out", "old.1.out"]
        tasks |= {"a", "b"}
        current.set()
        while _names(folder) != ["a.1.out", "b.1.out"]:
            await asyncio.sleep(0.005)
        tasks.remove("b")
        each.look()
        while _names(folder) != ["a.1.out"]:
            await asyncio.sleep(0.005)


async def test_file_that_cannot_be_removed_stops_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(removal, "GATHER_SECONDS", 0.0)
    folder = _fill(tmp_path)
    (folder / "stuck.1.out").mkdir()
    each, current = OutputRemoval(tmp_path, lambda task_id: False), asyncio.Event()
    current.set()
    async with _removing(each, current):
        while "stays for now" not in caplog.text:
            await asyncio.sleep(0.005)
        (folder / "stuck.1.out").rmdir()
        _fill(tmp_path, "gone.1.out")
        each.look()
        while _names(folder):
            await asyncio.sleep(0.005)


async def test_node_removes_the_output_of_a_task_when_its_deletion_is_applied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(removal, "GATHER_SECONDS", 0.0)
    folder = _fill(tmp_path / "node", "before.1.out")
    async with _agent(tmp_path, 2.0) as agent, asyncio.timeout(10):
        while _names(folder):
            await asyncio.sleep(0.005)
        assert agent.registered.is_set()
        _fill(tmp_path / "node", "t.1.out", "t.2.out")
        await asyncio.sleep(0.1)
        assert _names(folder) == ["t.1.out", "t.2.out"]
        agent.entry_applied(Entry(1, 1, 0, ()), Applied([], [Event("task_deleted", "t")]))
        while _names(folder):
            await asyncio.sleep(0.005)
