"""A runner that is killed: nothing of it lives before the next one is called clean."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from raftsched.executor import ledger, leftovers, proc
from raftsched.executor.client import RunnerClient
from raftsched.executor.keeper import LOOK_SECONDS, STILL_SECONDS
from raftsched.executor.ledger import Entries, Ledger
from raftsched.executor.runner import TIDY_SECONDS
from tests.unit.executor.harness import Node, nothing_runs, running, serve_apps

#: Clears its environment, leaves group and session, ignores requests to end, forks on.
HIDDEN = """
env -i /bin/sh -c "trap '' TERM HUP; setsid -f /bin/sh -c 'echo \\$\\$ > {file}; {then}'"; sleep 100
"""
APP = """
import ctypes, os, time
from raftsched import App
app = App("jobs")

def here(file):
    with open(file, "w") as opened:
        opened.write(f"{os.getpid()}\\n")

@app.task
def sleep(file):
    here(file)
    time.sleep(1000)

@app.task
def hold(file):
    here(file)
    ctypes.PyDLL(None).sleep(1000)
"""


def runner_of(directory: Path) -> int:
    return int((directory / "runner.pid").read_text())


def keeper_of(directory: Path) -> int:
    runner = proc.look(runner_of(directory))
    assert runner is not None
    return runner.parent


def lives(pid: int) -> bool:
    process = proc.look(pid)
    return process is not None and not process.is_dead


async def pid_in(file: Path) -> int:
    async with asyncio.timeout(5):
        while not (file.exists() and file.read_text().endswith("\n")):
            await asyncio.sleep(0.005)
    return int(file.read_text())


async def dead(*pids: int) -> None:
    async with asyncio.timeout(5):
        while any(lives(pid) for pid in pids):
            await asyncio.sleep(0.005)


async def beaten(directory: Path, until: float) -> None:
    """Return once the runner has said that leases last so long."""
    [path] = (directory / ledger.FOLDER).iterdir()
    with path.open("rb") as file:
        async with asyncio.timeout(5):
            while (pulse := ledger.pulse(file.fileno())) is None or pulse.until < until:
                await asyncio.sleep(0.005)


async def hidden(node: Node, file: Path, then: str = "sleep 100 & sleep 100") -> int:
    """An attempt runs that nobody finds by its environment, session or group."""
    node.start(HIDDEN.format(file=file, then=then), shell=True)
    await node.report(1, "started")
    return await pid_in(file)


async def test_what_hides_from_everything_is_dead_before_the_next_runner_is_there(
    tmp_path: Path,
) -> None:
    async with running(tmp_path / "n") as node:
        stray = await hidden(node, tmp_path / "pid")
        os.kill(runner_of(tmp_path / "n"), signal.SIGKILL)
        client = await RunnerClient.adopt_or_start(tmp_path / "n", lease_seconds=30)
        assert not lives(stray)
        assert (client.adopted, client.clean) == (False, True)
        await client.close(stop_runner=False)


async def test_attempt_with_an_empty_environment_in_a_session_of_its_own_ends_with_the_runner(
    tmp_path: Path,
) -> None:
    async with running(tmp_path / "n") as node:
        line = f"echo $$ > {tmp_path / 'pid'}; exec sleep 100"
        node.start("env", "-i", "setsid", "-w", "/bin/sh", "-c", line)
        attempt = await pid_in(tmp_path / "pid")
        os.kill(runner_of(tmp_path / "n"), signal.SIGKILL)
        await dead(attempt)  # Though no peer is there.


async def test_stopped_keeper_is_told_to_go_on_when_its_runner_is_dead(tmp_path: Path) -> None:
    async with running(tmp_path / "n") as node:
        stray = await hidden(node, tmp_path / "pid")
        os.kill(keeper_of(tmp_path / "n"), signal.SIGSTOP)
        os.kill(runner_of(tmp_path / "n"), signal.SIGKILL)
        assert await asyncio.to_thread(leftovers.clean_up, tmp_path / "n")
        assert not lives(stray)


async def test_ledger_names_what_runs_when_runner_and_keeper_were_killed(tmp_path: Path) -> None:
    async with running(tmp_path / "n") as node:
        # The stray is a descendant of an attempt that lives.
        line = f"echo $$ > {tmp_path / 'pid'}; exec sleep 100"
        script = f"trap '' TERM; setsid /bin/sh -c '{line}' & sleep 100"
        node.start("env", "-i", "/bin/sh", "-c", script)
        stray = await pid_in(tmp_path / "pid")
        os.kill(keeper_of(tmp_path / "n"), signal.SIGKILL)
        os.kill(runner_of(tmp_path / "n"), signal.SIGKILL)
        assert lives(stray)
        assert leftovers.find(tmp_path / "n") == []
        client = await RunnerClient.adopt_or_start(tmp_path / "n", lease_seconds=30)
        assert not lives(stray)
        assert (client.adopted, client.clean) == (False, True)
        assert len(list((tmp_path / "n" / ledger.FOLDER).iterdir())) == 1
        await client.close(stop_runner=False)


async def test_ledger_names_strays_that_came_to_the_runner(tmp_path: Path) -> None:
    async with running(tmp_path / "n") as node:
        line = f"echo $$ > {tmp_path / 'pid'}; exec sleep 100"
        node.start("/bin/sh", "-c", f"(env -i setsid /bin/sh -c '{line}' &) ; sleep 100")
        stray = await pid_in(tmp_path / "pid")
        runner = runner_of(tmp_path / "n")
        async with asyncio.timeout(10):
            while (found := proc.look(stray)) is None or found.parent != runner:
                await asyncio.sleep(0.02)
        await asyncio.sleep(2 * TIDY_SECONDS)
        os.kill(keeper_of(tmp_path / "n"), signal.SIGKILL)
        os.kill(runner, signal.SIGKILL)
        client = await RunnerClient.adopt_or_start(tmp_path / "n", lease_seconds=30)
        assert not lives(stray)
        assert client.clean
        await client.close(stop_runner=False)


async def test_runner_goes_on_without_its_keeper(tmp_path: Path) -> None:
    async with running(tmp_path) as node:
        os.kill(keeper_of(tmp_path), signal.SIGKILL)
        assert (await node.run("true")).status == "succeeded"


async def test_request_to_end_that_the_keeper_gets_ends_runner_and_attempts(tmp_path: Path) -> None:
    async with running(tmp_path) as node:
        node.start("sleep", "100")
        await node.report(1, "started")
        keeper, runner = keeper_of(tmp_path), runner_of(tmp_path)
        os.kill(keeper, signal.SIGTERM)
        await dead(keeper, runner)
        await nothing_runs(tmp_path)
        assert list((tmp_path / ledger.FOLDER).iterdir()) == []


async def test_what_may_live_is_not_forgotten_when_the_next_peer_adopts_the_runner(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leftovers, "clean_up", lambda directory: False)
    for adopted in (False, True):
        client = await RunnerClient.adopt_or_start(tmp_path, lease_seconds=30)
        assert (client.adopted, client.clean) == (adopted, False)
        await client.close(stop_runner=False)
    monkeypatch.undo()
    os.kill(runner_of(tmp_path), signal.SIGTERM)
    assert await asyncio.to_thread(leftovers.clean_up, tmp_path)


async def test_attempt_of_a_hung_runner_without_a_peer_ends_with_its_lease(tmp_path: Path) -> None:
    async with running(tmp_path / "n", lease_seconds=1.0) as node:
        node.start(f"echo $$ > {tmp_path / 'pid'}; exec sleep 100", shell=True)
        granted_at = time.monotonic()
        node.client.renew(granted_at, 1.0)
        attempt = await pid_in(tmp_path / "pid")
        runner = runner_of(tmp_path / "n")
        await beaten(tmp_path / "n", granted_at + 0.99)
        os.kill(runner, signal.SIGSTOP)
        await node.client.close(stop_runner=False)
        await dead(attempt, runner)
        assert 1.0 <= time.monotonic() - granted_at < 2.0


async def test_hung_runner_is_left_alone_while_its_leases_last(tmp_path: Path) -> None:
    async with running(tmp_path) as node:
        node.start("sleep", "100")
        await node.report(1, "started")
        os.kill(runner_of(tmp_path), signal.SIGSTOP)
        await asyncio.sleep(STILL_SECONDS + LOOK_SECONDS)
        assert lives(runner_of(tmp_path))
        os.kill(runner_of(tmp_path), signal.SIGCONT)


@pytest.mark.parametrize("function", ["jobs:sleep", "jobs:hold"])
async def test_busy_worker_ends_with_its_runner(tmp_path: Path, function: str) -> None:
    (tmp_path / "jobs.py").write_text(APP)
    async with running(tmp_path / "n") as node:
        serve_apps(node, tmp_path, "jobs:app", workers=1)
        node.start_call(function, str(tmp_path / "pid"))
        worker = await pid_in(tmp_path / "pid")
        os.kill(runner_of(tmp_path / "n"), signal.SIGKILL)
        await dead(worker)


# The ledger --------------------------------------------------------------------------------------


@pytest.fixture
def sleeper() -> Iterator[proc.Process]:
    """A session of its own, with a leader and one that is no child of it."""
    with subprocess.Popen(["sleep", "100"], start_new_session=True) as process:
        found = proc.look(process.pid)
        assert found is not None
        yield found
        process.kill()


def soon(seconds: float = 2.0) -> float:
    return time.monotonic() + seconds


def test_child_is_ended_and_another_process_with_its_pid_is_not(sleeper: proc.Process) -> None:
    before = Entries({sleeper.pid: sleeper.started - 1})
    assert ledger.end(before, soon())
    assert lives(sleeper.pid)
    assert ledger.end(Entries({sleeper.pid: sleeper.started}), soon())
    assert not lives(sleeper.pid)


def test_session_without_its_leader_is_not_signalled_and_not_said_to_be_dead() -> None:
    with subprocess.Popen(
        ["sh", "-c", "sleep 100 & echo $!"], stdout=subprocess.PIPE, start_new_session=True
    ) as leader:
        assert leader.stdout is not None
        left = int(leader.stdout.readline())
        leader.wait()
        try:
            assert not ledger.end(Entries({leader.pid: proc.ticks_now()}), soon())
            assert lives(left)
        finally:
            os.kill(left, signal.SIGKILL)


def _written(directory: Path, *pids: int) -> Path:
    """The ledger of a runner that is dead, with its keeper."""
    path, descriptor = ledger.create(directory)
    written = Ledger(descriptor)
    for pid in pids:
        written.add(pid)
    os.close(descriptor)
    return path


def test_ledger_is_gone_once_all_in_it_are_dead(tmp_path: Path, sleeper: proc.Process) -> None:
    path = _written(tmp_path, sleeper.pid)
    assert ledger.settle(tmp_path, soon())
    assert not lives(sleeper.pid)
    assert not path.exists()


def test_what_was_reaped_is_in_no_ledger(tmp_path: Path, sleeper: proc.Process) -> None:
    path, descriptor = ledger.create(tmp_path)
    written = Ledger(descriptor)
    written.add(sleeper.pid)
    written.remove(sleeper.pid)
    os.close(descriptor)
    assert ledger.settle(tmp_path, soon())
    assert lives(sleeper.pid)
    assert not path.exists()


def test_ledger_of_another_boot_is_void(
    tmp_path: Path, sleeper: proc.Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    _written(tmp_path, sleeper.pid)
    other = tmp_path / "boot_id"
    other.write_text("another\n")
    monkeypatch.setattr(proc, "BOOT_ID", other)
    assert ledger.settle(tmp_path, soon())
    assert lives(sleeper.pid)


def test_ledger_that_was_full_cannot_say_that_all_are_dead(tmp_path: Path) -> None:
    path = _written(tmp_path, *range(2**40, 2**40 + ledger.SLOTS_MAX + 1))
    assert not ledger.settle(tmp_path, soon())
    assert path.exists()


def test_full_ledger_of_another_boot_is_void(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = _written(tmp_path, *range(2**40, 2**40 + ledger.SLOTS_MAX + 1))
    other = tmp_path / "boot_id"
    other.write_text("another\n")
    monkeypatch.setattr(proc, "BOOT_ID", other)
    assert ledger.settle(tmp_path, soon())
    assert not path.exists()


def test_ledger_that_was_never_finished_holds_nobody_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Died(Exception):
        """Its keeper did."""

    def die(descriptor: int, offset: int, size: int) -> None:
        os.close(descriptor)
        raise Died

    with monkeypatch.context() as patched, pytest.raises(Died):
        patched.setattr(os, "posix_fallocate", die)
        ledger.create(tmp_path)
    [path] = (tmp_path / ledger.FOLDER).iterdir()
    assert ledger.settle(tmp_path, soon())
    assert not path.exists()


def test_keeper_whose_unfinished_ledger_was_settled_has_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = fcntl.flock

    def settled_before(descriptor: int, how: int) -> None:
        monkeypatch.undo()
        assert ledger.settle(tmp_path, soon())
        lock(descriptor, how)

    monkeypatch.setattr(fcntl, "flock", settled_before)
    with pytest.raises(FileNotFoundError):
        ledger.create(tmp_path)
    assert list((tmp_path / ledger.FOLDER).iterdir()) == []


@pytest.mark.parametrize("kept", [0, 3, 8, 20])
@pytest.mark.parametrize("is_cut", [False, True])
def test_ledger_whose_head_went_with_the_power_holds_nobody_up(
    tmp_path: Path, kept: int, is_cut: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = _written(tmp_path, 2**40)
    whole = path.read_bytes()
    path.write_bytes(whole[:kept] if is_cut else whole[:kept].ljust(len(whole), b"\0"))
    other = tmp_path / "boot_id"
    other.write_text("another\n")
    monkeypatch.setattr(proc, "BOOT_ID", other)
    assert ledger.settle(tmp_path, soon())
    assert not path.exists()


@pytest.mark.parametrize("kept", [0, 3, 8])
def test_ledger_of_this_boot_without_a_head_cannot_say_that_all_are_dead(
    tmp_path: Path, kept: int, sleeper: proc.Process
) -> None:
    path = _written(tmp_path, sleeper.pid)
    whole = path.read_bytes()
    path.write_bytes(whole[:kept] + bytes(48 - kept) + whole[48:])
    assert not ledger.settle(tmp_path, soon())
    assert not lives(sleeper.pid)
    assert path.exists()


def test_ledger_that_could_not_be_written_says_so_as_soon_as_it_can_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(descriptor: int, data: bytes, offset: int) -> int:
        raise OSError(errno.EIO, "no")

    path, descriptor = ledger.create(tmp_path)
    written = Ledger(descriptor)
    with monkeypatch.context() as patched:
        patched.setattr(os, "pwrite", fail)
        written.add(2**40)
    written.beat(ledger.Pulse(1.0, 2.0))
    os.close(descriptor)
    assert not ledger.settle(tmp_path, soon())
    assert path.exists()


def test_keeper_at_work_is_waited_for(tmp_path: Path) -> None:
    path, descriptor = ledger.create(tmp_path)
    assert not ledger.settle(tmp_path, soon(0.1))
    assert path.exists()
    os.close(descriptor)
    assert ledger.settle(tmp_path, soon())
