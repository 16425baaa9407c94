"""Logs of one cluster in one process, and state machines for them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec

from raftsched.raft.config import LogConfig
from raftsched.raft.log import Role
from raftsched.raft.pysyncobj_log import PySyncObjLog
from tests.ports import free_ports


class ListMachine:
    """A state machine whose state is the list of what was applied."""

    def __init__(self) -> None:
        self.items: list[bytes] = []
        self.restored = 0

    def apply(self, index: int, term: int, entry: bytes) -> None:
        self.items.append(entry)

    def begin_snapshot(self) -> Iterable[bytes]:
        return iter([msgspec.msgpack.encode(list(self.items))])

    def end_snapshot(self) -> None:
        pass

    def restore(self, index: int, chunks: Iterable[bytes]) -> None:
        self.items = msgspec.msgpack.decode(b"".join(chunks), type=list[bytes])
        self.restored += 1


class GateMachine(ListMachine):
    """Loads a snapshot aside, in a thread that waits at a gate with the first chunk in hand."""

    def __init__(self) -> None:
        super().__init__()
        self.is_loading = threading.Event()
        self.gate = threading.Event()
        self.chunks = 0
        #: What was handed out to be let go of, and drawn.
        self.let_go: list[bytes] = []

    def begin_snapshot(self) -> Iterable[bytes]:
        return (msgspec.msgpack.encode([item]) for item in list(self.items))

    def load(self, index: int, chunks: Iterable[bytes]) -> Callable[[], Iterable[object]]:
        items: list[bytes] = []
        for chunk in chunks:
            items += msgspec.msgpack.decode(chunk, type=list[bytes])
            self.chunks += 1
            self.is_loading.set()
            assert self.gate.wait(20)

        def put_in_place() -> Iterable[object]:
            old, self.items = self.items, items
            self.restored += 1
            return map(self.let_go.append, old)

        return put_in_place


async def until(condition: Callable[[], object]) -> None:
    """Return once a condition holds; TimeoutError after ten seconds."""
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.002)


class Logs:
    """Logs of one cluster by peer id, each with its machine."""

    def __init__(
        self, directory: Path, size: int, machine: type[ListMachine], **options: Any
    ) -> None:
        self.directory = directory
        self.machine = machine
        self.options = options
        ids = [f"n{i + 1}" for i in range(size)]
        self.peers = {p: f"127.0.0.1:{port}" for p, port in zip(ids, free_ports(size), strict=True)}
        self.logs: dict[str, PySyncObjLog] = {}
        self.machines: dict[str, ListMachine] = {}

    async def start(self, peer: str) -> None:
        config = LogConfig(
            cluster_id="c",
            peer_id=peer,
            peers=self.peers,
            data_dir=self.directory / peer,
            **{key: v(peer) if callable(v) else v for key, v in self.options.items()},
        )
        self.machines[peer] = self.machine()
        log = PySyncObjLog(config, self.machines[peer])
        await log.start()
        self.logs[peer] = log

    async def stop(self, peer: str) -> None:
        await self.logs.pop(peer).stop()

    async def leader(self) -> str:
        async with asyncio.timeout(10):
            while True:
                for peer, log in self.logs.items():
                    status = log.status()
                    if status.role is Role.LEADER and status.is_current:
                        return peer
                await asyncio.sleep(0.01)

    async def add(self, items: list[bytes]) -> None:
        """Propose at the leader and wait until every running log has applied it."""
        leader = self.logs[await self.leader()]
        for item in items:
            leader.propose(item)
        async with asyncio.timeout(10):
            for peer in self.logs:
                while items[-1] not in self.machines[peer].items:
                    await asyncio.sleep(0.005)


@asynccontextmanager
async def logs(
    directory: Path, size: int = 3, machine: type[ListMachine] = ListMachine, **options: Any
) -> AsyncIterator[Logs]:
    cluster = Logs(directory, size, machine, **options)
    for peer in cluster.peers:
        await cluster.start(peer)
    try:
        yield cluster
    finally:
        for machine_ in cluster.machines.values():
            if isinstance(machine_, GateMachine):
                machine_.gate.set()
        for peer in list(cluster.logs):
            await cluster.stop(peer)


def numbered(first: int, last: int) -> list[bytes]:
    return [b"%d" % i for i in range(first, last)]
