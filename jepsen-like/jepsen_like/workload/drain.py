"""Tasks while nodes are cordoned, drained and given back."""

from __future__ import annotations

from jepsen_like.client import Process, Question
from jepsen_like.workload.tasks import Tasks


class Drain(Tasks):
    name = "drain"
    about = "tasks while nodes are cordoned, drained and given back"

    async def step(self, process: Process) -> None:
        if self.chance.random() < 0.04:
            verb = self.chance.choice(("cordon", "drain", "uncordon", "uncordon"))
            await self._tell(process, self.client.any_peer(self.chance), verb)
        else:
            await super().step(process)

    async def wind_down(self, process: Process) -> None:
        for node in sorted(self.client.peers):
            await self._tell(process, node, "uncordon")
        await super().wind_down(process)

    async def _tell(self, process: Process, node: str, verb: str) -> None:
        body = {"deadline": "5s"} if verb == "drain" else {}
        question = Question(verb, {"node": node}, "POST", f"/v1/nodes/{node}/{verb}", body)
        await process.ask(question, self.client.any_peer(self.chance))
