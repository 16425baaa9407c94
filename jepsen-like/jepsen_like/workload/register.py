"""One task after the other as a linearizable object: made, paused, resumed, cancelled, read."""

from __future__ import annotations

from jepsen_like.client import Process
from jepsen_like.history import Earn
from jepsen_like.workload.base import Workload

#: Operations on a task before the next one is taken: a history that can be searched.
_OPERATIONS_MAX = 120


class Register(Workload):
    name = "register"
    about = "each task as a linearizable object, never run"
    processes = 8
    think_seconds = 0.03
    earn = Earn(in_flight=False)
    all_end = False

    _task = ""
    _done = 0

    async def step(self, process: Process) -> None:
        if not self._task or self._done >= _OPERATIONS_MAX:
            self._task, self._done = self.next_id("r"), 0
        self._done += 1
        task_id, chance = self._task, self.chance.random()
        if self._done <= 3:
            body = {"command": ["true"], "not_before": "2100-01-01T00:00:00Z"}
            await self.submit(process, task_id, {"held": True}, body)
        elif chance < 0.5:
            await self.read(process, task_id)
        elif self._done > _OPERATIONS_MAX - 15 and chance < 0.6:
            await self.change(process, "cancel", task_id)
        else:
            await self.change(process, "pause" if chance < 0.75 else "resume", task_id)
