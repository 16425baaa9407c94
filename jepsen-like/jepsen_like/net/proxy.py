"""Loopback, and a proxy of our own for whatever a peer dials: no namespaces, no root.

What a proxy can break are connections: one direction of them stands still (what is sent comes after
the heal, as TCP promises), they are refused, or what they carry is late.  Packets it cannot lose.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable
from typing import Any

from jepsen_like.net.base import CannotBreak, Net, free_ports

#: Bytes that are carried at a time.
_PIECE_BYTES = 1 << 16
#: How often a direction that stands still is looked at.
_LOOK_SECONDS = 0.02


class ProxyNet(Net):
    """A proxy for each pair of a peer that dials and one that is dialled."""

    name = "proxy"
    breaks = frozenset({"drop", "reject", "delay_ms"})
    refuses_who_is_cut_off = False

    def __init__(self, peers: Iterable[str]) -> None:
        super().__init__(peers)
        self._doors: dict[tuple[str, str], int] = {}
        self._servers: list[asyncio.Server] = []
        self._rules: dict[tuple[str, str], dict[str, Any]] = {}
        self._counts: dict[tuple[str, str], dict[str, int]] = {}
        self._open: dict[asyncio.StreamWriter, tuple[str, str]] = {}

    async def open(self) -> None:
        ports = iter(free_ports(len(self.peers) ** 2 + 2 * len(self.peers) + 8))
        # Those that the peers themselves listen at are taken first.
        for peer in self.peers:
            self._given[peer] = f"127.0.0.1:{next(ports)}", f"127.0.0.1:{next(ports)}"
        for dialler in self.peers:
            for dialled in self.peers:
                if dialler != dialled:
                    await self._serve(dialler, dialled, next(ports))

    async def _serve(self, dialler: str, dialled: str, port: int) -> None:
        async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await self._carry(dialler, dialled, reader, writer)

        self._servers.append(await asyncio.start_server(carry, "127.0.0.1", port))
        self._doors[dialler, dialled] = port

    async def close(self) -> None:
        for server in self._servers:
            server.close()
        for writer in list(self._open):
            writer.close()

    def raft(self, peer: str, *, seen_by: str = "") -> str:
        port = self._doors.get((seen_by, peer))
        return super().raft(peer) if port is None else f"127.0.0.1:{port}"

    def move(self, peer: str) -> None:
        raise CannotBreak("backend proxy gives no peer another address")

    async def shape(self, source: str, to: str, **rule: Any) -> None:
        unknown = set(rule) - self.breaks - {"jitter_ms"}
        if unknown:
            raise CannotBreak(f"backend proxy cannot {'/'.join(sorted(unknown))}")
        self._rules[source, to] = rule
        if rule.get("reject"):
            for writer, pair in list(self._open.items()):
                if set(pair) == {source, to}:
                    self._count(source, to, "rejected")
                    writer.transport.abort()

    async def heal(self) -> None:
        self._rules.clear()
        self._counts.clear()

    async def counts(self) -> dict[str, dict[str, int]]:
        return {f"{source}>{to}": dict(counts) for (source, to), counts in self._counts.items()}

    def _count(self, source: str, to: str, what: str) -> None:
        counts = self._counts.setdefault((source, to), {})
        counts[what] = counts.get(what, 0) + 1

    def _rule(self, source: str, to: str) -> dict[str, Any]:
        return self._rules.get((source, to), {})

    async def _carry(
        self,
        dialler: str,
        dialled: str,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        """One connection, until either side ends it."""
        self._open[writer] = (dialler, dialled)
        other: asyncio.StreamWriter | None = None
        try:
            # A connection takes both directions.
            for source, to in ((dialler, dialled), (dialled, dialler)):
                if self._rule(source, to).get("reject"):
                    self._count(source, to, "rejected")
                    return
                await self._let_through(source, to)
            host, _, port = super().raft(dialled).rpartition(":")
            back, other = await asyncio.open_connection(host, int(port))
            self._open[other] = (dialler, dialled)
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pump(dialler, dialled, reader, other))
                group.create_task(self._pump(dialled, dialler, back, writer))
        except* (OSError, EOFError):
            pass
        finally:
            for end in (writer, other):
                if end is not None:
                    self._open.pop(end, None)
                    end.transport.abort()

    async def _pump(
        self, source: str, to: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """One direction.  Raises EOFError at its end, which is the connection's."""
        late: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(1_000)

        async def deliver() -> None:
            while True:
                at, data = await late.get()
                await asyncio.sleep(at - asyncio.get_running_loop().time())
                await self._let_through(source, to)
                writer.write(data)
                await writer.drain()

        delivering = asyncio.create_task(deliver())
        try:
            while data := await reader.read(_PIECE_BYTES):
                delay = float(self._rule(source, to).get("delay_ms", 0)) / 1000
                self._count(source, to, "delayed" if delay else "carried")
                await late.put((asyncio.get_running_loop().time() + delay, data))
                if delivering.done():
                    break
            raise EOFError
        finally:
            delivering.cancel()
            with contextlib.suppress(asyncio.CancelledError, OSError):
                await delivering

    async def _let_through(self, source: str, to: str) -> None:
        """Return when this direction carries something."""
        if self._rule(source, to).get("drop"):
            self._count(source, to, "dropped")
        while self._rule(source, to).get("drop"):
            await asyncio.sleep(_LOOK_SECONDS)
