"""All of them at once."""

from __future__ import annotations

import random
from pathlib import Path

from jepsen_like.client import Client, Process
from jepsen_like.workload.base import Workload
from jepsen_like.workload.drain import Drain
from jepsen_like.workload.limits import Limits
from jepsen_like.workload.schedules import Schedules
from jepsen_like.workload.tasks import Tasks
from jepsen_like.workload.workflow import Workflow


class Mixed(Workload):
    name = "mixed"
    about = "tasks, limits, schedules, workflows and drains at once"
    processes = 8
    limits = Limits.limits
    has_crons = True

    def __init__(self, client: Client, directory: Path, chance: random.Random) -> None:
        super().__init__(client, directory, chance)
        kinds = (Tasks, Limits, Schedules, Workflow, Drain)
        self._parts: list[Workload] = [kind(client, directory, chance) for kind in kinds]
        for part in self._parts:
            # Each names its tasks by itself.
            part.prefix = f"{part.name}-"

    async def set_up(self) -> None:
        for part in self._parts:
            await part.set_up()

    async def step(self, process: Process) -> None:
        await self.chance.choice(self._parts).step(process)

    async def wind_down(self, process: Process) -> None:
        for part in reversed(self._parts):
            await part.wind_down(process)

    async def read_again(self, process: Process) -> None:
        for part in self._parts:
            await part.read_again(process)

    async def tear_down(self) -> None:
        for part in self._parts:
            await part.tear_down()
