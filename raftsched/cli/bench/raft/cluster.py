"""Three peers of the bench on loopback, ours or stock, and who of them leads."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from raftsched.cli.bench.raft.pipes import Message, Worker, running
from raftsched.cli.exits import Failure

OURS = "raftsched.cli.bench.raft.peer"
STOCK = "raftsched.cli.bench.raft.stock"
PEERS = 3
LEADER_SECONDS_MAX = 30.0
POLL_SECONDS = 0.02
#: Large enough that no snapshot is made of itself.
NEVER = 1 << 50
JOURNAL_BYTES_MAX = 64 * 1024 * 1024


class Trio:
    """Three workers, n1 to n3.  Some may not run."""

    def __init__(self, module: str, base_port: int, directory: Path, **options: Any) -> None:
        peers = {f"n{i + 1}": f"127.0.0.1:{base_port + i}" for i in range(PEERS)}
        common = {"peers": peers, "directory": str(directory), **options}
        self.workers = {p: Worker(p, module, {**common, "peer_id": p}) for p in peers}
        self.running = set(self.workers)

    async def statuses(self) -> dict[str, Message]:
        """Of each peer that runs, by id."""
        ids = sorted(self.running)
        answers = await asyncio.gather(*[self.workers[p].ask("status") for p in ids])
        return dict(zip(ids, answers, strict=True))

    async def leader(self, seconds: float = LEADER_SECONDS_MAX) -> Worker:
        """The peer that leads and is current, once there is one and all others know it.

        Failure after ``seconds``.
        """
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            found = await self.statuses()
            leads = [p for p, s in found.items() if s["role"] == "leader" and s["is_current"]]
            if len(leads) == 1 and len({s["leader"] for s in found.values()}) == 1:
                return self.workers[leads[0]]
            await asyncio.sleep(POLL_SECONDS)
        raise Failure(f"three peers of the bench had no leader for {seconds:g} s")

    async def followers(self) -> list[Worker]:
        """All that run but the leader, sorted."""
        leader = await self.leader()
        return [self.workers[p] for p in sorted(self.running) if p != leader.peer_id]

    async def term(self) -> int:
        """The highest term any of them knows."""
        return max(int(status["term"]) for status in (await self.statuses()).values())

    async def cpu_seconds(self) -> float:
        """Of all of them so far."""
        return sum(float(status["cpu_seconds"]) for status in (await self.statuses()).values())

    async def caught_up(self, worker: Worker, seconds: float) -> float:
        """Return once it has applied what the leader had committed at the call; how long it took.

        Failure after ``seconds``.
        """
        begin = time.monotonic()
        leader = await self.leader()
        target = (await leader.ask("status"))["commit_index"]
        while time.monotonic() < begin + seconds:
            if (await worker.ask("status"))["applied_index"] >= target:
                return time.monotonic() - begin
            await asyncio.sleep(POLL_SECONDS)
        raise Failure(f"peer {worker.peer_id} had not caught up after {seconds:g} s")

    @asynccontextmanager
    async def run(self, *ids: str) -> AsyncIterator[Trio]:
        """These run (none: all), until the end."""
        self.running = set(ids or self.workers)
        try:
            async with running([self.workers[p] for p in sorted(self.running)]):
                yield self
        finally:
            await asyncio.gather(*[w.stop() for w in self.workers.values()], return_exceptions=True)
