"""A node that can start nothing: its attempts wait, and are lost in the end, not failed."""

from __future__ import annotations

import asyncio
import errno
import os
import resource
import time
from pathlib import Path

import pytest

from raftsched.core.spec import TaskSpec
from raftsched.executor.messages import AttemptReport, StartAttempt
from raftsched.executor.runner import Runner
from raftsched.executor.shortage import GIVE_UP_SECONDS, RETRY_SECONDS, Shortage
from raftsched.executor.spawn import CannotStart
from raftsched.executor.waiting import Waiting
from tests.unit.executor.harness import Node, running

FULL = CannotStart.of(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/spool/t1"))


def test_it_says_what_the_machine_said() -> None:
    assert str(FULL) == "cannot-start: No space left on device: /spool/t1"
    assert str(CannotStart.of(OSError(errno.EAGAIN, "no"))) == "cannot-start: no"


@pytest.mark.parametrize("number", [errno.ENOENT, errno.EACCES, errno.E2BIG, 0])
def test_what_is_the_attempts_own_fault_does_not_wait(number: int) -> None:
    shortage = Shortage()
    assert not shortage.holds(1, CannotStart("cannot-start: x", number), 100.0)
    assert not shortage.is_on(100.0)


def test_each_attempt_waits_for_as_long_from_its_own_first_try_on() -> None:
    shortage = Shortage()
    assert shortage.holds(1, FULL, 100.0)
    assert shortage.is_on(100.0 + RETRY_SECONDS / 2)
    assert not shortage.is_on(100.0 + RETRY_SECONDS)
    assert shortage.holds(2, FULL, 100.0 + GIVE_UP_SECONDS - 1)
    assert not shortage.holds(1, FULL, 100.0 + GIVE_UP_SECONDS)
    assert shortage.holds(2, FULL, 100.0 + GIVE_UP_SECONDS)


def test_who_waits_no_more_is_forgotten() -> None:
    shortage, waiting = Shortage(), Waiting()
    shortage.holds(1, FULL, 100.0)
    shortage.keep(waiting)
    assert shortage.holds(1, FULL, 100.0 + GIVE_UP_SECONDS)


def _files(node: Node, count: int) -> int:
    """Let the runner have so many open files; how many it might have before."""
    pid = int((node.directory / "runner.pid").read_text())
    soft, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (count, hard))
    return soft


async def test_an_attempt_runs_once_there_is_enough_again(tmp_path: Path) -> None:
    async with running(tmp_path) as node:
        usual = _files(node, 3)
        node.start("true", token=1)
        node.start("true", token=2)
        await asyncio.sleep(2.5 * RETRY_SECONDS)
        assert node.reports == []
        _files(node, usual)
        assert (await node.report(1)).status == "succeeded"
        assert (await node.report(2)).status == "succeeded"


async def test_so_does_one_with_programs_before_and_after_it(tmp_path: Path) -> None:
    async with running(tmp_path) as node:
        usual = _files(node, 3)
        node.start("true", before=("true",), after=("true",))
        await asyncio.sleep(0.5)
        assert node.reports == []
        _files(node, usual)
        assert (await node.report(1)).status == "succeeded"


@pytest.mark.parametrize(
    ("number", "waits"), [(errno.EIO, False), (errno.ENOSPC, False), (errno.EAGAIN, True)]
)
def test_a_program_that_cannot_be_read_holds_up_nobody_else(
    number: int, waits: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object, **__: object) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "posix_spawn", fails)
    it = Runner(tmp_path, 30.0, None, is_clean=True)
    it._leases.renew(time.monotonic(), 30.0)
    it._waiting.add(StartAttempt(1, "t1", 1, TaskSpec(("/bin/true",))))
    it._start_waiting()
    assert (1 in it._waiting) is waits
    assert it._shortage.is_on(time.monotonic()) is waits


async def test_an_attempt_that_waits_can_be_stopped(tmp_path: Path) -> None:
    async with running(tmp_path) as node:
        usual = _files(node, 3)
        node.start("true")
        await asyncio.sleep(0.3)
        node.client.stop(1, "cancelled by somebody")
        assert (await node.report(1)).status == "cancelled"
        _files(node, usual)


async def test_an_attempt_that_never_began_is_lost_in_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("raftsched.executor.shortage.GIVE_UP_SECONDS", 1.5)
    reports: list[AttemptReport] = []
    it = Runner(tmp_path, 30.0, None, is_clean=True)
    monkeypatch.setattr(it, "_report", reports.append)
    monkeypatch.setattr(it._command, "start", _cannot)
    spec = StartAttempt(1, "t1", 1, TaskSpec(("true",)))
    it._waiting.add(spec)
    it._leases.renew(time.monotonic(), 30.0)
    it._leases.waits(spec)
    while not reports:
        it._start_waiting()
        await asyncio.sleep(0.05)
    (report,) = reports
    assert (report.status, report.reason) == ("lost", str(FULL))


def _cannot(*_: object) -> None:
    raise FULL
