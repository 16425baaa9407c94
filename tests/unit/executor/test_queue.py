"""Attempts that wait in the runner for their turn."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

from raftsched.core.spec import TaskSpec
from raftsched.executor.client import RunnerClient
from raftsched.executor.messages import StartAttempt

from .harness import Node, running


def attempts(first: int, count: int, line: str) -> list[StartAttempt]:
    return [
        StartAttempt(token, f"t{token}", 1, TaskSpec((line.format(token),), shell=True))
        for token in range(first, first + count)
    ]


def phases(node: Node) -> list[tuple[int, str]]:
    return [(report.token, report.phase) for report in node.reports]


async def test_no_more_run_at_once_than_the_peer_said_and_all_do_in_order(tmp_path: Path) -> None:
    async with running(tmp_path) as node:
        log = tmp_path / "log"
        line = f"echo + {{}} >> {log}; sleep 0.05; echo - >> {log}"
        node.client.start(attempts(1, 9, line), 3)
        for token in range(1, 10):
            assert (await node.report(token)).status == "succeeded"
        running_now, most, begun = 0, 0, []
        for words in map(str.split, log.read_text().splitlines()):
            running_now += 1 if words[0] == "+" else -1
            most = max(most, running_now)
            begun += [int(word) for word in words[1:]]
        assert most == 3
        # Those of one moment may write in any order.
        assert [set(begun[at : at + 3]) for at in (0, 3, 6)] == [{1, 2, 3}, {4, 5, 6}, {7, 8, 9}]


async def test_more_slots_start_what_waits_and_fewer_stop_nothing(tmp_path: Path) -> None:
    async with running(tmp_path) as node:
        node.client.start(attempts(1, 3, "sleep 60"), 1)
        await node.report(1, "started")
        node.client.start([], 2)
        await node.report(2, "started")
        node.client.start([], 0)
        await asyncio.sleep(0.15)
        assert phases(node) == [(1, "started"), (2, "started")]


async def test_waiting_attempt_that_is_stopped_never_starts(tmp_path: Path) -> None:
    async with running(tmp_path) as node:
        mark = tmp_path / "mark"
        node.client.start(attempts(1, 1, "sleep 60") + attempts(2, 1, f"touch {mark}"), 1)
        await node.report(1, "started")
        node.client.stop(2, "no need")
        report = await node.report(2)
        assert (report.status, report.reason, report.run_ms) == ("cancelled", "no need", 0)
        node.client.stop(1, "no need")
        await node.report(1)
        await asyncio.sleep(0.1)
        assert not mark.exists()
        assert (2, "started") not in phases(node)


async def test_waiting_attempts_end_with_the_lease_and_never_start(tmp_path: Path) -> None:
    async with running(tmp_path, lease_seconds=1.5) as node:
        mark = tmp_path / "mark"
        node.client.start(attempts(1, 1, "sleep 60") + attempts(2, 2, f"touch {mark}"), 1)
        for token in (1, 2, 3):
            report = await node.report(token)
            assert (report.status, report.reason) == ("lost", "lease-expired")
        assert not mark.exists()


async def test_next_peer_finds_what_waits_and_it_has_its_turn(tmp_path: Path) -> None:
    async with running(tmp_path) as node:
        gate = tmp_path / "gate"
        wait = f"while [ ! -e {gate} ]; do sleep 0.01; done"
        node.client.start(attempts(1, 3, wait), 1)
        await node.report(1, "started")
        await node.client.close(stop_runner=True)  # It does not end with work at hand.
        client = await RunnerClient.adopt_or_start(tmp_path, lease_seconds=30)
        assert client.adopted
        assert {token: found.finished for token, found in client.inventory.items()} == {
            1: None, 2: None, 3: None,
        }  # fmt: skip
        following = Node(tmp_path, client)
        client.start(attempts(2, 2, "echo given twice"), 1)  # Those are there already.
        gate.touch()
        for token in (1, 2, 3):
            assert (await following.report(token)).output_tail == b""
        await client.close(stop_runner=False)


async def test_single_end_is_told_at_once_and_many_together(tmp_path: Path) -> None:
    async with running(tmp_path) as node:
        began = time.monotonic()
        await node.run("true", token=1)
        assert time.monotonic() - began < 1.0
        messages: list[int] = []
        told = node.client.on_reports

        def count(reports: list[object]) -> None:
            messages.append(len(reports))
            told(reports)  # type: ignore[arg-type]

        node.client.on_reports = count  # type: ignore[assignment]
        node.client.start(attempts(2, 200, "exit 0"), 4)
        await node.report(201)
        assert sum(messages) <= 400
        assert len(messages) < 100
