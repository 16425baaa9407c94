"""Celery, Dramatiq and Huey with one Redis: their workers, and tasks that do nothing.

Their packages live in an interpreter of their own (``make bench`` makes it), never in the
product's.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from raftsched.cli.bench.beside.processes import Program, free_ports
from raftsched.cli.exits import Failure

INSTALL_REDIS = "apt-get install redis-server"
INSTALL_PACKAGES = "pip install 'raftsched[compare]' there, as 'make bench' does"
PROGRAMS = Path(__file__).parent / "programs"
ASK_SECONDS_MAX = 30.0
ROUND_SECONDS_MAX = 330.0

#: Run by the other interpreter: which of the packages it has.
LOOK = """
import importlib.metadata, json, sys
found = {}
for name in sys.argv[1:]:
    try:
        found[name] = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        pass
print(json.dumps(found))
"""


class Queue(NamedTuple):
    """A task queue that stands beside ours."""

    #: Of its package.
    name: str
    #: Its module and the words after it that start ``{processes}`` worker processes.
    worker: str
    #: What becomes of an acknowledged task when something dies.
    promise: str

    @property
    def module(self) -> str:
        """Of its script."""
        return f"{self.name}_noop"

    def command(self, python: str, processes: int) -> list[str]:
        """The command line of its workers."""
        return [python, "-m", *self.worker.format(processes=processes).split()]


QUEUES = (
    Queue(
        "celery",
        "celery -A celery_noop worker --concurrency {processes} --loglevel WARNING "
        "--without-gossip --without-mingle --without-heartbeat",
        "late acknowledgement, 64 a process fetched ahead; results kept",
    ),
    Queue(
        "dramatiq",
        # Eight threads are its default, and twice as fast as one.
        "dramatiq dramatiq_noop --processes {processes} --threads 8",
        "late acknowledgement, 8 threads a process; results kept",
    ),
    Queue(
        "huey",
        "huey.bin.huey_consumer huey_noop.huey -w {processes} -k process -n -q",
        "no acknowledgement: what a worker has when it dies is lost; results kept",
    ),
)
STORE_PROMISE = "one Redis, in memory: no replica, no fsync; its end loses every task"


def find_redis() -> str | None:
    """The program, if it is installed."""
    return shutil.which("redis-server")


def redis_version(program: str) -> str:
    """As it says itself; empty when it does not."""
    done = subprocess.run(
        [program, "--version"], capture_output=True, text=True, timeout=ASK_SECONDS_MAX
    )
    words = [word for word in done.stdout.split() if word.startswith("v=")]
    return words[0].removeprefix("v=") if words else ""


def versions(python: str) -> dict[str, str]:
    """Of those packages that an interpreter has; empty when it does not work."""
    command = [python, "-c", LOOK, "redis", *(queue.name for queue in QUEUES)]
    try:
        done = subprocess.run(command, capture_output=True, timeout=ASK_SECONDS_MAX, check=True)
        found = json.loads(done.stdout)
    except (OSError, ValueError, subprocess.SubprocessError):
        return {}
    return found if isinstance(found, dict) else {}


@contextmanager
def workers(
    redis: str, python: str, queues: Sequence[Queue], processes: int, directory: Path
) -> Iterator[dict[str, str]]:
    """One Redis and the workers of these queues, all ready; gives what `measure` needs to know."""
    (port,) = free_ports(1)
    environment = {
        "BENCH_REDIS": f"redis://127.0.0.1:{port}",
        "PYTHONPATH": str(PROGRAMS),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    store = [redis, "--port", str(port), "--bind", "127.0.0.1", "--dir", str(directory)]
    store += ["--save", "", "--appendonly", "no"]
    with ExitStack() as stack:
        server = stack.enter_context(Program("redis", store, directory))
        server.wait_until(lambda: _listens(port))
        for queue in queues:
            command = queue.command(python, processes)
            stack.enter_context(Program(queue.name, command, directory, environment))
        for queue in queues:
            measure(queue, python, 1, environment)
        yield environment


def _listens(port: int) -> bool:
    with contextlib.closing(socket.socket()) as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def measure(queue: Queue, python: str, count: int, environment: dict[str, str]) -> dict[str, float]:
    """Seconds of submitting ``count`` tasks, and until all their results were kept."""
    command = [python, "-m", "drive", queue.module, str(count)]
    begin = time.monotonic()
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=ROUND_SECONDS_MAX,
            env={**os.environ, **environment},
        )
    except subprocess.TimeoutExpired:
        took = time.monotonic() - begin
        raise Failure(f"{queue.name}: {count} tasks did not end within {took:.0f} s") from None
    if done.returncode:
        raise Failure(f"{queue.name}: {done.stderr.strip()[-500:]}")
    found: dict[str, Any] = json.loads(done.stdout)
    return {name: float(value) for name, value in found.items()}
