"""What leaves its process group ends with its attempt all the same, and only with its own."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest

from tests.unit.executor.harness import Node, nothing_runs, running

#: Ignores SIGTERM, leaves the group and the session, and forks on.
STUBBORN = "trap '' TERM; {escape} sh -c 'echo $$ > {file}; sleep 100 & sleep 100' & {then}"


async def _pid(file: Path) -> int:
    async with asyncio.timeout(5):
        while not file.exists() or not file.read_text().strip():
            await asyncio.sleep(0.005)
    return int(file.read_text())


def _lives(pid: int) -> bool:
    try:
        return Path("/proc", str(pid), "stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.parametrize("escape", ["setsid", "env -i setsid", "setsid setsid -f"])
async def test_what_left_the_group_is_dead_when_the_end_is_told(
    tmp_path: Path, escape: str
) -> None:
    async with running(tmp_path / "n") as node:
        file = tmp_path / "pid"
        until = f"while [ ! -s {file} ]; do sleep 0.01; done"
        report = await node.run(STUBBORN.format(escape=escape, file=file, then=until), shell=True)
        assert report.status == "succeeded"
        assert not _lives(await _pid(file))
        await nothing_runs(tmp_path / "n")


async def test_stop_ends_what_ignores_it_forks_and_leaves_the_session(tmp_path: Path) -> None:
    async with running(tmp_path / "n") as node:
        file = tmp_path / "pid"
        script = STUBBORN.format(escape="setsid", file=file, then="while :; do sleep 0.01; done")
        node.start(script, shell=True, grace_ms=100)
        stray = await _pid(file)
        node.client.stop(1, "user")
        report = await node.report(1)
        assert (report.status, report.signal) == ("cancelled", signal.SIGKILL)
        assert not _lives(stray)
        await nothing_runs(tmp_path / "n")


async def test_stray_of_one_attempt_outlives_the_end_of_another(tmp_path: Path) -> None:
    async with running(tmp_path / "n") as node:
        file = tmp_path / "pid"
        script = STUBBORN.format(escape="setsid -f", file=file, then="sleep 100")
        node.start(script, shell=True, grace_ms=100)
        stray = await _pid(file)
        assert (await node.run("true", token=2)).status == "succeeded"
        assert _lives(stray)
        node.client.stop(1, "user")
        assert (await node.report(1)).status == "cancelled"
        assert not _lives(stray)


async def test_stray_that_hides_whose_it_is_ends_with_the_last_that_may_own_it(
    tmp_path: Path,
) -> None:
    async with running(tmp_path / "n") as node:
        file, gate = tmp_path / "pid", tmp_path / "gate"
        until = f"while [ ! -e {gate} ]; do sleep 0.01; done"
        node.start(until, token=2, shell=True)
        script = STUBBORN.format(escape="env -i setsid -f", file=file, then=f"cat {file}")
        node.start(f"{script}; until [ -s {file} ]; do sleep 0.01; done", shell=True)
        stray = await _pid(file)
        assert (await node.report(1)).status == "succeeded"
        assert _lives(stray), "it may be of the other one"
        gate.touch()
        assert (await node.report(2)).status == "succeeded"
        assert not _lives(stray)


async def test_attempt_after_a_stray_was_reaped_is_started_and_told(tmp_path: Path) -> None:
    async with running(tmp_path / "n") as node:
        await node.run("setsid -f sleep 100", shell=True)
        assert await _rounds(node, 20) == ["succeeded"] * 20
        runner = int((tmp_path / "n" / "runner.pid").read_text())
        assert Path(f"/proc/{runner}/task/{runner}/children").read_text() == ""


async def _rounds(node: Node, count: int) -> list[str]:
    return [(await node.run("true", token=token)).status for token in range(2, 2 + count)]


async def test_stopped_stray_is_ended_too(tmp_path: Path) -> None:
    async with running(tmp_path / "n") as node:
        file, gate = tmp_path / "pid", tmp_path / "gate"
        script = STUBBORN.format(
            escape="setsid", file=file, then=f"while [ ! -e {gate} ]; do sleep 0.01; done"
        )
        node.start(script, shell=True)
        stray = await _pid(file)
        os.kill(stray, signal.SIGSTOP)
        gate.touch()
        assert (await node.report(1)).status == "succeeded"
        assert not _lives(stray)
