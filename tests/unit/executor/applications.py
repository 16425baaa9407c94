"""Applications whose functions end in every way, and a node that serves them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

from tests.unit.executor.harness import Node, running, serve_apps

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
    """A node that serves the application of this text, whose module is ``jobs``."""
    (directory / "jobs.py").write_text(text)
    async with running(directory / "n", lease_seconds) as node:
        serve_apps(node, directory, "jobs:app", workers=workers)
        yield node


async def exists(path: Path) -> None:
    async with asyncio.timeout(5):
        while not path.exists():
            await asyncio.sleep(0.005)
