"""The runner with real processes: every way an attempt can end, and none that harms the runner."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from raftsched.executor import leftovers, output
from raftsched.executor.client import RunnerClient
from raftsched.executor.messages import AttemptReport, StartAttempt
from raftsched.executor.output import OutputReader


class Node:
    """A runner and what it reported."""

    def __init__(self, directory: Path, client: RunnerClient) -> None:
        self.directory = directory
        self.client = client
        self.reports: list[AttemptReport] = []
        self._news = asyncio.Event()
        client.on_reports = self._take

    def _take(self, reports: list[AttemptReport]) -> None:
        self.reports += reports
        self._news.set()

    async def report(self, token: int, phase: str = "finished") -> AttemptReport:
        async with asyncio.timeout(15):
            while True:
                for report in self.reports:
                    if (report.token, report.phase) == (token, phase):
                        return report
                self._news.clear()
                await self._news.wait()

    async def run(self, *command: str, token: int = 1, **options: object) -> AttemptReport:
        self.start(*command, token=token, **options)
        return await self.report(token)

    def start(self, *command: str, token: int = 1, **options: object) -> None:
        self.client.start([StartAttempt(token, f"t{token}", 1, command, **options)])  # type: ignore[arg-type]


@contextlib.asynccontextmanager
async def running(directory: Path, lease_seconds: float = 30.0) -> AsyncIterator[Node]:
    client = await RunnerClient.adopt_or_start(directory, lease_seconds=lease_seconds)
    client.renew(time.monotonic() + lease_seconds)
    try:
        yield Node(directory, client)
    finally:
        await client.close(stop_runner=False)
        pid = int((directory / "runner.pid").read_text())
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
        leftovers.clean_up(directory)


@pytest.mark.parametrize(
    ("command", "status", "exit_code", "number", "reason"),
    [
        (["true"], "succeeded", 0, 0, ""),
        (["sh", "-c", "exit 7"], "failed", 7, 0, "exit-code-7"),
        (["sh", "-c", "kill -9 $$"], "failed", None, 9, "signal-9"),
        (["/no/such/program"], "failed", None, 0, "executable-not-found: /no/such/program"),
        (["no-such-program"], "failed", None, 0, "executable-not-found: no-such-program"),
        (["/etc/passwd"], "failed", None, 0, "not-executable: /etc/passwd"),
    ],
)
async def test_how_an_attempt_ends(
    tmp_path: Path,
    command: list[str],
    status: str,
    exit_code: int | None,
    number: int,
    reason: str,
) -> None:
    async with running(tmp_path) as node:
        report = await node.run(*command)
        assert (report.status, report.exit_code, report.signal, report.reason) == (
            status,
            exit_code,
            number,
            reason,
        )


async def test_unusable_cwd_fails_and_a_good_one_holds(tmp_path: Path) -> None:
    async with running(tmp_path / "n") as node:
        report = await node.run("pwd", cwd="/no/such/place")
        assert report.status == "failed"
        assert report.reason.startswith("cwd-unusable: /no/such/place")
        report = await node.run("pwd", token=2, cwd=str(tmp_path))
        assert report.output_tail.decode().strip() == str(tmp_path)


async def test_environment_stdin_and_bytes_that_are_no_text(tmp_path: Path) -> None:
    async with running(tmp_path) as node:
        line = 'cat; echo "$A $RAFTSCHED_TASK_ID $RAFTSCHED_ATTEMPT $RAFTSCHED_FENCING_TOKEN"'
        report = await node.run(line, token=9, shell=True, stdin="in ", env={"A": "b"})
        assert report.output_tail == b"in b t9 1 9\n"
        report = await node.run("printf", r"\377\376", token=10)
        assert report.output_tail == b"\xff\xfe"


async def test_timeout_kills_what_ignores_sigterm_and_its_children(tmp_path: Path) -> None:
    async with running(tmp_path) as node:
        script = 'trap "" TERM; sleep 100 & while true; do sleep 0.05; done'
        report = await node.run(script, shell=True, timeout_ms=200, grace_ms=200)
        assert (report.status, report.signal, report.reason) == ("timed_out", 9, "timeout")
        assert leftovers.find(tmp_path) == []


async def test_stop_ends_it_as_cancelled(tmp_path: Path) -> None:
    async with running(tmp_path) as node:
        node.start("sleep", "100")
        await node.report(1, "started")
        node.client.stop(1, "user")
        report = await node.report(1)
        assert (report.status, report.signal, report.reason) == ("cancelled", 15, "user")


async def test_attempt_ends_before_its_lease_does(tmp_path: Path) -> None:
    async with running(tmp_path, lease_seconds=2.0) as node:
        until = time.monotonic() + 2.0
        script = 'trap "" TERM; while true; do sleep 0.05; done'
        report = await node.run(script, shell=True)
        assert time.monotonic() < until
        assert (report.status, report.reason) == ("lost", "lease-expired")
        report = await node.run("true", token=2)
        assert report.reason == "lease-expired", "nothing starts without a lease"


async def test_restarted_peer_adopts_its_runner_and_hears_what_it_missed(tmp_path: Path) -> None:
    async with running(tmp_path) as node:
        node.start("sleep", "0.3", token=1)
        node.start("sleep", "100", token=2)
        await node.report(2, "started")
        await node.client.close(stop_runner=False)
        await asyncio.sleep(0.5)
        client = await RunnerClient.adopt_or_start(tmp_path, lease_seconds=30)
        assert client.adopted
        assert client.incarnation == node.client.incarnation
        finished = client.inventory[1].finished
        assert finished is not None and finished.status == "succeeded"
        assert client.inventory[2].finished is None
        client.forget([1])
        await client.close(stop_runner=False)
        again = await RunnerClient.adopt_or_start(tmp_path, lease_seconds=30)
        assert set(again.inventory) == {2}
        await again.close(stop_runner=False)


async def test_leftovers_of_a_killed_runner_are_dead_before_the_next_one(tmp_path: Path) -> None:
    async with running(tmp_path) as node:
        node.start("setsid sleep 100 & sleep 100", shell=True)
        await node.report(1, "started")
        os.kill(int((tmp_path / "runner.pid").read_text()), signal.SIGKILL)
        await asyncio.sleep(0.1)
        assert leftovers.find(tmp_path)
        client = await RunnerClient.adopt_or_start(tmp_path, lease_seconds=30)
        assert (client.adopted, client.clean) == (False, True)
        assert client.incarnation != node.client.incarnation
        assert leftovers.find(tmp_path) == []
        await client.close(stop_runner=False)


async def test_gigabytes_of_output_are_bounded(tmp_path: Path) -> None:
    async with running(tmp_path) as node:
        node.start("yes 0123456789abcdef", shell=True, token=3)
        await node.report(3, "started")
        await asyncio.sleep(1.5)
        kept = sum(p.stat().st_size for p in (tmp_path / "output").iterdir())
        node.client.stop(3, "enough")
        report = await node.report(3)
        assert report.output_bytes > output.STREAM_BYTES_MAX
        # What a fast writer adds between two looks comes on top of the bound.
        assert kept < min(report.output_bytes, 1024 * 1024 * 1024)
        data, offset, _ = OutputReader(tmp_path).read("t3", 1, "out", 0, 1000)
        assert offset > len(data), "the beginning was rotated away, and the offset says so"


async def test_output_is_read_by_offset_and_an_empty_one_leaves_no_file(tmp_path: Path) -> None:
    async with running(tmp_path) as node:
        await node.run("printf", "hello", token=4)
        reader = OutputReader(tmp_path)
        assert reader.read("t4", 1, "out", 0, 3) == (b"hel", 3, False)
        assert reader.read("t4", 1, "out", 3, 10) == (b"lo", 5, True)
        assert reader.read("t4", 1, "out", -2, 10) == (b"lo", 5, True)
        await node.run("true", token=5)
        with pytest.raises(FileNotFoundError):
            reader.read("t5", 1, "out", 0, 10)


async def test_same_token_is_never_run_twice(tmp_path: Path) -> None:
    async with running(tmp_path) as node:
        marks = tmp_path / "marks"
        for _ in range(3):
            node.start(f"echo x >> {marks}", shell=True)
        await node.report(1)
        node.start(f"echo x >> {marks}", shell=True)
        await asyncio.sleep(0.2)
        assert marks.read_text() == "x\n"
