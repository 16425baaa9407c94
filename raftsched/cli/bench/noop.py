"""The application whose calls ``raftsched bench python`` counts."""

from __future__ import annotations

import os
import struct
import time

from raftsched.app import App, current

app = App("bench")

#: When it was due and when it started, in nanoseconds of the machine's clock.
START = struct.Struct("<qq")
_files: dict[str, int] = {}


@app.task
def nothing() -> None:
    """Nothing, as fast as it goes."""


@app.task
async def nothing_async() -> None:
    """The same as a coroutine."""


@app.task
def take(item: object) -> None:
    """Nothing with it."""


@app.task
def note_start(path: str, due: int) -> None:
    """Append a `START` to a file."""
    now = time.time_ns()
    os.write(_file(path), START.pack(due, now))


@app.task
def note_run(path: str) -> None:
    """Append a line to a file: which task it is, and the nanoseconds of the machine's clock."""
    now = time.time_ns()
    os.write(_file(path), f"{current().task_id} {now}\n".encode())


def _file(path: str) -> int:
    file = _files.get(path)
    if file is None:
        file = _files[path] = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    return file


def bare() -> None:
    """What the pool of the standard library calls, beside ours."""
