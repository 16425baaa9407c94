"""The Python executor with a real runner and real workers: every way a call can end."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from random import Random
from typing import Any

import pytest

from raftsched.executor.output import OutputReader
from tests.unit.executor.harness import Node, nothing_runs, running, serve_apps

APP = """
import asyncio, os, signal, subprocess, sys, time
from pathlib import Path
from random import Random
from raftsched import App, current

app = App("test")

@app.task
def add(a, b=2): return a + b

@app.task
def nothing(): pass

@app.task
def fail(text): raise ValueError(text)

@app.task
def leave(code): sys.exit(code)

@app.task
def big(size): return "x" * size

@app.task
def odd(): return object()

@app.task
def say(text, file=""):
    print(text)
    print("err", file=sys.stderr)
    subprocess.run(["echo", "child"])
    until(file)

def until(file):
    while file and not os.path.exists(file): time.sleep(0.005)

@app.task
def die(how):
    if how == "exit": os._exit(3)
    os.kill(os.getpid(), getattr(signal, how))

@app.task
def who():
    it = current()
    return [it.task_id, it.attempt, it.fencing_token, os.getpid()]

@app.task
def obey(file):
    Path(file).touch()
    while True:
        current().raise_if_cancelled()
        time.sleep(0.005)

@app.task
def ignore(file):
    child = subprocess.Popen(["sleep", "100"])
    Path(file).write_text(str(os.getpid()))
    while True: time.sleep(0.05)

@app.task
def steps(file):
    for number in range(100): current().report_progress(number / 100, "step %d" % number)
    until(file)
"""

COROUTINES = """
import asyncio
from pathlib import Path
from random import Random
from raftsched import App, current

app = App("loop", concurrency=50)
met = asyncio.Event()

@app.task
async def meet(n, text=""):
    meet.count = getattr(meet, "count", 0) + 1
    if meet.count == n: met.set()
    await asyncio.wait_for(met.wait(), 5)
    if text: print(text, current().task_id)
    return current().fencing_token

@app.task
async def stay(file, stubborn=False):
    Path(file).touch()
    while True:
        try: await asyncio.sleep(100)
        except asyncio.CancelledError:
            if not stubborn: raise
"""


@contextlib.asynccontextmanager
async def served(
    directory: Path, text: str = APP, lease_seconds: float = 30.0, workers: int = 2
) -> AsyncIterator[Node]:
    (directory / "jobs.py").write_text(text)
    async with running(directory / "n", lease_seconds) as node:
        serve_apps(node, directory, "jobs:app", workers=workers)
        yield node


async def exists(path: Path) -> None:
    async with asyncio.timeout(5):
        while not path.exists():
            await asyncio.sleep(0.005)


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


async def test_nothing_of_a_worker_outlives_a_runner_that_is_killed(tmp_path: Path) -> None:
    async with served(tmp_path) as node:
        node.start_call("jobs:ignore", str(tmp_path / "pid"))
        await exists(tmp_path / "pid")
        os.kill(int((tmp_path / "n" / "runner.pid").read_text()), signal.SIGKILL)
        await nothing_runs(tmp_path / "n")


async def test_runner_imports_neither_asyncio_nor_the_application(tmp_path: Path) -> None:
    code = "import sys, raftsched.executor.runner; print(*sys.modules)"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, stdout=asyncio.subprocess.PIPE
    )
    modules = set((await process.communicate())[0].decode().split())
    assert not modules & {"asyncio", "aiohttp", "raftsched.app", "raftsched.client"}


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
