"""Tasks that wait for others, and maps whose join comes once."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from jepsen_like.client import Process
from jepsen_like.workload.base import Workload

#: So many graphs of all are cancelled on the way.
_CANCELLED = 0.3


class Workflow(Workload):
    name = "workflow"
    about = (
        "graphs with conditions, maps over lists and over results, joins; some parts fail, some "
        "graphs are cancelled on the way"
    )
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
        """Two tasks of their own, and two that wait for them."""
        first, chance = self.next_id("w"), self.chance
        ids = [first, f"{first}b", f"{first}c", f"{first}d"]
        for number, task_id in enumerate(ids):
            runs_ms, fails = chance.choice((0, 100, 600, 1_500)), int(chance.random() < 0.25)
            told: dict[str, Any] = {"runs_ms": runs_ms, "fails": fails}
            body: dict[str, Any] = {"command": self.command(runs_ms=runs_ms, fails=fails)}
            if number > 1:
                # The two before it, or one of them; on an end that may never come.
                before = ids[:2] if chance.random() < 0.6 else [chance.choice(ids[:2])]
                ends = ("success", "success", "failure", "always")
                depends = [{"task": task, "on": chance.choice(ends)} for task in before]
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
            "workflow": {"split": [], "each": ["split"], "join": ["each"]},
            "maps": {"each": len(items)}, "fails": int(bad),
        }  # fmt: skip
        outcome = await self.submit(process, task_id, told, body, key=f"key-{task_id}")
        if outcome.is_ok and self.chance.random() < _CANCELLED:
            # While its parts run, which is over soon.
            await asyncio.sleep(self.chance.uniform(0.1, 1.0))
            await self.change(process, "cancel", task_id)
