"""``raftsched bench python``: calls through one runner and its workers, without a cluster.

Beside it, in the same minute, the standard library's pool of processes with as many workers, a task
a message: it keeps no leases, no reports and no output.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import statistics
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import click
import msgspec

from raftsched.cli.bench.noop import bare
from raftsched.cli.output import hint
from raftsched.core.spec import PythonCall, TaskSpec
from raftsched.executor.client import RunnerClient
from raftsched.executor.messages import AttemptReport, StartAttempt

APPLICATION = "raftsched.cli.bench.noop:app"
#: Its function that does nothing.
NOTHING = "raftsched.cli.bench.noop:nothing"
#: Its function that notes when it starts.
NOTING = "raftsched.cli.bench.noop:note_start"
#: Attempts that the runner is given at once, as a leader assigns ahead.
AHEAD = 512
SECONDS_MAX = 120.0
LEASE_SECONDS = 60.0


@click.command()
@click.option("--workers", type=click.IntRange(1, 64), default=2, show_default=True)
@click.option("--slots", type=click.IntRange(1, 10_000), default=8, show_default=True)
@click.option("--count", type=click.IntRange(1), default=50_000, show_default=True)
@click.option("--rounds", type=click.IntRange(1, 20), default=3, show_default=True)
def python(workers: int, slots: int, count: int, rounds: int) -> None:
    """No-op calls a second through one runner; JSON on stdout."""
    kinds: dict[str, list[float]] = {"nothing": [], "nothing_async": [], "pool": []}
    with tempfile.TemporaryDirectory(prefix="raftsched-bench-") as directory:
        for number in range(rounds):
            hint(f"{count:,} calls by {workers} workers, round {number + 1}")
            for name in ("nothing", "nothing_async"):
                place = Path(directory, f"{name}-{number}")
                function = NOTHING.replace("nothing", name)
                kinds[name].append(asyncio.run(_measure(place, function, workers, slots, count)))
            kinds["pool"].append(_pool(workers, count))
    unit = "calls per second"
    report = {
        name: {
            "median": round(statistics.median(runs)),
            "unit": unit,
            "runs": list(map(round, runs)),
        }
        for name, runs in kinds.items()
    }
    ratios = [ours / theirs for ours, theirs in zip(kinds["nothing"], kinds["pool"], strict=True)]
    click.echo(json.dumps({**report, "of_the_pool": round(statistics.median(ratios), 2)}, indent=2))


async def _measure(directory: Path, function: str, workers: int, slots: int, count: int) -> float:
    client = await RunnerClient.adopt_or_start(directory, lease_seconds=LEASE_SECONDS)
    try:
        async with asyncio.timeout(SECONDS_MAX):
            load = _Load(client, function, slots)
            client.renew(time.monotonic(), LEASE_SECONDS)
            client.serve_apps("1", (APPLICATION,), workers)
            await load.run(workers * 100)  # Until all are imported.
            return await load.run(count)
    finally:
        await client.close(stop_runner=False)
        os.kill(int((directory / "runner.pid").read_text()), signal.SIGTERM)


class _Load:
    """Keeps ``AHEAD`` attempts in the runner, as its peer does."""

    def __init__(self, client: RunnerClient, function: str, slots: int) -> None:
        self._client = client
        self._slots = slots
        self._spec = msgspec.msgpack.encode(TaskSpec(python=PythonCall(function)))
        self._token = 0
        self._left = 0
        self._open = 0
        self._done = asyncio.Event()
        self._decode = msgspec.msgpack.Decoder(TaskSpec).decode
        client.on_reports = self._take

    async def run(self, count: int) -> float:
        """Calls a second."""
        self._left = count
        self._done.clear()
        begin = time.perf_counter()
        self._fill()
        await self._done.wait()
        return count / (time.perf_counter() - begin)

    def _fill(self) -> None:
        number = min(AHEAD - self._open, self._left)
        starts = []
        for _ in range(number):
            self._token += 1
            starts.append(StartAttempt(self._token, f"t{self._token}", 1, self._decode(self._spec)))
        self._open += number
        self._left -= number
        if starts:
            self._client.start(starts, self._slots)

    def _take(self, reports: list[AttemptReport]) -> None:
        ended = [report for report in reports if report.phase == "finished"]
        failed = next((report for report in ended if report.status != "succeeded"), None)
        if failed is not None:
            raise click.ClickException(f"a call failed: {failed.reason}")
        self._client.forget([report.token for report in ended])
        self._open -= len(ended)
        if self._open < AHEAD // 2:
            self._fill()
        if not self._open and not self._left:
            self._done.set()


def _pool(workers: int, count: int) -> float:
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        for future in [pool.submit(bare) for _ in range(workers * 10)]:
            future.result()
        count //= 10  # An order of magnitude slower.
        begin = time.perf_counter()
        for future in [pool.submit(bare) for _ in range(count)]:
            future.result()
        return count / (time.perf_counter() - begin)
