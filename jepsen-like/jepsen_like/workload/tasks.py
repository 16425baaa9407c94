"""Tasks of all kinds: submitted, repeated, cancelled, tried again, read at any peer."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path
from typing import Any

from jepsen_like.client import Client, Process
from jepsen_like.workload.base import Workload


class Tasks(Workload):
    name = "tasks"
    #: How long tasks run.
    runs_ms: tuple[int, ...] = (0, 50, 200, 800, 2_500)
    about = "submit, with the same key again and at two peers at once, cancel, pause, retry, read"

    def __init__(self, client: Client, directory: Path, chance: random.Random) -> None:
        super().__init__(client, directory, chance)
        #: What asks at the same time as another process.
        self._twins: dict[Process, Process] = {}

    async def step(self, process: Process) -> None:
        chance = self.chance.random()
        task_id = self.recent()
        if task_id is None or chance < 0.45:
            await self.submit_some(process)
        elif chance < 0.80:
            await self.read(process, task_id, "local" if chance < 0.5 else "")
        elif chance < 0.88:
            await self.change(process, "cancel", task_id)
        elif chance < 0.93:
            verb = "pause" if chance < 0.905 else "resume"
            await self.change(process, verb, task_id)
        else:
            outcome = await self.change(process, "retry", task_id, key=self.next_id("retry"))
            if outcome.is_ok:
                self.known.append(str(outcome.value["id"]))

    async def wind_down(self, process: Process) -> None:
        """What is paused would never end."""
        for task_id in self.known:
            outcome = await self.read(process, task_id)
            if outcome.is_ok and outcome.value.get("paused"):
                await self.change(process, "resume", task_id)

    async def submit_some(self, process: Process, prefix: str = "t") -> None:
        """A task that asks for something, sometimes twice at two peers."""
        task_id = self.next_id(prefix)
        told, body = self.some_task()
        key = f"key-{task_id}" if self.chance.random() < 0.6 else ""
        if key and self.chance.random() < 0.2:
            await self._submit_at_two(process, task_id, told, body, key)
            return
        outcome = await self.submit(process, task_id, told, body, key=key)
        again = outcome.type == "info" or self.chance.random() < 0.15
        if key and again:
            await self.submit(process, task_id, told, body, key=key)

    async def _submit_at_two(
        self,
        process: Process,
        task_id: str,
        told: dict[str, Any],
        body: dict[str, Any],
        key: str,
    ) -> None:
        """The same key at two peers at once: one of them makes the task, both name it."""
        twin = self._twins.get(process)
        if twin is None:
            twin = self._twins[process] = self.client.process()
        one, two = self.client.some_peers(self.chance, 2)
        await asyncio.gather(
            self.submit(process, task_id, told, body, key=key, peer=one),
            self.submit(twin, task_id, told, body, key=key, peer=two),
        )

    def some_task(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """What the history says of a task, and what a peer is asked for."""
        chance = self.chance
        runs_ms = chance.choice(self.runs_ms)
        fails = chance.choice((0, 0, 0, 1, 2))
        attempts = chance.choice((1, 2, 3))
        told: dict[str, Any] = {"runs_ms": runs_ms, "fails": fails, "max_attempts": attempts}
        options = ["--ignores-sigterm"] if chance.random() < 0.05 else []
        body: dict[str, Any] = {
            "command": self.command(*options, runs_ms=runs_ms, fails=fails),
            "retry": {"max_attempts": attempts, "base": "100ms", "max": "1s"},
            "grace": "1s",
        }
        kind = chance.random()
        if kind < 0.1:
            told["idempotent"] = body["idempotent"] = True
        elif kind < 0.2:
            told["delivery"] = body["delivery"] = "at_most_once"
        elif kind < 0.25:
            told["on_lease_loss"] = body["on_lease_loss"] = "continue"
        return told, body
