"""Tasks that write to a sink, which refuses whoever comes with an older token."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from typing import Any

from jepsen_like.client import Process
from jepsen_like.history import Effect, Writer
from jepsen_like.workload.tasks import Tasks

#: The shortest outlasts a fault of some seconds, the longest a lease and what follows it.
_LONG_MS = (3_000, 8_000, 12_000)


class Fencing(Tasks):
    name = "fencing"
    about = "attempts write to a sink that refuses old tokens; some tasks allow two at once"

    _server: asyncio.Server | None = None
    _writer: Writer | None = None

    async def set_up(self) -> None:
        self._writer = Writer(self.effects.parent / "sink.jsonl")
        self._highest: dict[str, int] = {}
        self._server = await asyncio.start_unix_server(self._serve, str(self.sink))

    async def tear_down(self) -> None:
        if self._server is not None:
            self._server.close()
        if self._writer is not None:
            self._writer.close()
        self.sink.unlink(missing_ok=True)

    def some_task(self) -> tuple[dict[str, Any], dict[str, Any]]:
        told, body = super().some_task()
        body["command"] = [*body["command"], "--sink", str(self.sink)]
        if self.chance.random() < 0.3:
            told["idempotent"] = body["idempotent"] = True
        return told, body

    async def keep_busy(self, process: Process) -> None:
        """A task that outlasts its lease when its machine is cut off or stands still, and writes
        all the same: the sink is what stops it."""
        runs_ms = self.chance.choice(_LONG_MS)
        told = {"runs_ms": runs_ms, "max_attempts": 3, "on_lease_loss": "continue"}
        command = self.command("--offers-often", "--sink", str(self.sink), runs_ms=runs_ms)
        body = {"command": command, "retry": {"max_attempts": 3}, "on_lease_loss": "continue"}
        task_id = self.next_id("long")
        await self.submit(process, task_id, told, body, key=f"key-{task_id}")

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, ValueError, KeyError):
            asked = json.loads(await reader.readline())
            task, token = str(asked["task"]), int(asked["token"])
            is_taken = token >= self._highest.get(task, 0)
            if is_taken:
                self._highest[task] = token
            assert self._writer is not None
            at = time.monotonic_ns()
            self._writer.write(Effect(task, 0, token, "", "write", at, accepted=is_taken))
            writer.write(b"taken\n" if is_taken else b"refused\n")
            await writer.drain()
        writer.close()
