"""What the tasks that one depends on came to, as a file for its attempt.

A line of JSON for each task in ``depends_on``, in that order: ``{"task", "name", "state", "reason",
"result", "result_bytes"}``, where the last is not 0 if the result is too large to stand there and
is to be had from the API; behind a task that was split, which says ``split``, one for each of its
subtasks, with ``index`` and, as ``of``, the task that it is of.  The file is this peer's replica at
the time of the start: an attempt starts only where all those ends are applied.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any

import msgspec

from raftsched.core.model import Task
from raftsched.core.spec import TaskSpec
from raftsched.core.state import State

logger = logging.getLogger(__name__)

#: Lines written between two looks at what else is to be done.
LINES_MAX = 500

_specs = msgspec.msgpack.Decoder(TaskSpec)
_json = msgspec.json.Encoder()


class InputFiles:
    """The files of one node's attempts."""

    def __init__(self, directory: Path, state: Callable[[], State]) -> None:
        self._folder = directory / "inputs"
        self._state = state
        self._writing: dict[int, asyncio.Task[None]] = {}
        self._ready: dict[int, str] = {}
        self._has_looked = False

    def path(self, token: int, task_id: str, when_ready: Callable[[], None]) -> str | None:
        """The file of an attempt; empty: it depends on nothing; None: ``when_ready`` will say."""
        task = self._state().tasks.get(task_id)
        if task is None or task.extra is None or not task.extra.depends_on:
            return ""
        if token in self._ready:
            return self._ready[token]
        if token not in self._writing:
            self._writing[token] = asyncio.create_task(self._write(token, task, when_ready))
        return None

    def forget(self, token: int) -> None:
        """The attempt is over."""
        path = self._ready.pop(token, "")
        if path:
            with contextlib.suppress(OSError):
                Path(path).unlink()

    def keep(self, living: Collection[int]) -> None:
        """There are no attempts but these; the files of all others go."""
        if not self._has_looked:
            self._has_looked = True
            with contextlib.suppress(FileNotFoundError):  # Of an earlier life of the peer.
                for entry in list(os.scandir(self._folder)):
                    if entry.name.endswith(".new"):
                        with contextlib.suppress(OSError):
                            Path(entry.path).unlink()
                    elif entry.name.isdecimal():
                        self._ready[int(entry.name)] = entry.path
        for token in [token for token in self._ready if token not in living]:
            self.forget(token)
        for token in [token for token in self._writing if token not in living]:
            self._writing[token].cancel()

    async def _write(self, token: int, task: Task, when_ready: Callable[[], None]) -> None:
        path = self._folder / str(token)
        try:
            self._folder.mkdir(0o700, exist_ok=True)
            with path.with_suffix(".new").open("wb") as file:
                os.fchmod(file.fileno(), 0o600)
                for count, line in enumerate(self._lines(task), 1):
                    file.write(line + b"\n")
                    if not count % LINES_MAX:
                        await asyncio.sleep(0)
            path.with_suffix(".new").rename(path)
            self._ready[token] = str(path)
        except OSError as error:
            # Without it the task would run on nothing: the next pass tries again.
            logger.error("cannot write the inputs of %s: %s", task.id, error)
            await asyncio.sleep(1)
        finally:
            self._writing.pop(token, None)
        when_ready()

    def _lines(self, task: Task) -> Iterator[bytes]:
        assert task.extra is not None
        for other in task.extra.depends_on:
            found = self._state().tasks.get(other.task_id)
            if found is None:
                continue
            yield _json.encode(_line(found))
            for part_id in self._state().trees.ids_of(found.id):
                part = self._state().tasks.get(part_id)
                if part is not None and part.extra is not None:
                    yield _json.encode({"of": found.id, "index": part.extra.number, **_line(part)})


def _line(task: Task) -> dict[str, Any]:
    product = task.product
    result = product.result if product is not None else b""
    extra = task.extra
    return {
        "task": task.id,
        "name": _specs.decode(task.spec).name,
        "state": task.status,
        "reason": task.reason,
        "result": msgspec.Raw(result) if result else None,
        "result_bytes": product.result_bytes if product is not None else 0,
        "split": extra is not None and (extra.fork is not None or extra.subtasks > 0),
    }
