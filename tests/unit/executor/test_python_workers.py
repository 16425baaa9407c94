"""Workers of applications: how they are shared, replaced, and die."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from pathlib import Path
from random import Random

import pytest

from tests.unit.executor.applications import APP, COROUTINES, exists, served
from tests.unit.executor.harness import nothing_runs, serve_apps


@pytest.mark.parametrize(
    ("how", "reason", "exit_code", "number"),
    [
        ("exit", "worker-died: exit-code-3", 3, 0),
        ("SIGSEGV", "worker-died: signal-11", None, 11),
        ("SIGKILL", "worker-died: signal-9", None, 9),
    ],
)
async def test_worker_that_dies_fails_its_call_and_no_other(
    tmp_path: Path, how: str, reason: str, exit_code: int | None, number: int
) -> None:
    async with served(tmp_path, workers=1) as node:
        await node.run_call("jobs:nothing", token=1)
        attempts = [node.attempt("jobs:add", 1, token=token) for token in range(2, 40)]
        attempts[18] = node.attempt("jobs:die", how, token=20)
        node.client.start(attempts, 8)
        report = await node.report(20)
        assert (report.status, report.reason) == ("failed", reason)
        assert (report.exit_code, report.signal) == (exit_code, number)
        for token in {*range(2, 40)} - {20}:
            assert (await node.report(token)).result == b"3"


async def test_calls_behind_a_long_one_are_taken_back_and_done_by_others(tmp_path: Path) -> None:
    async with served(tmp_path, workers=2) as node:
        for token in range(1, 5):  # Until both are there and known to be quick.
            await node.run_call("jobs:nothing", token=token)
        gate = tmp_path / "gate"
        names = ["say"] + ["nothing"] * 100
        node.client.start(
            [
                node.attempt(f"jobs:{name}", *(["x", str(gate)] if name == "say" else []), token=t)
                for t, name in enumerate(names, 10)
            ],
            8,
        )
        for token in range(11, 111):
            assert (await node.report(token)).status == "succeeded"
        assert not gate.exists()
        gate.touch()
        assert (await node.report(10)).status == "succeeded"


async def test_old_workers_are_replaced_without_a_call_failing(tmp_path: Path) -> None:
    text = APP.replace('App("test")', 'App("test", worker_tasks_max=3)')
    async with served(tmp_path, text, workers=1) as node:
        node.client.start([node.attempt("jobs:who", token=token) for token in range(1, 11)], 8)
        reports = [await node.report(token) for token in range(1, 11)]
        assert {report.status for report in reports} == {"succeeded"}
        assert len({json.loads(report.result)[3] for report in reports}) > 1


async def test_worker_that_has_grown_is_replaced(tmp_path: Path) -> None:
    text = APP.replace('App("test")', 'App("test", worker_bytes_max=1)')
    text += "\n@app.task\ndef slow(): time.sleep(0.6); return os.getpid()\n"
    async with served(tmp_path, text, workers=1) as node:
        # How large it is it sees twice a second, or later on a busy machine.
        pids = set()
        for token in range(1, 20):
            pids.add((await node.run_call("jobs:slow", token=token)).result)
            if len(pids) > 1:
                return
    raise AssertionError("the same worker ran them all")


async def test_peer_that_starts_anew_gets_workers_with_new_code(tmp_path: Path) -> None:
    async with served(tmp_path, workers=1) as node:
        assert (await node.run_call("jobs:add", 1, token=1)).result == b"3"
        text = APP.replace("return a + b", "return a * 100")
        (tmp_path / "jobs.py").write_text(text + "\n# of another length\n")
        serve_apps(node, tmp_path, "jobs:app", workers=1)
        assert (await node.run_call("jobs:add", 1, token=2)).result == b"3", "nothing has changed"
        serve_apps(node, tmp_path, "jobs:app", workers=1, generation="2")
        assert (await node.run_call("jobs:add", 1, token=3)).result == b"100"


async def test_coroutines_of_a_worker_run_at_once_and_write_apart(tmp_path: Path) -> None:
    async with served(tmp_path, COROUTINES, workers=1) as node:
        attempts = [node.attempt("jobs:meet", 20, f"no {t}", token=t) for t in range(1, 21)]
        node.client.start(attempts, 100)
        for token in range(1, 21):
            report = await node.report(token)
            assert report.result == str(token).encode()
            assert report.output_tail == f"no {token} t{token}\n".encode()


async def test_nothing_of_a_worker_outlives_a_runner_that_is_killed(tmp_path: Path) -> None:
    async with served(tmp_path) as node:
        node.start_call("jobs:ignore", str(tmp_path / "pid"))
        await exists(tmp_path / "pid")
        os.kill(int((tmp_path / "n" / "runner.pid").read_text()), signal.SIGKILL)
        await nothing_runs(tmp_path / "n")


async def test_kinds_of_functions_do_not_wait_for_each_other(tmp_path: Path) -> None:
    text = APP + "\n@app.task\nasync def soon(n): return n\n"
    async with served(tmp_path, text, workers=1) as node:
        gate = tmp_path / "gate"
        node.start_call("jobs:say", "x", str(gate), token=1)
        await node.report(1, "started")
        # A younger lane stands before the older one, which has no room.
        attempts = [node.attempt("jobs:soon", 1, token=10)]
        attempts += [node.attempt("jobs:nothing", token=token) for token in (2, 3)]
        attempts += [node.attempt("jobs:soon", 2, token=11), node.attempt("jobs:fail", 1, token=4)]
        node.client.start(attempts, 8)
        assert [(await node.report(token)).result for token in (10, 11)] == [b"1", b"2"]
        assert not [report for report in node.reports if report.token in (2, 3, 4)]
        gate.touch()
        assert [(await node.report(token)).status for token in (2, 3)] == ["succeeded"] * 2


async def test_every_attempt_ends_once_whatever_befalls_workers_and_attempts(
    tmp_path: Path,
) -> None:
    text = APP + "\n@app.task\nasync def soon(n): await asyncio.sleep(n / 1000); return n\n"
    random = Random(5)
    kinds = [("nothing",), ("add", 1), ("fail", "x"), ("big", 60_000), ("soon", 3), ("say", "x")]
    kinds += [("die", "exit"), ("obey", str(tmp_path / "o")), ("ignore", str(tmp_path / "i"))]
    weights = [200, 50, 20, 40, 50, 10, 2, 4, 2]
    async with served(tmp_path, text) as node:
        attempts, endless = [], []
        for token in range(1, 601):
            name, *args = random.choices(kinds, weights)[0]
            if name in ("obey", "ignore"):
                endless.append(token)
            attempts.append(node.attempt(f"jobs:{name}", *args, token=token, grace_ms=50))
        await node.run_call("jobs:nothing", token=1001)
        stopped = {*endless, *random.sample(range(1, 601), 60)}
        for begin in range(0, len(attempts), 50):
            batch = attempts[begin : begin + 50]
            node.client.start(batch, 8)
            await asyncio.sleep(random.choice([0, 0.01, 0.1]))
            for attempt in random.sample(batch, len(batch)):
                if attempt.token in stopped:
                    node.client.stop(attempt.token, "user")
        async with asyncio.timeout(30):
            while len(ended := [r.token for r in node.reports if r.phase == "finished"]) < 601:
                await asyncio.sleep(0.02)
        assert sorted(ended) == [*range(1, 601), 1001]
        reasons = {r.reason for r in node.reports if r.phase == "finished"}
        assert reasons <= {
            "", "user", "ValueError: x", "worker-died: exit-code-3", "SystemExit: 0",
            "worker-killed: another attempt in it would not end",
        }  # fmt: skip
        # Nothing is thought to be held any more, so that a long call has a worker to itself.
        report = await node.run_call("jobs:add", 1, token=1000)
        assert report.result == b"3"


async def test_call_under_way_ends_in_its_old_worker_when_the_peer_starts_anew(
    tmp_path: Path,
) -> None:
    async with served(tmp_path, workers=1) as node:
        old = json.loads((await node.run_call("jobs:who", token=1)).result)[3]
        gate = tmp_path / "gate"
        node.start_call("jobs:say", "x", str(gate), token=2)
        await node.report(2, "started")
        serve_apps(node, tmp_path, "jobs:app", workers=1, generation="2")
        new = json.loads((await node.run_call("jobs:who", token=3)).result)[3]
        assert new != old
        gate.touch()
        assert (await node.report(2)).status == "succeeded"
        async with asyncio.timeout(5):
            while Path(f"/proc/{old}").exists():
                await asyncio.sleep(0.005)
