"""A real runner of a test's own, and what it said."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from raftsched.core.spec import HttpCall, PythonCall, TaskSpec
from raftsched.executor import leftovers
from raftsched.executor.client import RunnerClient
from raftsched.executor.messages import Applications, AttemptReport, StartAttempt


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

    async def run(self, *command: str, token: int = 1, **options: Any) -> AttemptReport:
        self.start(*command, token=token, **options)
        return await self.report(token)

    def call(
        self,
        url: str,
        token: int = 1,
        call: dict[str, Any] | None = None,
        lease_ms: int = 0,
        **options: Any,
    ) -> None:
        """Start an attempt that makes a request; ``call`` has more of it."""
        http = HttpCall(url, **(call or {}))
        spec = TaskSpec(http=http, **options)
        self.client.start([StartAttempt(token, f"t{token}", 1, spec, lease_ms)], 1_000)

    async def fetch(self, url: str, token: int = 1, **options: Any) -> AttemptReport:
        self.call(url, token, **options)
        return await self.report(token)

    def start(self, *command: str, token: int = 1, **options: Any) -> None:
        spec = TaskSpec(command, **options)
        attempt = StartAttempt(token, f"t{token}", 1, spec)
        self.client.start([attempt], 8)

    async def run_call(
        self, function: str, *args: object, token: int = 1, **options: Any
    ) -> AttemptReport:
        self.start_call(function, *args, token=token, **options)
        return await self.report(token)

    def start_call(self, function: str, *args: object, token: int = 1, **options: Any) -> None:
        self.client.start([self.attempt(function, *args, token=token, **options)], 8)

    def attempt(self, function: str, *args: object, token: int = 1, **options: Any) -> StartAttempt:
        """One that calls a function."""
        python = PythonCall(function, json.dumps(args).encode())
        spec = TaskSpec(python=python, **options)
        return StartAttempt(token, f"t{token}", 1, spec)


@contextlib.asynccontextmanager
async def running(directory: Path, lease_seconds: float = 30.0) -> AsyncIterator[Node]:
    client = await RunnerClient.adopt_or_start(directory, lease_seconds=lease_seconds)
    client.renew(time.monotonic(), lease_seconds)
    try:
        yield Node(directory, client)
    finally:
        await client.close(stop_runner=False)
        pid = int((directory / "runner.pid").read_text())
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
        leftovers.clean_up(directory)


async def nothing_runs(directory: Path) -> None:
    """Return once what was killed is gone: the kernel takes a moment to end it."""
    async with asyncio.timeout(5):
        while leftovers.find(directory):
            await asyncio.sleep(0.005)


def serve_apps(
    node: Node, directory: Path, *applications: str, workers: int = 2, generation: str = "1"
) -> None:
    """Have the runner serve applications whose modules are in a directory."""
    path = (str(directory), *sys.path)
    node.client._send(Applications(generation, applications, workers, str(directory), path))
