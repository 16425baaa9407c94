"""Calls of functions that are stopped: told so, killed, or never begun."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from pathlib import Path

from tests.unit.executor.applications import APP, COROUTINES, exists, served


async def test_cancelled_call_hears_it_and_its_worker_goes_on(tmp_path: Path) -> None:
    async with served(tmp_path, workers=1) as node:
        before = json.loads((await node.run_call("jobs:who", token=1)).result)
        node.start_call("jobs:obey", str(tmp_path / "here"), token=2)
        await exists(tmp_path / "here")
        node.client.stop(2, "user")
        report = await node.report(2)
        assert (report.status, report.reason, report.output_bytes) == ("cancelled", "user", 0)
        after = json.loads((await node.run_call("jobs:who", token=3)).result)
        assert after[3] == before[3]


async def test_call_that_ignores_its_timeout_is_killed_with_what_it_started(
    tmp_path: Path,
) -> None:
    async with served(tmp_path, workers=1) as node:
        node.start_call("jobs:ignore", str(tmp_path / "pid"), timeout_ms=300, grace_ms=100)
        report = await node.report(1)
        assert (report.status, report.reason) == ("timed_out", "timeout")
        worker = int((tmp_path / "pid").read_text())
        # The next worker has the mark, too; of the old one's group not even a name stays.
        async with asyncio.timeout(5):
            with contextlib.suppress(ProcessLookupError):
                while True:
                    os.killpg(worker, 0)
                    await asyncio.sleep(0.005)
        assert (await node.run_call("jobs:add", 1, token=2)).result == b"3"


async def test_call_ends_before_its_lease_does(tmp_path: Path) -> None:
    async with served(tmp_path, lease_seconds=2.0) as node:
        until = asyncio.get_running_loop().time() + 2.0
        report = await node.run_call("jobs:ignore", str(tmp_path / "pid"))
        assert asyncio.get_running_loop().time() < until
        assert (report.status, report.reason) == ("lost", "lease-expired")


async def test_coroutine_is_cancelled_and_a_stubborn_one_takes_others_with_it_as_lost(
    tmp_path: Path,
) -> None:
    async with served(tmp_path, COROUTINES, workers=1) as node:
        for token, stubborn in ((1, False), (2, True), (3, False)):
            node.start_call(
                "jobs:stay", str(tmp_path / f"{token}"), stubborn, token=token, grace_ms=100
            )
            await exists(tmp_path / f"{token}")
        node.client.stop(1, "user")
        report = await node.report(1)
        assert (report.status, report.reason) == ("cancelled", "user")
        node.client.stop(2, "user")
        assert (await node.report(2)).status == "cancelled"
        report = await node.report(3)
        assert (report.status, report.reason[:13]) == ("lost", "worker-killed")


async def test_call_that_holds_the_interpreter_is_killed_and_those_behind_it_are_done(
    tmp_path: Path,
) -> None:
    text = APP + "\nimport ctypes\n@app.task\ndef hold(): ctypes.PyDLL(None).sleep(60)\n"
    async with served(tmp_path, text, workers=1) as node:
        await node.run_call("jobs:nothing", token=1)
        attempts = [node.attempt("jobs:hold", token=2, timeout_ms=300, grace_ms=100)]
        attempts += [node.attempt("jobs:nothing", token=token) for token in (3, 4)]
        node.client.start(attempts, 8)
        assert (await node.report(2)).status == "timed_out"
        for token in (3, 4):
            assert (await node.report(token)).status == "succeeded"


async def test_cancelled_while_it_waits_behind_another_it_never_begins(tmp_path: Path) -> None:
    async with served(tmp_path, workers=1) as node:
        gate = tmp_path / "gate"
        node.start_call("jobs:say", "x", str(gate), token=1)
        await node.report(1, "started")
        node.start_call("jobs:obey", str(tmp_path / "never"), token=2)
        node.client.stop(2, "user")
        assert (await node.report(2)).status == "cancelled"
        gate.touch()
        assert (await node.report(1)).status == "succeeded"
        assert not (tmp_path / "never").exists()
