"""What every backend can do, and says that it cannot."""

from __future__ import annotations

import asyncio
import random
import socket
from collections.abc import Iterable
from typing import Any

from jepsen_like.orders import Program

#: Of clients, among the machines.
CLIENTS = "clients"


class CannotBreak(Exception):
    """This backend cannot do that to a network; says what it lacks."""


class Net:
    """A network in which nothing can be broken: `plain`, on loopback."""

    name = "plain"
    #: What `shape` may be given.
    breaks: frozenset[str] = frozenset()

    def __init__(self, peers: Iterable[str]) -> None:
        self.peers = list(peers)
        self._ports = free_ports(2 * len(self.peers) + 8)
        self._given: dict[str, tuple[str, str]] = {}

    async def open(self) -> None:
        """Have it stand before the first machine comes."""

    async def close(self) -> None:
        """Nothing of it stays."""

    def raft(self, peer: str, *, seen_by: str = "") -> str:
        """Where a peer listens for the others, as one of them has to write it."""
        return self._addresses(peer)[0]

    def api(self, peer: str) -> str:
        """Where clients reach a peer."""
        return self._addresses(peer)[1]

    def _addresses(self, peer: str) -> tuple[str, str]:
        if peer not in self._given:
            host = "127.0.0.1"
            if len(self._ports) < 2:
                self._ports += self._more_ports()
            self._given[peer] = f"{host}:{self._ports.pop()}", f"{host}:{self._ports.pop()}"
        return self._given[peer]

    def move(self, peer: str) -> None:
        """The peer has other addresses from its next start on."""
        self._ports += self._more_ports()
        self._given.pop(peer, None)

    def _more_ports(self) -> list[int]:
        """Two that no peer has, not even one that is down."""
        taken = {int(a.rpartition(":")[2]) for both in self._given.values() for a in both}
        taken |= set(self._ports)
        return [port for port in free_ports(2 + len(taken)) if port not in taken][:2]

    #: Has every machine a loopback interface of its own?
    is_own_network = False
    #: Does who is cut off fail to connect? Else connections stand still.
    refuses_who_is_cut_off = True

    async def attach(self, peer: str, machine: Program) -> None:
        """A machine has started: give it its place in the network."""

    async def shape(self, source: str, to: str, **rule: Any) -> None:
        """Break one direction.  Raises CannotBreak."""
        raise CannotBreak(f"backend {self.name} cannot {'/'.join(rule)}")

    async def heal(self) -> None:
        """All is as it was."""

    async def counts(self) -> dict[str, dict[str, int]]:
        """What was broken since it was healed last, by ``source>to`` and kind."""
        return {}


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on just now, below those that the kernel gives away."""
    found: list[int] = []
    for port in range(random.randrange(12_000, 30_000), 32_000):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        found.append(port)
        if len(found) == count:
            return found
    raise OSError("no free ports")


async def can_connect(host: str, port: int, seconds: float = 1.0) -> bool:
    """Does somebody listen there?"""
    try:
        async with asyncio.timeout(seconds):
            _, writer = await asyncio.open_connection(host, port)
    except (OSError, TimeoutError):
        return False
    writer.close()
    return True
