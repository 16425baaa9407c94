"""What every fault is: something that is put in place, seen to be there, and taken away again."""

from __future__ import annotations

import json
import random
import signal
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
        #: How many standing faults keep a peer from being started.
        self._held: dict[str, int] = {}

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
        await self.note_end(peer)
        runs = peer in self.peers.running
        if machine:
            await self.peers.crash(peer)
        elif runs:
            await self.peers.kill(peer)
        if runs:
            code = await self.peers.ended(peer)
            self.exits.append(Exit(peer, time.monotonic_ns(), code, asked=True))

    async def stop(self, peer: str) -> int | None:
        """SIGTERM, and it is written down; the exit code, None: it had to be killed."""
        code = await self.peers.stop(peer)
        exit_code = -signal.SIGKILL if code is None else code
        self.exits.append(Exit(peer, time.monotonic_ns(), exit_code, asked=True))
        return code

    def hold(self, peer: str) -> None:
        """It cannot be started until `free`, whatever other faults end."""
        self._held[peer] = self._held.get(peer, 0) + 1

    def free(self, peer: str) -> None:
        """The contrary, once for each `hold`."""
        self._held[peer] = max(self._held.get(peer, 0) - 1, 0)

    async def start(self, peers: list[str]) -> None:
        """Those that do not run, and may."""
        for peer in peers:
            if peer not in self.peers.ids or peer in self.dead or self._held.get(peer):
                continue
            await self.note_end(peer)
            if peer not in self.peers.running:
                await self.peers.start(peer)

    async def note_end(self, peer: str) -> None:
        """Write down that a peer ended by itself, if it did."""
        if peer not in self.peers.running:
            return
        try:
            code = await self.peers.exit_of(peer)
        except (OrderFailed, KeyError):
            return
        if code is not None and peer in self.peers.running:
            self.peers.running.discard(peer)
            self.exits.append(Exit(peer, time.monotonic_ns(), code))

    async def tell_disk(self, peer: str, words: str) -> str:
        """An order for a machine's disk; its answer.  Raises OrderFailed."""
        return str((await self.peers.machines[peer].order("order", words=words))["answer"])

    async def disk_counts(self, peer: str) -> dict[str, int]:
        """What was done to a disk, and what was felt of its ills, since it was made."""
        found: dict[str, int] = json.loads(await self.tell_disk(peer, "counts"))
        return found

    async def heal(self) -> None:
        """Whatever faults left behind: the network carries all, disks are well and have power."""
        await self.net.heal()
        self._held.clear()
        if self.peers.has_disks:
            for peer in list(self.peers.ids):
                await self.tell_disk(peer, "well")
                await self.tell_disk(peer, "up")

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
