"""Functions that return more than is replicated: their workers keep it as a file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from msgspec.structs import replace

from raftsched.executor.messages import AttemptReport
from raftsched.executor.output import OutputReader
from tests.unit.executor.applications import served
from tests.unit.executor.harness import Node

APP = """
import asyncio
from raftsched import App

app = App("test")

@app.task
def big(size): return "x" * size

@app.task
async def big_later(size): return "x" * size

@app.task
async def soon(): return 7
"""


async def _call(node: Node, function: str, size: int) -> AttemptReport:
    """A call of a cluster that knows large results."""
    node.client.start([replace(node.attempt(function, size), files_result=True)], 8)
    return await node.report(1)


@pytest.mark.parametrize("function", ["jobs:big", "jobs:big_later"])
async def test_large_value_is_a_file_and_its_size_is_told(tmp_path: Path, function: str) -> None:
    async with served(tmp_path, APP, workers=1) as node:
        report = await _call(node, function, 5 << 20)
        assert (report.status, report.reason, report.result) == ("succeeded", "", b"")
        assert report.result_bytes == (5 << 20) + 2
        data, _, is_all = OutputReader(tmp_path / "n").read("t1", 1, "result", 0, 6 << 20)
        assert is_all and json.loads(data) == "x" * (5 << 20)
        report = await node.run_call("jobs:soon", token=2)
        assert (report.result, report.result_bytes) == (b"7", 0)


@pytest.mark.parametrize("function", ["jobs:big", "jobs:big_later"])
async def test_what_is_large_is_told_with_the_call(tmp_path: Path, function: str) -> None:
    async with served(tmp_path, APP, workers=1) as node:
        start = replace(node.attempt(function, 99), files_result=True, result_max=100)
        node.client.start([start], 8)
        report = await node.report(1)
        assert (report.result, report.result_bytes) == (b"", 101)


@pytest.mark.parametrize("function", ["jobs:big", "jobs:big_later"])
async def test_value_past_what_files_may_have_fails(tmp_path: Path, function: str) -> None:
    async with served(tmp_path, APP, workers=1) as node:
        report = await _call(node, function, 16 << 20)
        assert (report.status, report.result, report.result_bytes) == ("failed", b"", 0)
        assert report.reason.startswith("result-too-large: 16777218 bytes, 16777216 are kept; ")
        assert list((tmp_path / "n" / "output").iterdir()) == []


async def test_value_that_the_disk_does_not_take_fails(tmp_path: Path) -> None:
    async with served(tmp_path, APP, workers=1) as node:
        (tmp_path / "n" / "output" / "t1.1.part").mkdir()
        report = await _call(node, "jobs:big", 100_000)
        assert (report.status, report.reason) == ("failed", "result-not-kept: Is a directory")
