"""When a log has its turns: with a loop whose time the test moves."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from raftsched.raft.host import SystemClock
from raftsched.raft.pacing import IDLE_SECONDS_MAX, Pacer


class Timers:
    """The loop's timers, none of which runs by itself: (delay, what)."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.set: list[tuple[float, asyncio.Handle]] = []
        loop = asyncio.get_running_loop()

        def call_later(delay: float, what: Callable[[], None]) -> asyncio.Handle:
            handle = asyncio.Handle(what, (), loop)
            self.set.append((delay, handle))
            return handle

        monkeypatch.setattr(loop, "call_later", call_later)

    @property
    def waiting(self) -> list[float]:
        return [delay for delay, handle in self.set if not handle.cancelled()]


async def _settle() -> None:
    for _ in range(3):
        await asyncio.sleep(0)


def _pacer(turns: list[int]) -> Pacer:
    return Pacer(SystemClock(), lambda: turns.append(1))


async def test_however_many_ask_there_is_one_turn() -> None:
    turns: list[int] = []
    pacer = _pacer(turns)
    pacer.soon()
    pacer.start()
    await _settle()
    assert len(turns) == 2
    for _ in range(10):
        pacer.soon()
    await _settle()
    assert len(turns) == 3
    pacer.close()


async def test_timer_that_comes_nearer_replaces_the_one_there_was(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    timers, turns = Timers(monkeypatch), list[int]()
    pacer = _pacer(turns)
    pacer.start()
    await _settle()
    turns.clear()
    pacer.by(10.2, 10.0, IDLE_SECONDS_MAX)
    pacer.by(10.2, 10.0, IDLE_SECONDS_MAX)
    pacer.by(99.0, 10.1, IDLE_SECONDS_MAX)
    assert timers.waiting == [pytest.approx(0.2)]
    pacer.by(10.15, 10.1, IDLE_SECONDS_MAX)
    assert timers.waiting == [pytest.approx(0.05)]
    timers.set[-1][1]._run()
    await _settle()
    assert len(turns) == 1
    pacer.close()


@pytest.mark.parametrize(("due", "delay"), [(0.0, 0.002), (99.0, 0.02), (10.01, 0.01)])
async def test_pause_is_neither_too_short_nor_too_long(
    monkeypatch: pytest.MonkeyPatch, due: float, delay: float
) -> None:
    timers = Timers(monkeypatch)
    pacer = _pacer([])
    pacer.start()
    await _settle()
    pacer.by(due, 10.0, 0.02)
    assert timers.waiting == [pytest.approx(delay)]
    pacer.close()


@pytest.mark.parametrize("end", [Pacer.stop, Pacer.close])
async def test_no_turn_after_the_end(end: Any) -> None:
    turns: list[int] = []
    pacer = _pacer(turns)
    pacer.start()
    pacer.soon()
    end(pacer)
    pacer.soon()
    await _settle()
    assert len(turns) == 1
