"""The Python executor with a real runner and real workers: how a call ends, and what it says."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from raftsched.executor.output import OutputReader
from tests.unit.executor.applications import APP, served
from tests.unit.executor.harness import running


async def test_how_a_call_ends(tmp_path: Path) -> None:
    """One worker's start for all of them: each is a line of this table."""
    table: list[tuple[str, list[Any], str, str, Any]] = [
        ("add", [1], "succeeded", "", 3),
        ("add", ["a", "b"], "succeeded", "", "ab"),
        ("nothing", [], "succeeded", "", None),
        ("fail", ["why"], "failed", "ValueError: why", None),
        ("fail", [], "failed", "TypeError: fail() missing 1 required positional", None),
        ("leave", [0], "succeeded", "", None),
        ("leave", [75], "failed", "SystemExit: 75", None),
        ("big", [65_534], "succeeded", "", "x" * 65_534),
        ("big", [65_535], "failed", "result-too-large: 65537 bytes, 65536 are kept", None),
        ("odd", [], "failed", "result-not-json: ", None),
        ("missing", [], "failed", "unknown-function: jobs:missing", None),
        ("os.system", ["true"], "failed", "unknown-function: jobs:os.system", None),
    ]
    async with served(tmp_path) as node:
        for token, (name, args, status, reason, value) in enumerate(table, 1):
            report = await node.run_call(f"jobs:{name}", *args, token=token)
            assert report.status == status, (name, report)
            assert report.reason.startswith(reason) and bool(reason) == bool(report.reason)
            assert (json.loads(report.result) if report.result else None) == value
            if name == "leave":
                assert report.exit_code == args[0]


async def test_call_knows_its_task_attempt_and_token(tmp_path: Path) -> None:
    async with served(tmp_path) as node:
        report = await node.run_call("jobs:who", token=7)
        assert json.loads(report.result)[:3] == ["t7", 1, 7]


async def test_output_of_a_call_and_of_its_children_is_its_own_and_seen_while_it_runs(
    tmp_path: Path,
) -> None:
    async with served(tmp_path, workers=1) as node:
        reader = OutputReader(tmp_path / "n")
        gate = tmp_path / "gate"
        node.start_call("jobs:say", "hello", str(gate), token=1)
        async with asyncio.timeout(5):
            while True:
                with contextlib.suppress(FileNotFoundError):
                    if reader.read("t1", 1, "out", 0, 100)[0] == b"hello\nerr\nchild\n":
                        break
                await asyncio.sleep(0.01)
        assert not [report for report in node.reports if report.phase == "finished"]
        gate.touch()
        report = await node.report(1)
        assert (report.output_tail, report.output_bytes) == (b"hello\nerr\nchild\n", 16)
        report = await node.run_call("jobs:fail", "why", token=2)
        assert report.output_tail.startswith(b"Traceback (most recent call last):\n")
        assert b"jobs.py" in report.output_tail and b"worker_calls" not in report.output_tail
        assert reader.read("t2", 1, "out", 0, 5_000)[0] == report.output_tail
        await node.run_call("jobs:nothing", token=3)
        names = sorted(path.name for path in (tmp_path / "n" / "output").iterdir())
        assert names == ["t1.1.out", "t2.1.out"], "who writes nothing has no file"


async def test_application_that_cannot_be_imported_fails_its_calls_until_it_can(
    tmp_path: Path,
) -> None:
    async with served(tmp_path, "import no_such_module_anywhere") as node:
        report = await node.run_call("jobs:add", 1)
        line = "app-unusable: ModuleNotFoundError: No module named 'no_such_module_anywhere'"
        assert (report.status, report.reason) == ("failed", line)
        assert b"Traceback" in report.output_tail and b"jobs.py" in report.output_tail
        (tmp_path / "jobs.py").write_text(APP)
        async with asyncio.timeout(10):
            token = 1
            while report.status == "failed":
                token += 1
                await asyncio.sleep(0.05)
                report = await node.run_call("jobs:add", 1, token=token)
        assert report.result == b"3"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("import os; os._exit(4)", "app-unusable: exit-code-4 while jobs:app was imported"),
        ("app = 3", "app-unusable: TypeError: jobs:app is a int, no raftsched.App"),
        ("import sys; sys.exit('no')", "app-unusable: SystemExit: no"),
    ],
)
async def test_import_that_ends_otherwise_is_named(tmp_path: Path, text: str, reason: str) -> None:
    async with served(tmp_path, text) as node:
        assert (await node.run_call("jobs:add", 1)).reason == reason


async def test_node_without_an_application_says_so(tmp_path: Path) -> None:
    async with running(tmp_path) as node:
        report = await node.run_call("jobs:add", 1)
        assert report.reason.startswith("no-application: ")


async def test_progress_is_told_once_a_second_and_the_latest_counts(tmp_path: Path) -> None:
    async with served(tmp_path) as node:
        gate = tmp_path / "gate"
        node.start_call("jobs:steps", str(gate))
        report = await node.report(1, "progress")
        assert (report.permille, report.text) == (0, "step 0")
        async with asyncio.timeout(5):
            while len([r for r in node.reports if r.phase == "progress"]) < 2:
                await asyncio.sleep(0.02)
        latest = [r for r in node.reports if r.phase == "progress"][-1]
        assert (latest.permille, latest.text) == (990, "step 99")
        gate.touch()
        await node.report(1)
        assert len([r for r in node.reports if r.phase == "progress"]) == 2


async def test_runner_imports_neither_asyncio_nor_the_application(tmp_path: Path) -> None:
    code = "import sys, raftsched.executor.runner; print(*sys.modules)"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, stdout=asyncio.subprocess.PIPE
    )
    modules = set((await process.communicate())[0].decode().split())
    assert not modules & {"asyncio", "aiohttp", "raftsched.app", "raftsched.client"}


def _sh(line: str) -> tuple[str, ...]:
    return ("/bin/sh", "-c", line)


async def test_hooks_run_around_a_call_and_write_into_its_output(tmp_path: Path) -> None:
    async with served(tmp_path, workers=1) as node:
        hooks = {"before": _sh("echo before"), "after": _sh("echo after $RAFTSCHED_STATUS")}
        report = await node.run_call("jobs:say", "own", token=1, **hooks)
        assert (report.status, report.reason) == ("succeeded", "")
        assert report.output_tail == b"before\nown\nerr\nchild\nafter succeeded\n"
        report = await node.run_call("jobs:add", 1, token=2, **hooks)
        assert (report.result, report.output_tail) == (b"3", b"before\nafter succeeded\n")
        report = await node.run_call("jobs:add", 1, token=3, before=("false",))
        assert (report.status, report.reason) == ("failed", "before-failed: exit-code-1")


async def test_calls_between_hooks_wait_for_a_worker_and_each_ends_once(tmp_path: Path) -> None:
    async with served(tmp_path, workers=1) as node:
        gate = tmp_path / "gate"
        attempts = [
            node.attempt("jobs:say", "x", str(gate), token=t, before=("true",)) for t in range(1, 9)
        ]
        node.client.start(attempts, 8)
        for token in range(1, 9):
            await node.report(token, "started")
        await asyncio.sleep(0.2)  # Until those before are through.
        for token in (3, 4, 5):
            node.client.stop(token, "user")
            assert (await node.report(token)).status == "cancelled"
        gate.touch()
        for token in (1, 2, 6, 7, 8):
            assert (await node.report(token)).status == "succeeded"
        ended = [report.token for report in node.reports if report.phase == "finished"]
        assert sorted(ended) == list(range(1, 9))
