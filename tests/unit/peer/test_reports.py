"""Ends reach the state together where nobody waits for them, and at once where somebody may."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from raftsched.core.commands import AnyCommand, ReportAttempts
from raftsched.core.outcomes import Accepted, Outcome
from raftsched.executor.messages import AttemptReport
from raftsched.peer.errors import NoLeader
from raftsched.peer.reports import GATHER_MAX, GATHER_SECONDS, REPORTS_BYTES, Reports


class Desk:
    """Reports with a log that takes everything, and a node that has more to do if the test says."""

    def __init__(self) -> None:
        self.commands: list[ReportAttempts] = []
        self.answered: list[int] = []
        self.trouble: Exception | None = None
        self.has_more = False
        self.registered = asyncio.Event()
        self.registered.set()
        self.reports = Reports(self._propose, self.answered.extend, lambda: self.has_more)

    async def _propose(self, command: AnyCommand, timeout: float) -> Outcome:
        assert isinstance(command, ReportAttempts)
        if self.trouble is not None:
            raise self.trouble
        self.commands.append(command)
        return Accepted(())

    def end(self, token: int) -> None:
        self.reports.add(AttemptReport(token, f"t{token}", 1, "finished", "succeeded"))

    async def __aenter__(self) -> Desk:
        self._task = asyncio.create_task(self.reports.run("n1", "a", self.registered))
        return self

    async def __aexit__(self, *_: Any) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def until_answered(self, count: int) -> None:
        async with asyncio.timeout(5):
            while len(self.answered) < count:
                await asyncio.sleep(0.001)


async def test_end_on_a_node_with_nothing_more_to_do_goes_at_once() -> None:
    async with Desk() as desk:
        desk.end(1)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert [len(command.finished) for command in desk.commands] == [1]


async def test_ends_on_a_busy_node_go_together_and_not_too_late() -> None:
    async with Desk() as desk:
        desk.has_more = True
        began = asyncio.get_running_loop().time()
        for token in range(1, 6):
            desk.end(token)
            await asyncio.sleep(GATHER_SECONDS / 20)
        await desk.until_answered(5)
        assert len(desk.commands) == 1
        assert asyncio.get_running_loop().time() - began >= GATHER_SECONDS


@pytest.mark.parametrize("why", ["runs dry", "has many"])
async def test_busy_node_that_has_no_reason_to_wait_does_not(
    why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("raftsched.peer.reports.GATHER_SECONDS", 60)
    async with Desk() as desk:
        desk.has_more = True
        desk.end(1)
        await asyncio.sleep(0.02)
        assert not desk.commands
        if why == "runs dry":
            desk.has_more = False
        else:
            for token in range(2, GATHER_MAX + 1):
                desk.end(token)
        await desk.until_answered(1)


async def test_ends_are_kept_while_nobody_leads_and_told_once_after() -> None:
    async with Desk() as desk:
        desk.trouble = NoLeader("no leader")
        for token in (1, 2):
            desk.end(token)
        await asyncio.sleep(0.05)
        assert desk.reports.unanswered == 2
        desk.trouble = None
        await desk.until_answered(2)
        assert desk.reports.unanswered == 0
        assert [len(command.finished) for command in desk.commands] == [2]


async def test_progress_is_told_once_and_an_end_takes_its_place() -> None:
    async with Desk() as desk:
        for permille in (1, 2):
            report = AttemptReport(1, "t1", 1, "progress", permille=permille, text="x")
            desk.reports.add(report)
        async with asyncio.timeout(5):
            while not desk.commands:
                await asyncio.sleep(0.001)
        [news] = desk.commands[0].progress
        assert (news.task_id, news.token, news.permille, news.text) == ("t1", 1, 2, "x")
        desk.reports.add(report)
        desk.end(1)
        desk.reports.add(report)
        await desk.until_answered(1)
        assert [command.progress for command in desk.commands[1:]] == [()]


async def test_results_that_are_large_are_spread_over_commands() -> None:
    async with Desk() as desk:
        result = b'"' + b"x" * 60_000 + b'"'
        for token in range(1, 31):
            desk.reports.add(
                AttemptReport(token, f"t{token}", 1, "finished", "succeeded", result=result)
            )
        await desk.until_answered(30)
        sizes = [sum(len(end.result) for end in command.finished) for command in desk.commands]
        assert max(sizes) <= REPORTS_BYTES and sum(sizes) == 30 * len(result)
