"""Processes are known by pid and start, whatever they are called."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from pathlib import Path

from raftsched.executor import proc


def test_process_with_a_misleading_name_is_read_right(tmp_path: Path) -> None:
    before = proc.ticks_now()
    program = tmp_path / ") S 1 1 (x"
    shutil.copy("/bin/sleep", program)
    with subprocess.Popen([program, "100"], start_new_session=True) as process:
        found = proc.look(process.pid)
        assert found is not None
        assert found == proc.everyone()[process.pid]
        assert found[2:] == (os.getpid(), process.pid, False)
        assert before <= found.started <= proc.ticks_now()
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        ended = proc.look(process.pid)
        assert ended is not None
        assert ended.is_dead
    assert proc.look(process.pid) is None


def test_signal_is_for_this_very_process() -> None:
    with subprocess.Popen(["sleep", "100"]) as process:
        found = proc.look(process.pid)
        assert found is not None
        proc.send(found._replace(started=found.started - 1), signal.SIGKILL)
        assert process.poll() is None
        proc.send(found, signal.SIGKILL)
        assert process.wait(5) == -signal.SIGKILL
    proc.send(found, signal.SIGKILL)  # Nobody is there.
