"""What is done to a simulated cluster: a plan of faults, as data, and whoever carries it out.

A plan is drawn from one stream of chance before the run begins, so leaving out some of it (which
is how a failing plan is made small) changes nothing about the rest.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from typing import NamedTuple

from raftsched.raft.log import Role
from raftsched.testing.clocks import EPOCH_MS
from raftsched.testing.machine import Machine
from raftsched.testing.network import Network
from raftsched.testing.points import POINTS
from raftsched.testing.world import World

#: Time between two faults, in seconds: at least, at most.
GAP_SECONDS = (0.2, 6.0)


class Fault(NamedTuple):
    """One thing that is done.  What ``target`` means is settled when it happens."""

    at: float
    kind: str
    #: ``leader``, ``follower``, or the position of a machine.
    target: str
    #: How long it lasts, in seconds; of what lasts.
    seconds: float
    #: Of 0..1: whatever else is to be chosen.
    choice: float

    def __str__(self) -> str:
        return f"{self.at!r} {self.kind} {self.target} {self.seconds!r} {self.choice!r}"


def parsed(plan: str) -> list[Fault]:
    """Faults as their text, with semicolons between them.  Raises ValueError."""
    faults = []
    for text in filter(None, plan.split(";")):
        at, kind, target, seconds, choice = text.split()
        faults.append(Fault(float(at), kind, target, float(seconds), float(choice)))
    return faults


def plan(
    chance: random.Random, weights: Mapping[str, float], machines: int, until: float
) -> list[Fault]:
    """Faults from the first second to ``until``."""
    kinds = sorted(weights)
    faults: list[Fault] = []
    at = 1.0
    while kinds:
        at += _draw(chance, *GAP_SECONDS)
        if at >= until:
            break
        [kind] = chance.choices(kinds, [weights[kind] for kind in kinds])
        target = chance.choice(["leader", "leader", "follower", *(str(n) for n in range(machines))])
        faults.append(Fault(at, kind, target, _draw(chance, 0.05, 8.0), chance.random()))
    return faults


def _draw(chance: random.Random, low: float, high: float) -> float:
    """Short ones are as likely as long ones."""
    return float(low * (high / low) ** chance.random())


class Nemesis:
    """Carries out a plan; `heal` undoes all of it."""

    def __init__(self, world: World, network: Network, machines: Mapping[str, Machine]) -> None:
        self._world = world
        self._network = network
        self._machines = machines
        self._is_over = False
        #: Faults that were really done, by kind.
        self.done: dict[str, int] = {}
        #: Machines whose disk was made to fail: the only ones whose process may end for that.
        self.failing: dict[str, None] = {}
        #: Asks for a change of the group; false when nobody could be asked.
        self.change_members: Callable[[Fault], bool] = lambda fault: False
        #: Told after a clock was set.
        self.clocks_changed: Callable[[], None] = lambda: None
        #: Told before the disk of a machine is destroyed or damaged.
        self.destroys: Callable[[str], None] = lambda name: None
        #: Machines with a flipped bit: they may refuse to serve, and if they do not, are right.
        self.damaged: dict[str, None] = {}
        #: Machines that are not there any more, for good.
        self.broken: dict[str, None] = {}

    def follow(self, faults: list[Fault]) -> None:
        """Do each at its time."""
        for fault in faults:
            self._world.at(fault.at, self._do, fault)

    def heal(self) -> None:
        """Whole links, running machines, room on the disks, right clocks; nothing more is done."""
        self._is_over = True
        self._network.mend_all()
        for machine in self._machines.values():
            machine.spare()
            self._fix_disk(machine)
            machine.simulated_clock.drift(1.0)
            self._start(machine)
            # A planned stop may still be under way, and end only then.
            for seconds in (3.0, 10.0, 20.0):
                self._world.after(seconds, self._start, machine)

    def _start(self, machine: Machine) -> None:
        if machine.loop is None and machine.name not in self.broken:
            machine.start()

    def _do(self, fault: Fault) -> None:
        if self._is_over:
            return
        machine = self._target(fault)
        action: Callable[[Machine, Fault], bool] = getattr(self, f"_{fault.kind}")
        if machine is not None and action(machine, fault):
            self._did(fault.kind)

    def _did(self, what: str) -> None:
        self.done[what] = self.done.get(what, 0) + 1

    def _target(self, fault: Fault) -> Machine | None:
        machines = list(self._machines.values())
        if fault.target.isdigit():
            return machines[int(fault.target) % len(machines)]
        wanted = fault.target == "leader"
        those = [m for m in machines if m.loop is not None and self.leads(m) is wanted]
        return those[int(fault.choice * len(those))] if those else None

    @staticmethod
    def leads(machine: Machine) -> bool:
        """Does its peer take itself for the leader?"""
        peer = machine.peer
        if machine.loop is None or peer is None or not peer.log.is_running:
            return False
        return peer.log.status().role is Role.LEADER

    def _later(self, seconds: float, undo: Callable[[], None]) -> None:
        def unless_over() -> None:
            if not self._is_over:
                undo()

        self._world.after(seconds, unless_over)

    def _others(self, machine: Machine) -> list[str]:
        return [name for name in self._machines if name != machine.name]

    def _members(self, machine: Machine, fault: Fault) -> bool:
        """A peer is added, removed or replaced."""
        return self.change_members(fault)

    # The network ---------------------------------------------------------------------------------

    def _cut(self, pairs: list[tuple[str, str]], seconds: float) -> bool:
        for here, there in pairs:
            self._network.cut(here, there)

        def mend() -> None:
            for here, there in pairs:
                self._network.mend(here, there)

        self._later(seconds, mend)
        return bool(pairs)

    def _isolate(self, machine: Machine, fault: Fault) -> bool:
        """Nobody reaches it, and it reaches nobody."""
        others = self._others(machine)
        pairs = [(machine.name, o) for o in others] + [(o, machine.name) for o in others]
        return self._cut(pairs, fault.seconds)

    def _one_way(self, machine: Machine, fault: Fault) -> bool:
        """It hears nobody, or nobody hears it."""
        others = self._others(machine)
        if fault.choice < 0.5:
            return self._cut([(machine.name, o) for o in others], fault.seconds)
        return self._cut([(o, machine.name) for o in others], fault.seconds)

    def _bridge(self, machine: Machine, fault: Fault) -> bool:
        """Only this one reaches everybody."""
        others = self._others(machine)
        half = len(others) // 2
        pairs = [(a, b) for a in others[:half] for b in others[half:]]
        return self._cut(pairs + [(b, a) for a, b in pairs], fault.seconds)

    def _split(self, machine: Machine, fault: Fault) -> bool:
        """Two groups."""
        chance = random.Random(fault.choice)
        group = [name for name in self._machines if chance.random() < 0.5]
        rest = [name for name in self._machines if name not in group]
        pairs = [(a, b) for a in group for b in rest]
        return self._cut(pairs + [(b, a) for a, b in pairs], fault.seconds)

    def _flap(self, machine: Machine, fault: Fault) -> bool:
        """Cut off again and again."""
        again = fault._replace(seconds=0.1 + fault.choice / 2)

        def cut() -> None:
            self._isolate(machine, again)

        for number in range(5):
            self._later(number * 2 * again.seconds, cut)
        return True

    def _slow(self, machine: Machine, fault: Fault) -> bool:
        """Its packets take up to 0.4 s."""
        high = 0.002 * (200**fault.choice)
        for other in self._others(machine):
            for here, there in ((machine.name, other), (other, machine.name)):
                self._network.slow(here, there, (high / 2, high))

        def quick() -> None:
            for other in self._others(machine):
                self._network.slow(machine.name, other, self._network.delay)
                self._network.slow(other, machine.name, self._network.delay)

        self._later(fault.seconds, quick)
        return True

    def _reset(self, machine: Machine, fault: Fault) -> bool:
        """Connections break."""
        for other in self._others(machine):
            self._network.break_connections(machine.name, other)
        return True

    # Processes and machines ----------------------------------------------------------------------

    def _pause(self, machine: Machine, fault: Fault) -> bool:
        machine.pause(fault.seconds)
        return machine.loop is not None

    def _kill(self, machine: Machine, fault: Fault) -> bool:
        if machine.loop is None:
            return False
        machine.kill()
        self._later(fault.seconds / 2, lambda: self._start(machine))
        return True

    def _kill_all(self, machine: Machine, fault: Fault) -> bool:
        for each in self._machines.values():
            self._kill(each, fault)
        return True

    def _kill_at(self, machine: Machine, fault: Fault) -> bool:
        """In the middle of one of the next operations of its disk."""
        return self._at_operation(machine, fault, power=False)

    def _power_at(self, machine: Machine, fault: Fault) -> bool:
        return self._at_operation(machine, fault, power=True)

    def _kill_point(self, machine: Machine, fault: Fault) -> bool:
        """At a named place in its code (`points`); done when it came there."""
        return self._at_point(machine, fault, power=False)

    def _power_point(self, machine: Machine, fault: Fault) -> bool:
        return self._at_point(machine, fault, power=True)

    def _at_point(self, machine: Machine, fault: Fault, *, power: bool) -> bool:
        if machine.loop is None:
            return False
        chance = random.Random(fault.choice)
        machine.doomed_at, machine.doomed_after = chance.choice(POINTS), chance.choice((0, 0, 1, 4))
        machine.power_off_then = power

        def reached(point: str) -> None:
            self._did(fault.kind)
            self._did(f"at {point}")
            self._later(fault.seconds / 4, lambda: self._start(machine))

        machine.on_doom = reached
        return False

    def _at_operation(self, machine: Machine, fault: Fault, *, power: bool) -> bool:
        if machine.loop is None:
            return False
        machine.kill_in = int(fault.choice * 40)
        machine.power_off_then = power

        def reached(_: str) -> None:
            # From then on: who has little to write comes to it late.
            self._did(fault.kind)
            self._later(fault.seconds / 2, lambda: self._start(machine))

        machine.on_doom = reached
        return False  # Done when the disk comes to that operation.

    def _power(self, machine: Machine, fault: Fault) -> bool:
        machine.power_off()
        self._later(fault.seconds / 2, lambda: self._start(machine))
        return True

    def _power_all(self, machine: Machine, fault: Fault) -> bool:
        for each in self._machines.values():
            self._power(each, fault)
        return True

    def _restart(self, machine: Machine, fault: Fault) -> bool:
        """A planned stop and start."""
        if machine.loop is None:
            return False
        machine.stop()
        self._later(fault.seconds + 1.0, lambda: self._start(machine))
        return True

    def _runner(self, machine: Machine, fault: Fault) -> bool:
        machine.kill_runner()
        return True

    def _transfer(self, machine: Machine, fault: Fault) -> bool:
        """Somebody asks for another leader."""
        loop, peer = machine.loop, machine.peer
        if loop is None or peer is None or not machine.is_serving:
            return False

        async def ask() -> None:
            try:
                await peer.transfer_leadership(None)
            except Exception:
                return

        loop.call_soon(lambda: machine.keep(loop.start(ask())))
        return True

    # Disks and clocks ----------------------------------------------------------------------------

    def _fix_disk(self, machine: Machine) -> None:
        machine.simulated_disk.capacity = None
        machine.simulated_disk.errors.clear()
        self.failing.pop(machine.name, None)
        machine.sync_seconds = (0.0001, 0.0012)

    def _disk_full(self, machine: Machine, fault: Fault) -> bool:
        machine.simulated_disk.capacity = machine.simulated_disk.bytes_used() + int(
            20_000 * fault.choice
        )
        self._later(fault.seconds, lambda: self._fix_disk(machine))
        return True

    def _disk_slow(self, machine: Machine, fault: Fault) -> bool:
        high = 0.005 * (600**fault.choice)
        machine.sync_seconds = (high / 4, high)
        self._later(fault.seconds, lambda: self._fix_disk(machine))
        return True

    def _disk_error(self, machine: Machine, fault: Fault) -> bool:
        """The next sync fails: the process must end rather than go on."""
        disk = machine.simulated_disk
        disk.errors["datasync"] = 5
        disk.on_error = lambda: self._did(fault.kind)
        self.failing[machine.name] = None
        self._later(fault.seconds / 4, lambda: self._fix_disk(machine))
        self._later(fault.seconds / 4 + 0.5, lambda: self._start(machine))
        return False  # Done when there is a sync to fail.

    def _bit(self, machine: Machine, fault: Fault) -> bool:
        """A bit flips on the disk of a stopped peer: it may refuse, and must never serve it."""
        if not self._may_destroy(machine):
            return False
        machine.kill()
        self.destroys(machine.name)
        if not machine.simulated_disk.flip_bit(fault.choice):
            return False
        self.damaged[machine.name] = None
        self._later(0.5, lambda: self._start(machine))
        return True

    def _may_destroy(self, machine: Machine) -> bool:
        """A majority keeps what it has."""
        gone = {**self.damaged, **self.broken}
        return machine.name not in gone and 2 * (len(gone) + 1) < len(self._machines)

    def _wipe(self, machine: Machine, fault: Fault) -> bool:
        """Its disk is a new one: nobody may take it for the peer that it was."""
        if not self._may_destroy(machine):
            return False
        self.destroys(machine.name)
        machine.wipe()
        self.broken[machine.name] = None
        self._world.after(0.5, machine.start)
        return True

    def _clock_step(self, machine: Machine, fault: Fault) -> bool:
        machine.simulated_clock.step(int((fault.choice - 0.5) * 2 * 1000 * 60**fault.seconds**0.25))
        self.clocks_changed()
        return True

    def _clock_right(self, machine: Machine, fault: Fault) -> bool:
        """As by NTP."""
        clock = machine.simulated_clock
        clock.step(int(EPOCH_MS + 1000 * self._world.time) - clock.wall_ms())
        return True

    def _clock_drift(self, machine: Machine, fault: Fault) -> bool:
        machine.simulated_clock.drift(1.0 + (fault.choice - 0.5) * 0.02)
        return True
