"""One simulated run of the stock library from one seed, until a promise is broken."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from raftsched.peer.config import PeerAddress, PeerConfig
from raftsched.testing.faults import Fault, Nemesis, plan
from raftsched.testing.machine import Machine
from raftsched.testing.network import Network
from raftsched.testing.profiles import PROFILES
from raftsched.testing.world import World
from tests.simulation.stock.checks import StockChecker, Violation
from tests.simulation.stock.library import in_the_world, running
from tests.simulation.stock.machine import StockMachine

#: Everything is small, so that what is rare in the field is not here: entries of a few messages,
#: and a compaction every few seconds.
SMALL: dict[str, Any] = {
    "appendEntriesBatchSizeBytes": 300,
    "logCompactionMinEntries": 40,
    "logCompactionBatchSize": 100,
    "useFork": False,
}
COMMAND_BYTES = (20, 200)
#: Faults of `raftsched.testing.profiles` that are about what the library does not have.
FOREIGN = ("runner", "transfer")


class StockProfile(msgspec.Struct, frozen=True, kw_only=True):
    """One kind of run."""

    faults: dict[str, float]
    peers: int = 3
    #: Commands of clients in a second.
    per_second: float = 20.0
    #: Seconds a packet takes: at least, at most.
    delay: tuple[float, float] = (0.0001, 0.0008)
    conf: dict[str, Any] = {}


def _like(name: str, **changes: Any) -> StockProfile:
    """The profile of that name, for the library."""
    ours = PROFILES[name]
    faults = {kind: weight for kind, weight in ours.faults.items() if kind not in FOREIGN}
    fields: dict[str, Any] = {"faults": faults, "peers": ours.peers, "delay": ours.delay} | changes
    return StockProfile(**fields)


_SINGLE = {"kill": 2.0, "kill_at": 2.0, "kill_compaction": 6.0}
STOCK_PROFILES = {
    "calm": StockProfile(faults={}),
    "net": _like("net"),
    "lag": _like("lag"),
    #: No fault at all: packets take their time, that is all.
    "far": StockProfile(faults={}, delay=(0.02, 0.09)),
    "kill": _like("kill"),
    "power": _like("power"),
    "single": StockProfile(faults=_SINGLE, peers=1),
    "fork": StockProfile(faults=_SINGLE, peers=1, conf={"useFork": True}),
}


class StockNemesis(Nemesis):
    """Faults aimed at the library."""

    @staticmethod
    def leads(machine: Machine) -> bool:
        """Does its peer take itself for the leader?"""
        assert isinstance(machine, StockMachine)
        return machine.is_serving and machine.stock is not None and machine.stock._isLeader()

    def _kill_compaction(self, machine: Machine, fault: Fault) -> bool:
        """In the middle of the next compaction of its journal."""
        assert isinstance(machine, StockMachine)
        machine.kill_in_compaction = max(int(fault.choice * 80) - 20, 0)
        self._later(fault.seconds / 2 + 4.0, lambda: self._start(machine))
        return True


class StockResult(NamedTuple):
    """What a run was and what it found."""

    violations: list[Violation]
    #: A hash of everything that happened.
    trace: str
    #: Simulated; it ends at the first violation.
    seconds: float
    committed: int
    acknowledged: int
    leaders: int
    false_successes: int
    exceptions: int
    faults: dict[str, int]

    @property
    def findings(self) -> set[str]:
        return {violation.finding for violation in self.violations}


class StockSimulation:
    """A cluster of the library under a profile's faults; `run` it once."""

    def __init__(self, profile: str, seed: int, seconds: float = 40.0) -> None:
        self.profile = STOCK_PROFILES[profile]
        self.seconds = seconds
        self.world = World(seed)
        self.network = Network(self.world, self.profile.delay)
        self.checker = StockChecker(self.world)
        names = [f"n{n + 1}" for n in range(self.profile.peers)]
        peers = {
            name: PeerAddress(f"127.0.0.1:{7001 + n}", f"127.0.0.1:{8001 + n}")
            for n, name in enumerate(names)
        }
        self.machines = {
            name: StockMachine(
                self.world,
                self.network,
                PeerConfig(cluster_id="stock", peer_id=name, peers=peers, data_dir=Path("/stock")),
                {**SMALL, **self.profile.conf},
                self.checker,
            )
            for name in names
        }
        self.checker.machines = self.machines
        self.nemesis = StockNemesis(self.world, self.network, self.machines)
        self.faults = plan(self.world.chance("faults"), self.profile.faults, len(names), seconds)
        self._clients = self.world.chance("clients")
        self._number = 0

    def run(self) -> StockResult:
        """All of it, or up to the first violation."""
        checker = self.checker
        with in_the_world():
            for machine in self.machines.values():
                machine.start()
            self.nemesis.follow(self.faults)
            self.world.after(0.5, self._submit)
            self.world.run(self.seconds, stop=lambda: bool(checker.violations))
        return StockResult(
            violations=checker.violations,
            trace=self.world.trace,
            seconds=self.world.now,
            committed=checker.commit_index,
            acknowledged=checker.acknowledged,
            leaders=checker.leaders,
            false_successes=checker.false_successes,
            exceptions=sum(machine.exceptions for machine in self.machines.values()),
            faults=dict(sorted(self.nemesis.done.items())),
        )

    def _submit(self) -> None:
        """A client gives a command to some peer; nobody tries again."""
        self.world.after(self._clients.expovariate(self.profile.per_second), self._submit)
        up = [m for m in self.machines.values() if m.is_serving]
        if not up:
            return
        machine = self._clients.choice(up)
        self._number += 1
        loop, number, stock = machine.loop, self._number, machine.stock
        assert loop is not None and stock is not None

        def done(_result: object, reason: int) -> None:
            if not reason and not loop.is_dead:
                self.checker.told(number)

        with running(machine):
            stock.submit(number, self._clients.randint(*COMMAND_BYTES), done)
