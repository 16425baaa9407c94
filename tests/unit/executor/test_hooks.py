"""Programs before and after an attempt: when they run, what they are told, how the attempt ends."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest

from raftsched.executor.output import OutputReader
from tests.unit.executor.harness import Node, nothing_runs, running


def sh(line: str) -> tuple[str, ...]:
    return ("sh", "-c", line)


SAY = sh("echo after $RAFTSCHED_STATUS $RAFTSCHED_EXIT_CODE $X")


@pytest.mark.parametrize(
    ("before", "own", "after", "status", "code", "reason", "said"),
    [
        ("echo before", "echo own", "", "succeeded", 0, "", "before\nown\n"),
        ("echo before", "echo own", "echo after", "succeeded", 0, "", "before\nown\nafter\n"),
        ("", "true", "echo $RAFTSCHED_STATUS $RAFTSCHED_EXIT_CODE", "succeeded", 0, "",
         "succeeded 0\n"),
        ("", "exit 3", "echo $RAFTSCHED_STATUS $RAFTSCHED_EXIT_CODE", "failed", 3, "exit-code-3",
         "failed 3\n"),
        ("", "kill -9 $$", "echo $RAFTSCHED_STATUS:$RAFTSCHED_EXIT_CODE:$RAFTSCHED_REASON",
         "failed", None, "signal-9", "failed::signal-9\n"),
        ("echo no; exit 4", "echo own", "echo $RAFTSCHED_STATUS", "failed", None,
         "before-failed: exit-code-4", "no\nfailed\n"),
        ("", "true", "exit 5", "failed", 0, "after-failed: exit-code-5", ""),
        ("", "exit 3", "exit 5", "failed", 3, "exit-code-3; after-failed: exit-code-5", ""),
    ],
)  # fmt: skip
async def test_phases_and_the_end(
    tmp_path: Path, before: str, own: str, after: str, status: str, code: int | None, reason: str,
    said: str,
) -> None:  # fmt: skip
    async with running(tmp_path) as node:
        first, last = sh(before) if before else (), sh(after) if after else ()
        report = await node.run(own, shell=True, before=first, after=last)
        assert (report.status, report.exit_code, report.reason) == (status, code, reason)
        assert report.output_tail.decode() == said
        assert report.output_bytes == len(said)
        if said:
            assert OutputReader(tmp_path).read("t1", 1, "out", 0, 999)[0].decode() == said
        assert len([r for r in node.reports if r.phase == "finished"]) == 1


async def test_phases_share_environment_directory_and_the_result_is_the_own(
    tmp_path: Path,
) -> None:
    async with running(tmp_path / "n") as node:
        report = await node.run(
            "echo $X $RAFTSCHED_FENCING_TOKEN; pwd; cat; echo 1 > $RAFTSCHED_RESULT_FILE",
            shell=True, before=sh("echo $X; pwd; cat; echo 2 > $RAFTSCHED_RESULT_FILE"),
            after=sh("echo $X; pwd; echo 3 > $RAFTSCHED_RESULT_FILE"),
            env={"X": "x"}, cwd=str(tmp_path), stdin="in\n",
        )  # fmt: skip
        here = str(tmp_path)
        assert report.output_tail.decode().split() == [
            "x", here, "x", "1", here, "in", "x", here,
        ]  # fmt: skip
        assert (report.status, report.result) == ("succeeded", b"1")


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"before": ("/no/1",)}, "before-failed: executable-not-found: /no/1"),
        ({"before": ("/no/1",), "after": ("/no/2",)},
         "before-failed: executable-not-found: /no/1; after-failed: executable-not-found: /no/2"),
        ({"after": ("/no/2",)}, "after-failed: executable-not-found: /no/2"),
    ],
)  # fmt: skip
async def test_hook_that_cannot_start_is_a_failed_one(
    tmp_path: Path, options: dict[str, Any], reason: str
) -> None:
    async with running(tmp_path) as node:
        report = await node.run("true", **options)
        assert (report.status, report.reason) == ("failed", reason)
        report = await node.run("/no/own", token=2, after=SAY)
        assert (report.status, report.reason) == ("failed", "executable-not-found: /no/own")
        assert report.output_tail == b"after failed\n"


async def _started(node: Node, file: Path) -> None:
    async with asyncio.timeout(5):
        while not file.exists():
            await asyncio.sleep(0.005)


@pytest.mark.parametrize("phase", ["before", "own", "after"])
async def test_cancel_ends_any_phase_and_after_still_runs(tmp_path: Path, phase: str) -> None:
    async with running(tmp_path / "n") as node:
        here = tmp_path / "here"
        wait = f"echo {phase}; touch {here}; sleep 100"
        lines = {"before": "echo before", "own": "echo own", "after": "echo after"}
        lines[phase] = wait
        node.start(lines["own"], shell=True, before=sh(lines["before"]), after=sh(lines["after"]))
        await _started(node, here)
        node.client.stop(1, "user")
        report = await node.report(1)
        assert (report.status, report.reason) == ("cancelled", "user")
        said = {"before": "before after", "own": "before own after", "after": "before own after"}
        assert report.output_tail.decode().split() == said[phase].split()
        await nothing_runs(tmp_path / "n")


async def test_after_has_a_grace_of_its_own_when_the_program_used_up_its(tmp_path: Path) -> None:
    async with running(tmp_path) as node:
        stubborn = "trap '' TERM; while :; do sleep 0.02; done"
        report = await node.run(
            stubborn, shell=True, timeout_ms=100, grace_ms=400,
            after=sh("sleep 0.25; echo clean $RAFTSCHED_STATUS"),
        )  # fmt: skip
        assert (report.status, report.reason) == ("timed_out", "timeout")
        assert report.output_tail == b"clean timed_out\n"


async def test_after_that_does_not_end_is_killed_after_its_grace(tmp_path: Path) -> None:
    async with running(tmp_path) as node:
        began = time.monotonic()
        stubborn = "trap '' TERM; echo x; while :; do sleep 0.02; done"
        report = await node.run(
            stubborn, shell=True, timeout_ms=100, grace_ms=200, after=sh(stubborn)
        )
        assert (report.status, report.output_tail) == ("timed_out", b"x\nx\n")
        assert time.monotonic() - began < 3
        await nothing_runs(tmp_path)


async def test_nothing_is_started_after_a_kill_at_the_end_of_the_lease(tmp_path: Path) -> None:
    async with running(tmp_path, lease_seconds=1.5) as node:
        until = time.monotonic() + 1.5
        stubborn = "trap '' TERM; while :; do sleep 0.02; done"
        report = await node.run(stubborn, shell=True, after=sh("echo after"))
        assert time.monotonic() < until
        assert (report.status, report.reason) == ("lost", "lease-expired")
        assert report.output_tail == b""


async def test_after_is_ended_with_the_lease(tmp_path: Path) -> None:
    async with running(tmp_path, lease_seconds=1.5) as node:
        until = time.monotonic() + 1.5
        stubborn = "trap '' TERM; while :; do sleep 0.02; done"
        report = await node.run("true", after=sh(stubborn), grace_ms=60_000)
        assert time.monotonic() < until
        assert (report.status, report.reason) == ("lost", "lease-expired")


async def test_output_of_an_earlier_attempt_of_that_name_is_not_gone_on_with(
    tmp_path: Path,
) -> None:
    async with running(tmp_path) as node:
        (tmp_path / "output" / "t1.1.out").write_text("of another\n")
        report = await node.run("echo own", shell=True, before=("true",), after=("true",))
        assert report.output_tail == b"own\n"
