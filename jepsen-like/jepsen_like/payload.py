"""What tasks run: a program that writes down that it ran, outside of whatever is broken.

``python -I -S payload.py EFFECTS --runs-ms N [--fails N] [--ignores-sigterm] [--sink SOCKET]``
appends a line to the file EFFECTS when it starts, every 50 ms while it runs, and when it ends::

    {"task", "attempt", "token", "node", "event": "start|beat|end", "at": ns, "exit",
     "schedule", "slot", "index", "born"}

``index`` is the item's of a map.  ``at`` is CLOCK_MONOTONIC, which all machines of a run share;
``born``, of a start, is when the kernel made the process, at the latest: a machine may stand still
between that and the first word.
The first N attempts exit with 1.
With ``--sink`` it asks a `sink` to take its token at the start and at the end; what that answers is
in ``"sink"``: ``taken``, ``refused``, or ``gone`` when nobody answers; with ``--offers-often`` also
every 200 ms in between.  With ``--inputs`` the end
says what the tasks before it left, as ``"inputs"``; with ``--result`` that is its result.
It stops beating when it is stopped, so that the last line tells how long it surely ran.
"""

from __future__ import annotations

import calendar
import json
import os
import signal
import socket
import sys
import time

_BEAT_SECONDS = 0.05
_SINK_SECONDS = 2.0
#: With ``--offers-often``, that many beats are between two writes to the sink.
_OFFER_BEATS = 4


def node() -> str:
    """The machine, by the directory in the words of the runner that this descends from."""
    pid = os.getppid()
    while pid > 1:
        try:
            with open(f"/proc/{pid}/cmdline", encoding="utf-8", errors="replace") as file:
                _, found, rest = file.read().partition("/peers/")
            if found:
                return rest.replace("\0", "/").partition("/")[0]
            with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
                pid = int(file.read().rpartition(")")[2].split()[1])
        except (OSError, ValueError, IndexError):
            break
    return ""


def born() -> dict[str, int]:
    """When this process was made, rounded up to a tick; nothing where the kernel does not say."""
    try:
        with open("/proc/self/stat", encoding="utf-8", errors="replace") as file:
            ticks = int(file.read().rpartition(")")[2].split()[19])
        # Its ticks go on while the machine sleeps, the clock of ``at`` does not.
        slept = time.clock_gettime_ns(time.CLOCK_BOOTTIME) - time.monotonic_ns()
        return {"born": (ticks + 1) * (1_000_000_000 // os.sysconf("SC_CLK_TCK")) - slept}
    except (OSError, ValueError, IndexError, AttributeError):
        return {}


def slot(task: str) -> dict[str, object]:
    """The schedule and the instant, unix ms, by the id of a run: ``nightly.20261121T020000Z``."""
    name, _, stamp = task.rpartition(".")
    digits = stamp[:8] + stamp[9:-1]
    if not name or stamp[8:9] != "T" or stamp[-1:] != "Z" or not digits.isdigit():
        return {}
    seconds = calendar.timegm(time.strptime(digits[:14], "%Y%m%d%H%M%S"))
    return {"schedule": name, "slot": seconds * 1000 + int(digits[14:] or 0)}


def main(words: list[str]) -> int:
    """The exit code."""
    path, *options = words
    known = {"--runs-ms": "0", "--fails": "0", "--sink": "", "--result": ""}
    flags = {"--ignores-sigterm": False, "--inputs": False, "--offers-often": False}
    while options:
        name = options.pop(0)
        if name in flags:
            flags[name] = True
        else:
            known[name] = options.pop(0)
    if flags["--ignores-sigterm"]:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    effects = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    task, attempt = os.environ["RAFTSCHED_TASK_ID"], int(os.environ["RAFTSCHED_ATTEMPT"])
    token = int(os.environ["RAFTSCHED_FENCING_TOKEN"])
    row: dict[str, object] = {
        "task": task, "attempt": attempt, "token": token, "node": node(), "pid": os.getpid(),
        **slot(task),
    }  # fmt: skip
    if os.environ.get("RAFTSCHED_INDEX", "").isdecimal():
        row["index"] = int(os.environ["RAFTSCHED_INDEX"])

    def tell(event: str, **more: object) -> None:
        line = {**row, "event": event, "at": time.monotonic_ns(), **more}
        os.write(effects, json.dumps(line).encode() + b"\n")

    sink = {"sink": offer(known["--sink"], task, token)} if known["--sink"] else {}
    tell("start", **born(), **sink)
    end_at = time.monotonic() + int(known["--runs-ms"]) / 1000
    beats = 0
    while (left := end_at - time.monotonic()) > 0:
        time.sleep(min(left, _BEAT_SECONDS))
        tell("beat")
        beats += 1
        if flags["--offers-often"] and beats % _OFFER_BEATS == 0:
            offer(known["--sink"], task, token)
    code = 1 if attempt <= int(known["--fails"]) else 0
    more: dict[str, object] = {"exit": code}
    if known["--sink"]:
        more["sink"] = offer(known["--sink"], task, token)
    if flags["--inputs"]:
        with open(os.environ["RAFTSCHED_INPUTS_FILE"], encoding="utf-8") as file:
            more["inputs"] = [json.loads(line) for line in file]
    if known["--result"]:
        with open(os.environ["RAFTSCHED_RESULT_FILE"], "w", encoding="utf-8") as file:
            file.write(known["--result"])
    tell("end", **more)
    return code


def offer(path: str, task: str, token: int) -> str:
    """Ask a sink to take something of this attempt."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
            sock.settimeout(_SINK_SECONDS)
            sock.connect(path)
            sock.sendall(json.dumps({"task": task, "token": token}).encode() + b"\n")
            return sock.recv(100).decode().strip() or "gone"
    except OSError:
        return "gone"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
