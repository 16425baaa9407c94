"""A cluster that somebody else started: asked and judged, and broken by whoever it belongs to.

It must hold nothing yet, as everything in it is judged, and its nodes run on this machine, or share
its file system and its monotonic clock: that is how attempts leave their effects.
"""

from __future__ import annotations

from pathlib import Path

from jepsen_like.net.base import Net
from jepsen_like.peers import NotReady, Peers


class TheirNet(Net):
    """Nothing in it is ours to break."""

    name = "attached"

    def __init__(self, addresses: dict[str, str]) -> None:
        super().__init__([])
        self._theirs = addresses

    def api(self, peer: str) -> str:
        return self._theirs[peer]


class Attached(Peers):
    """Its peers by id; they are neither started nor ended here."""

    def __init__(self, directory: Path, net: TheirNet, ids: list[str], token: str) -> None:
        super().__init__(directory, 0, net, program="")
        self.ids = ids
        self.running = set(ids)
        self.token = token

    async def open(self) -> None:
        """Returns when all are ready.  Raises NotReady, also if it holds tasks or schedules."""
        await self.all_ready()
        async with self.ask(self.ids[0]) as api:
            for path in ("/v1/tasks", "/v1/schedules"):
                answer = await api.ask("GET", f"{path}?limit=1")
                if answer.status != 200:
                    raise NotReady(f"{path} is answered with {answer.status} {answer.code}")
                if answer.body["items"]:
                    raise NotReady(f"the cluster holds something in {path}: take an empty one")

    async def close(self) -> None:
        """They go on."""
        self.running.clear()

    async def exit_of(self, peer: str) -> int | None:
        """Nobody here would know."""
        return None
