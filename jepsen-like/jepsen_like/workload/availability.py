"""At every peer somebody who writes, one who reads, and one who reads what is there."""

from __future__ import annotations

from jepsen_like.client import Process
from jepsen_like.history import Earn
from jepsen_like.workload.base import Workload


class Availability(Workload):
    """Each process stays with one peer and one question, so that any silence is seen."""

    name = "availability"
    about = "at every peer, all the time: a write, a linearizable read, a local read; none is run"
    processes = 15
    think_seconds = 0.02
    earn = Earn(in_flight=False)
    all_end = False

    async def set_up(self) -> None:
        self._places: dict[Process, int] = {}

    async def step(self, process: Process) -> None:
        place = self._places.setdefault(process, len(self._places))
        peers = self.client.peers
        peer, task_id = peers[place // 3 % len(peers)], self.recent()
        if place % 3 == 0 or task_id is None:
            body = {"command": ["true"], "not_before": "2100-01-01T00:00:00Z"}
            await self.submit(process, self.next_id("a"), {"held": True}, body, peer=peer)
        else:
            consistency = "local" if place % 3 == 1 else ""
            await self.read(process, task_id, consistency, peer=peer)
