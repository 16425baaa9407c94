"""What every fault is: something that is put in place, seen to be there, and taken away again."""

from __future__ import annotations

import random
import sys
import time
from typing import NamedTuple

from jepsen_like.history import Exit
from jepsen_like.net.base import Net
from jepsen_like.orders import OrderFailed
from jepsen_like.peers import Peers

#: A probe of a connection between two machines.
_PROBE = """
import socket, sys
try:
    socket.create_connection((sys.argv[1], int(sys.argv[2])), float(sys.argv[3])).close()
except OSError:
    sys.exit(1)
"""
_PROBE_SECONDS = 0.6


class Seen(NamedTuple):
    """What a fault did: to whom, whether a probe saw it, and what it saw."""

    targets: list[str]
    verified: bool | None
    detail: str = ""


class Arena:
    """What faults work on."""

    def __init__(self, peers: Peers, chance: random.Random, lease_seconds: float) -> None:
        self.peers = peers
        self.chance = chance
        self.lease_seconds = lease_seconds
        self.exits: list[Exit] = []
        #: Peers that are not to be started again.
        self.dead: list[str] = []

    @property
    def net(self) -> Net:
        return self.peers.net

    def one(self) -> str:
        """Any peer."""
        return self.chance.choice(self.peers.ids)

    def some(self, count: int) -> list[str]:
        """So many of them."""
        return sorted(self.chance.sample(self.peers.ids, count))

    def minority(self) -> list[str]:
        """As many as may fail."""
        return self.some((len(self.peers.ids) - 1) // 2)

    def majority(self) -> list[str]:
        """One more than may fail."""
        return self.some(len(self.peers.ids) // 2 + 1)

    async def leader(self) -> str:
        """Who leads; any peer if that cannot be found out soon."""
        try:
            return await self.peers.leader(3.0)
        except Exception:  # A cluster in trouble is what this is about.
            return self.one()

    async def kill(self, peer: str, *, machine: bool = False) -> None:
        """The peer, or all that runs on its machine; it is written down."""
        if peer in self.peers.running:
            await (self.peers.crash(peer) if machine else self.peers.kill(peer))
            code = await self.peers.ended(peer)
            self.exits.append(Exit(peer, time.monotonic_ns(), code, asked=True))

    async def start(self, peers: list[str]) -> None:
        """Those that do not run."""
        for peer in peers:
            if peer not in self.peers.running and peer not in self.dead:
                await self.peers.start(peer)

    async def reaches(self, source: str, to: str) -> bool:
        """Can a machine connect to another one's peer?"""
        host, _, port = self.net.raft(to, seen_by=source).rpartition(":")
        command = [sys.executable, "-I", "-S", "-c", _PROBE, host, port, str(_PROBE_SECONDS)]
        try:
            answer = await self.peers.machines[source].order("run", command=command)
        except (OrderFailed, KeyError):
            return False
        return bool(answer["exit"] == 0)


class Fault:
    """One fault of a class; subclasses say what it is."""

    #: As ``--nemesis`` names the class, and as the evidence names this one.
    nemesis = ""
    name = ""
    about = ""
    #: What of `Net.breaks` it needs.
    needs: frozenset[str] = frozenset()
    #: It needs machines with disks of their own.
    needs_disks = False
    #: What a target may do because of it, beside ending when it is killed: ``exit``, ``traceback``.
    allows: tuple[str, ...] = ()
    #: How long it stands, seconds.
    stands = (0.5, 4.0)

    def __init__(self, arena: Arena) -> None:
        self.arena = arena
        self.chance = arena.chance

    async def begin(self) -> Seen:
        """Put it in place."""
        raise NotImplementedError

    async def end(self) -> Seen:
        """Take it away."""
        raise NotImplementedError

    def seconds(self) -> float:
        """How long it is to stand."""
        return self.chance.uniform(*self.stands)


def reason_to_skip(fault: type[Fault], net: Net, *, has_disks: bool) -> str:
    """Why a fault cannot be had here, in words; empty: it can."""
    missing = fault.needs - net.breaks
    if missing:
        return f"backend {net.name} cannot break {', '.join(sorted(missing))}"
    if fault.needs_disks and not has_disks:
        return "the machines have no disks of their own (--disks)"
    return ""
