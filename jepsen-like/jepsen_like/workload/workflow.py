"""Tasks that wait for others, and maps whose join comes once."""

from __future__ import annotations

import json
from typing import Any

from jepsen_like.client import Process
from jepsen_like.workload.base import Workload


class Workflow(Workload):
    name = "workflow"
    about = "graphs with conditions, maps over lists and over results, joins; some parts fail"
    processes = 3
    think_seconds = 0.6

    async def step(self, process: Process) -> None:
        task_id, chance = self.recent(10), self.chance.random()
        if task_id is not None and chance < 0.5:
            await self.read(process, task_id)
        elif task_id is not None and chance < 0.56:
            await self.change(process, "cancel", task_id)
        elif chance < 0.8:
            await self._chain(process)
        else:
            await self._graph(process)

    async def _chain(self, process: Process) -> None:
        """Three tasks of their own, each after the one before."""
        first = self.next_id("w")
        ids = [first, f"{first}b", f"{first}c"]
        fails = self.chance.random() < 0.2
        for number, task_id in enumerate(ids):
            runs_ms = self.chance.choice((0, 100, 600))
            told: dict[str, Any] = {"runs_ms": runs_ms, "fails": int(fails and number == 0)}
            body: dict[str, Any] = {"command": self.command(runs_ms=runs_ms, fails=told["fails"])}
            if number:
                on = "failure" if fails and number == 2 else "success" if not fails else "always"
                depends = [{"task": ids[0 if number == 2 else number - 1], "on": on}]
                told["depends_on"] = body["depends_on"] = depends
                body["command"] += ["--inputs"]
            outcome = await self.submit(process, task_id, told, body, key=f"key-{task_id}")
            if not outcome.is_ok:
                return

    async def _graph(self, process: Process) -> None:
        """One task: what names the items, a map over them, and what puts the results together."""
        task_id = self.next_id("g")
        items = list(range(self.chance.choice((1, 5, 25))))
        bad = self.chance.random() < 0.2
        each = self.command("--result", "{item}", runs_ms=self.chance.choice((0, 50, 300)),
                            fails=int(bad))  # fmt: skip
        split = self.command("--result", json.dumps(items), runs_ms=50)
        body = {
            "workflow": {"tasks": [
                {"name": "split", "command": split},
                {
                    "name": "each", "depends_on": ["split"],
                    "map": {
                        "from": "split", "task": {"command": each}, "max_parallel": 7,
                        "on_failure": "ignore" if bad else "fail_fast",
                    },
                },
                {
                    "name": "join", "command": self.command("--inputs", runs_ms=0),
                    "depends_on": [{"task": "each"}],
                },
            ]}
        }  # fmt: skip
        told = {
            "workflow": {"split": [], "each": ["split"], "join": ["each"]}, "items": len(items),
            "fails": int(bad),
        }  # fmt: skip
        await self.submit(process, task_id, told, body, key=f"key-{task_id}")
