"""The runner with real processes: every way an attempt can end, and none that harms the runner."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import time
from pathlib import Path
from typing import Any

import pytest

from raftsched.executor import leftovers, messages, output, proc
from raftsched.executor.client import RunnerClient
from raftsched.executor.output import OutputReader
from raftsched.executor.runner_socket import socket_address
from tests.unit.executor.harness import nothing_runs, running


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
        await nothing_runs(tmp_path)


async def test_stop_ends_it_as_cancelled(tmp_path: Path) -> None:
    async with running(tmp_path) as node:
        node.start("sleep", "100")
        await node.report(1, "started")
        node.client.stop(1, "user")
        report = await node.report(1)
        assert (report.status, report.signal, report.reason) == ("cancelled", 15, "user")


async def test_stopped_attempt_that_ends_well_was_cancelled_all_the_same(tmp_path: Path) -> None:
    async with running(tmp_path) as node:
        ready = tmp_path / "ready"
        node.start(f'trap "exit 0" TERM; touch {ready}; while :; do sleep 0.01; done', shell=True)
        async with asyncio.timeout(5):
            while not ready.exists():
                await asyncio.sleep(0.01)
        node.client.stop(1, "user")
        report = await node.report(1)
        assert (report.status, report.exit_code, report.reason) == ("cancelled", 0, "user")


@pytest.mark.parametrize(("line", "status"), [("exit 0", "succeeded"), ("exit 3", "failed")])
async def test_attempt_that_had_ended_before_the_stop_was_not_cancelled(
    tmp_path: Path, line: str, status: str
) -> None:
    async with running(tmp_path) as node:
        pid = int((tmp_path / "runner.pid").read_text())
        gate, gone = tmp_path / "gate", tmp_path / "gone"
        wait = f"while [ ! -e {gate} ]; do sleep 0.01; done; echo $$ > {gone}; {line}"
        node.start(wait, shell=True)
        await node.report(1, "started")
        # Stopped, the runner finds the end and the order to stop at once.
        os.kill(pid, signal.SIGSTOP)
        node.client.stop(1, "too late")
        gate.touch()
        async with asyncio.timeout(5):
            while not gone.exists() or not gone.read_text():
                await asyncio.sleep(0.01)
            attempt = Path("/proc", gone.read_text().strip(), "stat")
            while attempt.read_text().rpartition(")")[2].split()[0] != "Z":
                await asyncio.sleep(0.01)
        os.kill(pid, signal.SIGCONT)
        assert (await node.report(1)).status == status


@pytest.mark.parametrize("options", [{}, {"cwd": "/" + "d" * 60_000}])
async def test_reason_with_a_long_name_is_bounded(tmp_path: Path, options: dict[str, Any]) -> None:
    async with running(tmp_path) as node:
        report = await node.run("p" * 60_000, **options)
        assert report.status == "failed"
        assert len(report.reason) == messages.REASON_CHARS_MAX
        report = await node.run("/" + "p" * 60_000, token=2)
        assert len(report.reason) == messages.REASON_CHARS_MAX


async def test_attempt_ends_before_its_lease_does(tmp_path: Path) -> None:
    async with running(tmp_path, lease_seconds=2.0) as node:
        until = time.monotonic() + 2.0
        script = 'trap "" TERM; while true; do sleep 0.05; done'
        report = await node.run(script, shell=True)
        assert time.monotonic() < until
        assert (report.status, report.reason) == ("lost", "lease-expired")
        report = await node.run("true", token=2)
        assert report.reason == "lease-expired", "nothing starts without a lease"


async def test_a_grace_that_is_longer_than_the_lease_ends_with_it(tmp_path: Path) -> None:
    async with running(tmp_path, lease_seconds=2.0) as node:
        until = time.monotonic() + 2.0
        script = 'trap "" TERM; while true; do sleep 0.05; done'
        node.start(script, shell=True, grace_ms=60_000)
        await node.report(1, "started")
        node.client.stop(1, "operator")
        report = await node.report(1, "finished")
        assert time.monotonic() < until
        assert (report.status, report.reason) == ("cancelled", "operator")


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


async def test_orphans_of_a_killed_runner_and_keeper_are_found_by_their_mark(
    tmp_path: Path,
) -> None:
    async with running(tmp_path) as node:
        node.start("setsid -f sleep 100; sleep 100", shell=True)
        async with asyncio.timeout(5):
            while len(leftovers.find(tmp_path)) < 3:
                await asyncio.sleep(0.005)
        runner = proc.look(int((tmp_path / "runner.pid").read_text()))
        assert runner is not None
        os.kill(runner.parent, signal.SIGKILL)
        os.kill(runner.pid, signal.SIGKILL)
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
        kept = sum(p.stat().st_blocks * 512 for p in (tmp_path / "output").iterdir())
        node.client.stop(3, "enough")
        report = await node.report(3)
        assert report.output_bytes > output.STREAM_BYTES_MAX
        # What a fast writer adds between two looks comes on top of the bound.
        assert kept < min(report.output_bytes, 1024 * 1024 * 1024)
        kept = sum(p.stat().st_blocks * 512 for p in (tmp_path / "output").iterdir())
        assert kept <= output.STREAM_BYTES_MAX
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


@pytest.mark.parametrize("name", ["PIPE", "INT", "HUP", "XFSZ"])
async def test_attempt_dies_of_signals_its_runner_ignores(tmp_path: Path, name: str) -> None:
    async with running(tmp_path) as node:
        report = await node.run("sh", "-c", f"kill -{name} $$; echo survived")
        assert (report.signal, report.output_tail) == (getattr(signal, f"SIG{name}"), b"")


async def test_attempt_cannot_hide_its_mark(tmp_path: Path) -> None:
    async with running(tmp_path) as node:
        node.start("sleep", "100", env={leftovers.MARK: "another"})
        await node.report(1, "started")
        async with asyncio.timeout(5):
            while not leftovers.find(tmp_path):  # Not to be read in the middle of its exec.
                await asyncio.sleep(0.01)


async def test_output_stands_as_written_under_its_name_while_it_runs(tmp_path: Path) -> None:
    async with running(tmp_path) as node:
        gate = tmp_path / "gate"
        wait = f"while [ ! -e {gate} ]; do sleep 0.01; done"
        node.start(f"echo a; echo b >&2; echo c; {wait}; echo d >&2; echo e", shell=True)
        reader = OutputReader(tmp_path)
        async with asyncio.timeout(5):
            while not (tmp_path / "output" / "t1.1.out").exists():
                await asyncio.sleep(0.01)
            while reader.read("t1", 1, "out", 0, 100)[0] != b"a\nb\nc\n":
                await asyncio.sleep(0.01)
        assert not [report for report in node.reports if report.phase == "finished"]
        gate.touch()
        report = await node.report(1)
        assert (report.output_tail, report.output_bytes) == (b"a\nb\nc\nd\ne\n", 10)
        assert reader.read("t1", 1, "out", 4, 100) == (b"c\nd\ne\n", 10, True)


async def test_runner_that_is_told_to_end_leaves_the_output_it_has(tmp_path: Path) -> None:
    async with running(tmp_path / "n") as node:
        wrote = tmp_path / "wrote"
        node.start(f"echo last words; touch {wrote}; sleep 100", shell=True)
        async with asyncio.timeout(5):
            while not wrote.exists():
                await asyncio.sleep(0.001)
            os.kill(int((tmp_path / "n" / "runner.pid").read_text()), signal.SIGTERM)
            file = tmp_path / "n" / "output" / "t1.1.out"
            while not file.exists():
                await asyncio.sleep(0.01)
        assert file.read_bytes() == b"last words\n"


async def test_what_the_old_connection_said_last_counts_when_a_new_one_comes(
    tmp_path: Path,
) -> None:
    async with running(tmp_path) as node:
        await node.run("true")
        pid = int((tmp_path / "runner.pid").read_text())
        # Stopped, the runner finds the new connection first and then what the old one said.
        os.kill(pid, signal.SIGSTOP)
        address, descriptor = socket_address(tmp_path)
        with socket.socket(socket.AF_UNIX) as new:
            new.connect(address)
            os.close(descriptor)
            node.client.forget([1])
            os.kill(pid, signal.SIGCONT)
            new.settimeout(5)
            buffer, received = bytearray(), list[messages.AnyMessage]()
            while not received:
                buffer += new.recv(4096)
                received = messages.split(buffer)
        assert isinstance(received[0], messages.Hello)
        assert received[0].inventory == ()
