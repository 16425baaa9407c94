"""One machine: a program that starts one peer, and whose descendants are all that runs there.

Run in namespaces of its own if the backend has any.  It is the reaper of whatever the peer
leaves behind, so that runners, keepers and attempts are found by descent and none gets away.  It
takes orders, one JSON object a line, on stdin, and answers each with one on stdout::

    {"do": "start", "command": [...], "env": {...}, "log": "FILE"}  -> {"pid": 7}
    {"do": "signal", "signal": 9, "who": "peer" | "others" | "all"} -> {"pids": [7]}
    {"do": "crash", "boots": false}  nothing runs any more when it answers -> {"pids": [7, 8]}
      with "boots": true     it is another boot of a machine with a disk of its own
    {"do": "look"}                     -> {"pid": 7, "exit": null, "state": "S", "others": [...]}
    {"do": "run", "command": [...], "input": ""}  in its namespaces  -> {"exit": 0, "output": ""}
      with "file": "FILE"    that gets stdout, and "output" is stderr
    {"do": "device", "name": "n1", "address": "10.77.0.1", "socket": "FILE"}  a network  -> {}
    {"do": "disk", "path": "DIR"}    a file system whose power can go, mounted there -> {}
    {"do": "order", "words": "cut"}  to that file system             -> {"answer": "ok"}

``others`` are all but the peer.  What fails is answered with ``{"error": "..."}``.  When stdin
ends, for whatever reason, everything here is killed.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import select
import signal
import subprocess
import tempfile
import time
import uuid
from pathlib import Path
from typing import IO, Any

from jepsen_like.disk import mounting
from jepsen_like.net.tun import make_device

_PR_SET_CHILD_SUBREAPER = 36
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
#: What is killed is gone within so long, or the machine says that it is not.  Longer than slow
#: syncs take: who waits for one dies when it is over.
_CRASH_SECONDS = 20.0
#: A command of the harness takes no longer.
_RUN_SECONDS = 30.0


class Machine:
    """The peer, the disk, and whatever descends from this process."""

    def __init__(self) -> None:
        self._peer = 0
        #: Of the last peer, once it ended: as `waitpid` has it.
        self._status: int | None = None
        self._disk: subprocess.Popen[str] | None = None
        #: What stands in the place of the kernel's, once there was a boot.
        self._boot_id: IO[str] | None = None

    def start(self, order: dict[str, Any]) -> dict[str, Any]:
        """Start the peer."""
        if self._peer and self._status is None:
            raise OSError("the peer runs")
        with Path(order["log"]).open("ab") as log:
            process = subprocess.Popen(
                order["command"], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                env={**os.environ, **order.get("env", {})}, start_new_session=True,
            )  # fmt: skip
        # It is reaped with all others, and not through this object.
        process.returncode = 0
        self._peer, self._status = process.pid, None
        return {"pid": process.pid}

    def signal(self, order: dict[str, Any]) -> dict[str, Any]:
        """Send a signal to the peer, to all else, or to everything."""
        who = order["who"]
        pids = [
            pid for pid in self._living() if who == "all" or (pid == self._peer) == (who == "peer")
        ]
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, order["signal"])
        return {"pids": pids}

    def crash(self, *, boots: bool = False) -> dict[str, Any]:
        """Everything is killed, and what it starts meanwhile."""
        ended: set[int] = set()
        deadline = time.monotonic() + _CRASH_SECONDS
        # A process whose parent dies while it is looked for is nobody's child in that look.
        empty = 0
        while empty < 2:
            pids = self._living()
            empty = 0 if pids else empty + 1
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            ended.update(pids)
            self.reap()
            if time.monotonic() > deadline:
                raise OSError(f"not dead after {_CRASH_SECONDS} s: {pids}")
            time.sleep(0.002)
        if boots and self._disk is not None:
            self._boot()
        return {"pids": sorted(ended)}

    def _boot(self) -> None:
        """What runs here from now on sees another boot id."""
        if self._boot_id is None:
            self._boot_id = _mounted_over(_BOOT_ID)
        self._boot_id.seek(0)
        self._boot_id.write(f"{uuid.uuid4()}\n")
        self._boot_id.flush()

    def look(self) -> dict[str, Any]:
        """What runs here."""
        self.reap()
        others = [
            {"pid": pid, "words": _words(pid), "state": state}
            for pid in self._living()
            if pid != self._peer and (state := _state(pid))
        ]
        status = self._status
        code = None if status is None else os.waitstatus_to_exitcode(status)
        own = _state(self._peer) if self._peer and code is None else ""
        return {"pid": self._peer, "exit": code, "state": own, "others": others}

    def run(self, order: dict[str, Any]) -> dict[str, Any]:
        """A command of the harness in the namespaces of this machine."""
        if "file" in order:
            with Path(order["file"]).open("wb") as file:
                written = subprocess.run(
                    order["command"], stdin=subprocess.DEVNULL, stdout=file,
                    stderr=subprocess.PIPE, text=True, timeout=_RUN_SECONDS, check=False,
                )  # fmt: skip
            return {"exit": written.returncode, "output": written.stderr}
        done = subprocess.run(
            order["command"], input=order.get("input", ""), stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, timeout=_RUN_SECONDS, check=False,
        )  # fmt: skip
        return {"exit": done.returncode, "output": done.stdout}

    def mount(self, order: dict[str, Any]) -> dict[str, Any]:
        """Mount a disk whose power can go."""
        self._disk = subprocess.Popen(
            mounting.words(Path(order["path"])),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        return {"answer": self._answer_of_disk()}

    def order(self, order: dict[str, Any]) -> dict[str, Any]:
        """Tell the disk."""
        if self._disk is None or self._disk.stdin is None:
            raise OSError("there is no disk of its own here")
        self._disk.stdin.write(order["words"] + "\n")
        self._disk.stdin.flush()
        return {"answer": self._answer_of_disk()}

    def _answer_of_disk(self) -> str:
        assert self._disk is not None and self._disk.stdout is not None
        answer = self._disk.stdout.readline().strip()
        if not answer:
            raise OSError("the disk itself has ended")
        return answer

    def reap(self) -> None:
        """What ended is waited for, whoever started it."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not pid:
                return
            if pid == self._peer:
                self._status = status
            if self._disk is not None and pid == self._disk.pid:
                self._disk.returncode = os.waitstatus_to_exitcode(status)

    def end(self) -> None:
        """The machine and all that is on it go."""
        with contextlib.suppress(OSError):
            self.crash()
        if self._disk is not None and self._disk.stdin is not None:
            with contextlib.suppress(OSError):
                self._disk.stdin.close()

    def _living(self) -> list[int]:
        """Pids of what descends from here, but for the disk and what only waits to be reaped."""
        children: dict[int, list[int]] = {}
        dead: set[int] = set()
        for path in Path("/proc").iterdir():
            if path.name.isdigit():
                with contextlib.suppress(OSError, IndexError):
                    state, parent = _stat(int(path.name))
                    children.setdefault(parent, []).append(int(path.name))
                    if state == "Z":
                        dead.add(int(path.name))
        own = {os.getpid()}
        disk = 0 if self._disk is None else self._disk.pid
        todo = [pid for pid in children.get(os.getpid(), []) if pid != disk]
        while todo:
            pid = todo.pop()
            if pid not in own:
                own.add(pid)
                todo += children.get(pid, [])
        return sorted(own - dead - {os.getpid()})


def _mounted_over(path: Path) -> IO[str]:
    """A file that everybody in this mount namespace sees in another's place.  Raises OSError."""
    with tempfile.NamedTemporaryFile("w", encoding="ascii", delete=False) as file:
        named = Path(file.name)
    opened = named.open("r+", encoding="ascii")
    command = ["mount", "--bind", str(named), str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    named.unlink()
    if done.returncode:
        raise OSError(done.stderr.strip())
    return opened


def _stat(pid: int) -> tuple[str, int]:
    """State and parent of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    return fields[0], int(fields[1])


def _state(pid: int) -> str:
    """Of a process; empty: it is gone meanwhile."""
    try:
        return _stat(pid)[0]
    except (OSError, IndexError):
        return ""


def _words(pid: int) -> str:
    try:
        return (
            Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        )
    except OSError:
        return ""


def obey(machine: Machine, order: dict[str, Any]) -> dict[str, Any]:
    """Do what an order says."""
    match order["do"]:
        case "start":
            return machine.start(order)
        case "signal":
            return machine.signal(order)
        case "crash":
            return machine.crash(boots=order.get("boots", False))
        case "look":
            return machine.look()
        case "run":
            return machine.run(order)
        case "device":
            make_device(order["name"], order["address"], order["socket"])
            return {}
        case "disk":
            return machine.mount(order)
        case "order":
            return machine.order(order)
    raise ValueError(f"no such order: {order['do']}")


def serve() -> None:
    """Until stdin ends."""
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl")
    # Ctrl-C in the harness's terminal is for the harness.
    os.setsid()
    read, write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(write)
    signal.signal(signal.SIGCHLD, lambda number, frame: None)
    machine, buffer = Machine(), b""
    try:
        while True:
            ready, _, _ = select.select([0, read], [], [], 1.0)
            machine.reap()
            if read in ready:
                os.read(read, 4096)
            if 0 not in ready:
                continue
            data = os.read(0, 1 << 16)
            if not data:
                return
            *lines, buffer = (buffer + data).split(b"\n")
            for line in lines:
                try:
                    answer = obey(machine, json.loads(line))
                except (OSError, subprocess.SubprocessError, ValueError, KeyError) as error:
                    answer = {"error": f"{type(error).__name__}: {error}"}
                print(json.dumps(answer), flush=True)
    finally:
        machine.end()


if __name__ == "__main__":
    serve()
