"""What every fault is: something that is put in place, seen to be there, and taken away again."""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from jepsen_like.history import Exit
from jepsen_like.net.base import Net
from jepsen_like.net.layers import Direction, Layers, Rule
from jepsen_like.orders import OrderFailed
from jepsen_like.peers import Peers

#: A peer whose disk fails ends with 70, as documented.
DISK_FAILS = ("exit:70",)
#: Of a peer that was told to stop: it did, before it was ready to be told, it did not.
STOPPED = frozenset({0, -signal.SIGTERM, -signal.SIGKILL})
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
    #: By how much the cluster's time may be wrong because of it.
    shift_ms: int = 0
    #: What a peer did that no peer may, whatever the fault; empty: nothing.
    broken: str = ""


class Arena:
    """What faults work on."""

    def __init__(self, peers: Peers, chance: random.Random, lease_seconds: float) -> None:
        self.peers = peers
        self.chance = chance
        self.lease_seconds = lease_seconds
        self.exits: list[Exit] = []
        #: What a peer is to end with by itself, because it was told to go.
        self.expects: dict[str, int] = {}
        #: How many standing faults keep a peer from being started.
        self._held: dict[str, int] = {}
        self._layers = Layers()

    @property
    def net(self) -> Net:
        return self.peers.net

    @property
    def dead(self) -> list[str]:
        """Peers that are not to be started again."""
        return self.peers.dead

    def one(self) -> str:
        """Any peer."""
        return self.chance.choice(self.peers.ids)

    def one_running(self) -> str:
        """Any that runs, else any: another fault may have ended them."""
        return self.chance.choice(sorted(self.peers.running) or self.peers.ids)

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
        """Who leads; any peer that runs if that cannot be found out soon."""
        try:
            return await self.peers.leader(3.0)
        except Exception:  # A cluster in trouble is what this is about.
            return self.one_running()

    async def kill(self, peer: str, *, machine: bool = False, power: bool = False) -> None:
        """The peer, or all that runs on its machine, or the machine; it is written down."""
        await self.note_end(peer)
        runs = peer in self.peers.running
        if machine or power:
            await self.peers.crash(peer, boots=power)
        elif runs:
            await self.peers.kill(peer)
        if runs:
            code = await self.peers.ended(peer)
            self.exits.append(Exit(peer, time.monotonic_ns(), code, asked=True))

    async def stop(self, peer: str) -> int | None:
        """SIGTERM, and it is written down; the exit code, None: it had to be killed."""
        code = await self.peers.stop(peer)
        exit_code = -signal.SIGKILL if code is None else code
        # Another code is its own: as likely as not its disk's, which another fault broke.
        was_asked = exit_code in STOPPED
        self.exits.append(Exit(peer, time.monotonic_ns(), exit_code, asked=was_asked))
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
            asked = self.expects.get(peer) == code
            self.exits.append(Exit(peer, time.monotonic_ns(), code, asked=asked))

    def log_size(self, peer: str) -> int:
        """Bytes that a peer has said so far."""
        log = self.peers.log(peer)
        return log.stat().st_size if log.exists() else 0

    def set_aside_log(self, peer: str, since: int) -> None:
        """What it said after so many bytes is no log of a peer: its disk was failing under it."""
        log = self.peers.log(peer)
        said = log.read_bytes()
        aside = log.parent / "dark" / log.name
        aside.parent.mkdir(exist_ok=True)
        with aside.open("ab") as file:
            file.write(said[since:])
        os.truncate(log, min(since, len(said)))

    async def tell_disk(self, peer: str, words: str) -> str:
        """An order for a machine's disk; its answer.  Raises OrderFailed."""
        return str((await self.peers.machines[peer].order("order", words=words))["answer"])

    def disk_of(self, peer: str) -> Path:
        """Where a machine's disk is, as this process sees it."""
        return self.peers.seen_data(peer).parent

    async def disk_counts(self, peer: str) -> dict[str, int]:
        """What was done to a disk, and what was felt of its ills, since it was made."""
        found: dict[str, int] = json.loads(await self.tell_disk(peer, "counts"))
        return found

    def set_clock(self, peer: str, offset_ms: int, *, drift: float = 0.0) -> None:
        """A machine's wall clock, if those can be set at all; a machine that is gone has none."""
        if self.peers.clocks is not None and peer in self.peers.ids:
            self.peers.clocks.set(self.peers.home(peer), offset_ms, drift=drift)

    async def lay(self, fault: Fault, directions: Iterable[Direction], rule: Rule) -> None:
        """Break directions, over what other faults do there.  Raises CannotBreak."""
        for direction in directions:
            await self.net.shape(*direction, **self._layers.lay(fault, direction, rule))

    async def lift(self, fault: Fault, directions: Iterable[Direction]) -> None:
        """Break them no more; what other faults do there goes on."""
        for direction in directions:
            await self.net.shape(*direction, **self._layers.lift(fault, direction))

    def is_bare(self, one: str, other: str) -> bool:
        """Does no fault break anything between these two?"""
        return not (self._layers.lies((one, other)) or self._layers.lies((other, one)))

    async def heal(self) -> None:
        """Whatever faults left behind: the network carries all, disks are well and have power."""
        self._layers.clear()
        await self.net.heal()
        self._held.clear()
        for peer in self.peers.ids:
            self.set_clock(peer, 0)
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


class Fault(ABC):
    """One fault of a class; subclasses say what it is."""

    #: As ``--nemesis`` names the class, and as the evidence names this one.
    nemesis = ""
    name = ""
    about = ""
    #: What of `Net.breaks` it needs.
    needs: frozenset[str] = frozenset()
    #: It needs machines with disks of their own.
    needs_disks = False
    #: Its machines' wall clocks have to be ours to set.
    needs_clocks = False
    #: It is aimed at schedules that go by clocks on walls; other workloads have none.
    needs_crons = False
    #: It takes many entries to have it: journals are made small.
    needs_small_journals = False
    #: What no other fault may break meanwhile that takes the same.
    takes: frozenset[str] = frozenset()
    #: Of other classes, those that would keep it from doing anything.
    apart: frozenset[str] = frozenset()
    #: Nothing else is broken while it stands: it needs a cluster that works.
    is_alone = False
    #: Whomever it hits, there is a leader of another term because of it, some time.
    moves_leader = False
    #: What a target may do because of it, beside ending when it is killed, as the evidence has it:
    #: ``exit:70`` and the like.
    allows: tuple[str, ...] = ()
    #: How long it stands, seconds.
    stands = (0.5, 4.0)

    def __init__(self, arena: Arena) -> None:
        self.arena = arena
        self.chance = arena.chance

    async def wait(self) -> None:
        """Let its moment come, if it needs a certain one; nothing is broken yet."""
        return

    @abstractmethod
    async def begin(self) -> Seen:
        """Put it in place."""

    @abstractmethod
    async def end(self) -> Seen:
        """Take it away."""

    def seconds(self) -> float:
        """How long it is to stand."""
        return self.chance.uniform(*self.stands)


def can_be_together(one: type[Fault], two: type[Fault]) -> bool:
    """Neither hides the other, or keeps it from doing anything, or from being healed."""
    is_apart = one.nemesis in two.apart or two.nemesis in one.apart
    return not (one.is_alone or two.is_alone or is_apart or one.takes & two.takes)


def reason_to_skip(fault: type[Fault], net: Net, *, has_disks: bool, no_clocks: str) -> str:
    """Why a fault cannot be had here, in words; empty: it can.

    ``no_clocks``: why clocks cannot be set.
    """
    missing = fault.needs - net.breaks
    if missing:
        return f"backend {net.name} cannot break {', '.join(sorted(missing))}"
    if fault.needs_disks and not has_disks:
        return "the machines have no disks of their own (--disks)"
    if fault.needs_clocks and no_clocks:
        return no_clocks
    return ""
