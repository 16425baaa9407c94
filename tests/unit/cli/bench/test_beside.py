"""What stands beside ours: started and stopped as stated, left out when absent, compared fairly."""

from __future__ import annotations

import base64
import json
import os
import shutil
import signal
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from click.testing import CliRunner

from raftsched.cli.bench.beside import etcd, processes, queues, tasks, writes
from raftsched.cli.bench.beside.command import ended_by_sigterm
from raftsched.cli.bench.beside.processes import Program
from raftsched.cli.bench.beside.programs import drive
from raftsched.cli.bench.command import bench
from raftsched.cli.bench.load import Load
from raftsched.cli.exits import Failure
from tests.e2e.cluster import is_alive
from tests.ports import base_port

# Programs of others ------------------------------------------------------------------------------

#: Starts a child that does not care for SIGTERM, tells its pid, and waits.
STUBBORN = """
import os, signal, sys, time
child = os.fork()
if not child:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    open(sys.argv[1], "w").write(str(os.getpid()))
time.sleep(60)
"""


def test_all_of_a_program_ends_with_its_block(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "STOP_SECONDS_MAX", 0.2)
    pid_file = tmp_path / "pid"
    program = Program("one", [sys.executable, "-S", "-c", STUBBORN, str(pid_file)], tmp_path)
    with pytest.raises(KeyError), program:
        program.wait_until(lambda: pid_file.exists() and pid_file.read_text() != "")
        raise KeyError
    child = int(pid_file.read_text())
    deadline = time.monotonic() + 5
    while is_alive(child) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not is_alive(child) and not is_alive(program.pid)


def test_program_that_ends_too_early_says_its_last_words(tmp_path: Path) -> None:
    with (
        Program("one", ["sh", "-c", "echo no such luck >&2; exit 1"], tmp_path) as program,
        pytest.raises(Failure, match="one ended: no such luck"),
    ):
        program.wait_until(lambda: False)


def test_program_that_never_gets_ready_is_not_waited_for_without_end(tmp_path: Path) -> None:
    with (
        Program("one", ["sleep", "60"], tmp_path) as program,
        pytest.raises(Failure, match="not ready after"),
    ):
        program.wait_until(lambda: False, 0.1)


def test_program_ends_when_what_started_it_is_killed(tmp_path: Path) -> None:
    script = (
        "import sys, time\n"
        "from pathlib import Path\n"
        "from raftsched.cli.bench.beside.processes import Program\n"
        "with Program('one', ['sleep', '60'], Path(sys.argv[1])) as program:\n"
        "    Path(sys.argv[1], 'pid').write_text(str(program.pid))\n"
        "    time.sleep(60)\n"
    )
    pid_file = tmp_path / "pid"
    with Program("starter", [sys.executable, "-c", script, str(tmp_path)], tmp_path) as starter:
        starter.wait_until(lambda: pid_file.exists() and pid_file.read_text() != "")
        pid = int(pid_file.read_text())
        assert is_alive(pid)
        os.kill(starter.pid, signal.SIGKILL)
        deadline = time.monotonic() + 5
        while is_alive(pid) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert not is_alive(pid)


def test_sigterm_unwinds_and_is_then_as_it_was() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as ended, ended_by_sigterm():
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(5)
    assert ended.value.code == 128 + signal.SIGTERM
    assert signal.getsignal(signal.SIGTERM) is before


# etcd --------------------------------------------------------------------------------------------


def test_each_write_has_the_value_of_its_number_and_the_size_asked_for() -> None:
    request = etcd.put("127.0.0.1:2379", "key", 200)
    head, _, body = request(7).partition(b"\r\n\r\n")
    document = json.loads(body)
    assert head.startswith(b"POST /v3/kv/put HTTP/1.1\r\nHost: 127.0.0.1:2379\r\n")
    assert base64.b64decode(document["key"]) == b"key"
    value = base64.b64decode(document["value"])
    assert (len(value), value.strip()) == (200, b"7")


@pytest.mark.parametrize(
    ("status", "leader"), [({}, ""), ({"leader": "0"}, ""), ({"leader": "17"}, "17")]
)
def test_a_member_without_a_leader_is_told_from_one_with(
    status: dict[str, Any], leader: str
) -> None:
    assert etcd.leader_of(status) == leader


def test_our_submission_is_as_large_as_its_value() -> None:
    assert len(writes.task_of(200)) == 200
    assert json.loads(writes.task_of(200))["command"][0] == "/bin/true"


# What is compared --------------------------------------------------------------------------------

ALL = {"celery": "5", "dramatiq": "1", "huey": "2", "redis": "5"}


def test_what_is_there_is_measured() -> None:
    there, skipped = tasks.present(True, ALL)
    assert (there, skipped) == (list(queues.QUEUES), {})


@pytest.mark.parametrize(
    ("has_redis", "versions", "names", "remedy"),
    [
        (False, ALL, {"celery", "dramatiq", "huey"}, queues.INSTALL_REDIS),
        (True, {}, {"celery", "dramatiq", "huey"}, queues.INSTALL_PACKAGES),
        (True, {"celery": "5"}, {"celery", "dramatiq", "huey"}, queues.INSTALL_PACKAGES),
        (True, {"celery": "5", "redis": "5"}, {"dramatiq", "huey"}, queues.INSTALL_PACKAGES),
    ],
)
def test_what_is_absent_is_left_out_with_its_remedy(
    has_redis: bool, versions: dict[str, str], names: set[str], remedy: str
) -> None:
    there, skipped = tasks.present(has_redis, versions)
    assert skipped == dict.fromkeys(skipped, remedy)
    assert (
        set(skipped) == names == {queue.name for queue in queues.QUEUES} - {q.name for q in there}
    )


def test_rounds_go_in_turns_after_each_got_warm() -> None:
    calls: list[tuple[str, int]] = []

    def contestant(name: str) -> tasks.Contestant:
        def run(count: int) -> float:
            calls.append((name, count))
            return float(len(calls))

        return run

    rates = tasks.in_turns({name: contestant(name) for name in "ab"}, 100, 2)
    assert calls == [("a", 10), ("b", 10)] + [("a", 100), ("b", 100)] * 2
    assert rates == {"a": [3.0, 5.0], "b": [4.0, 6.0]}


def test_ratios_are_of_the_same_round_and_promises_stand_beside() -> None:
    rates = {"ours": [10.0, 40.0], "ours_single": [2.0, 2.0], "huey": [1.0, 2.0]}
    report = tasks.task_report(rates, 100)
    assert report["ours_of"]["huey"]["runs"] == [10.0, 20.0]
    assert report["ours_single_of"]["huey"]["median"] == 1.5
    assert set(report["ours_of"]) == {"huey"}
    assert "no acknowledgement" in report["huey"]["promise"]
    assert "three replicas" in report["ours"]["promise"]


def test_write_ratios_are_by_number_of_connections() -> None:
    def load(rate: float) -> Load:
        return Load(rate, 1.0, 2.0, 0, 10)

    rates = {"ours_16": 3.0, "etcd_16": 2.0, "ours_64": 1.0, "etcd_64": 4.0}
    report = writes.write_report({name: [load(rate)] for name, rate in rates.items()})
    assert report["ours_of_etcd"]["16 connections"]["median"] == 1.5
    assert report["ours_of_etcd"]["64 connections"]["median"] == 0.25


def test_a_rate_of_nothing_is_no_ratio() -> None:
    assert writes.times([1.0], [0.0])["median"] == 0.0


# The scripts of the others -----------------------------------------------------------------------


def test_round_of_a_queue_ends_when_all_results_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drive, "POLL_SECONDS", 0.0)
    module: Any = ModuleType("fake")
    made: list[int] = []
    kept = iter([0, 2, 3, 3])
    module.submit = lambda: made.append(1)
    module.kept = lambda: next(kept)
    found = drive.run(module, 3)
    assert len(made) == 3 and next(kept) == 3
    assert 0 <= found["submitting"] <= found["seconds"]


def test_round_that_loses_results_ends_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drive, "SECONDS_MAX", 0.01)
    module: Any = ModuleType("fake")
    module.submit = lambda: None
    module.kept = lambda: 1
    with pytest.raises(SystemExit, match="1 of 2 results"):
        drive.run(module, 2)


def test_an_interpreter_that_is_none_has_no_packages() -> None:
    assert queues.versions("/nonexistent/python") == {}
    assert "celery" not in queues.versions(sys.executable)


# All of it ---------------------------------------------------------------------------------------


def invoke(*arguments: str) -> tuple[dict[str, Any], str]:
    port = str(base_port())
    result = CliRunner().invoke(bench, ["beside", *arguments, "--base-port", port])
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout), result.stderr


def test_without_the_others_ours_is_measured_and_says_what_is_missing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    report, complaints = invoke("--tasks", "40", "--rounds", "1", "--python", sys.executable)
    assert report["writes"] == {"skipped": {"etcd": etcd.INSTALL}}
    assert report["tasks"]["ours"]["median"] > 0 and report["tasks"]["ours_single"]["median"] > 0
    assert set(report["tasks"]["skipped"]) == {"celery", "dramatiq", "huey"}
    assert complaints.count("left out") == 4 and "apt-get install etcd-server" in complaints


@pytest.mark.skipif(etcd.find() is None, reason=f"etcd is not installed: {etcd.INSTALL}")
def test_small_run_writes_to_a_real_etcd() -> None:
    report, _ = invoke("--only", "writes", "--seconds", "0.2", "--rounds", "1")
    found = report["writes"]
    assert found["etcd_16"]["median"] > 0 and found["etcd_64"]["errors"] == 0
    assert found["ours_of_etcd"]["64 connections"]["median"] > 0
