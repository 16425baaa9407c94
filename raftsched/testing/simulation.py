"""One simulated run from one seed: a cluster, its clients, its faults, and what was found.

Two phases, as TigerBeetle has it: under faults nothing may go wrong; then everything is healed and
all that was promised must come true within `HEAL_SECONDS`, and a backlog of runs that wait for one
another one by one behind it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter

import msgspec

from raftsched.core.model import TERMINAL, TaskStatus
from raftsched.peer.config import PeerAddress, PeerConfig
from raftsched.raft.files import DISK_FULL, Damaged
from raftsched.raft.groups import DiskFull
from raftsched.raft.journal import JournalFailed
from raftsched.raft.log import RemovedFromCluster
from raftsched.testing.checks import Checker
from raftsched.testing.clocks import EPOCH_MS
from raftsched.testing.faults import Fault, Nemesis, plan
from raftsched.testing.group import Group
from raftsched.testing.machine import Machine, standard_script
from raftsched.testing.network import Network
from raftsched.testing.profiles import PROFILES, Profile
from raftsched.testing.slots import Clockworks
from raftsched.testing.workload import Workload
from raftsched.testing.world import World, quiet_graves

#: After the last fault everything must have come right within this.
HEAL_SECONDS = 60.0
#: One run of a schedule takes no longer, its retries included.
RUN_SECONDS = 4.0
#: The world is looked at this often.
LOOK_SECONDS = 0.5


class Result(msgspec.Struct, kw_only=True):
    """What a run was and what it found."""

    profile: str
    seed: int
    seconds: float
    violations: list[str]
    #: A hash of everything that happened.
    trace: str
    committed: int
    leader_changes: int
    operations: int
    operations_ok: int
    reads: int
    attempts: int
    snapshots_installed: int
    member_changes: int
    faults: dict[str, int]
    #: From the healing to the end of the last task, in simulated seconds.
    healed_in: float
    #: Real seconds it took.
    took: float

    @property
    def command(self) -> str:
        """What runs it again."""
        return again_command(self.profile, self.seed, self.seconds)


def again_command(profile: str, seed: int, seconds: float) -> str:
    """What runs a simulation again."""
    return f"python -m raftsched.testing --profile {profile} --seed {seed} --seconds {seconds:g}"


class Simulation:
    """A cluster under a profile's faults; `run` it once."""

    def __init__(
        self,
        profile: str,
        seed: int,
        seconds: float = 60.0,
        faults: Sequence[Fault] | None = None,
    ) -> None:
        """``faults``: instead of those the seed gives."""
        self.profile: Profile = PROFILES[profile]
        self.name, self.seed, self.seconds = profile, seed, seconds
        self.world = World(seed)
        self.network = Network(self.world, self.profile.delay)
        names = [f"n{n + 1}" for n in range(self.profile.peers)]
        self._founders = names
        self.machines = {name: self._machine(name) for name in names}
        self.checker = Checker(self.world, self.machines)
        for machine in self.machines.values():
            self._watch(machine)
        self.group = Group(self.machines, len(names), self._newcomer)
        if "members" in self.profile.faults:
            self.checker.electorates = lambda index: self.group.electorates(
                index, self.checker.newest_term
            )
        self.nemesis = Nemesis(self.world, self.network, self.machines)
        self.nemesis.change_members = self.group.change
        self.nemesis.destroys = self.checker.disk_destroyed
        self.nemesis.clocks_changed = self.checker.look_at_clocks
        chance = self.world.chance("faults")
        drawn = plan(chance, self.profile.faults, len(names), seconds)
        self.faults = drawn if faults is None else list(faults)
        self.workload = Workload(
            self.world,
            self.machines,
            self.checker,
            per_second=self.profile.per_second,
            spec_bytes=self.profile.spec_bytes,
            wishes=self.profile.wishes,
        )
        self.clockworks = Clockworks(self.world, self.machines, self.profile.schedules)

    def _watch(self, machine: Machine) -> None:
        machine.on_new_peer = self.checker.watch
        machine.on_end = self._ended

    def _members(self) -> list[str]:
        """Whoever has to be there in the end."""
        configuration = self.group.configuration()
        if configuration is None:
            return list(self._founders)
        return [name for name in sorted(configuration.members) if name not in self.nemesis.broken]

    def _newcomer(self, name: str) -> Machine:
        machine = self._machine(name, joins=True)
        self._watch(machine)
        return machine

    def _machine(self, name: str, *, joins: bool = False) -> Machine:
        peers = {
            each: PeerAddress(
                f"127.0.0.1:{7000 + int(each[1:])}", f"127.0.0.1:{8000 + int(each[1:])}"
            )
            for each in dict.fromkeys([*self._founders, name])
        }
        config = PeerConfig(
            cluster_id="simulated",
            peer_id=name,
            peers=peers,
            data_dir=Path("/simulated") / name,
            lease_seconds=self.profile.lease_seconds,
            joins=joins,
        )
        script = standard_script(self.world.chance("attempts"))
        log = {"reserve_bytes": 16 * 1024, **self.profile.log}
        return Machine(self.world, self.network, config, script, log)

    def _ended(self, machine: Machine, error: BaseException) -> None:
        """A process ended by itself: is it what should have happened?"""
        failing = machine.name in self.nemesis.failing
        if isinstance(error, RemovedFromCluster):
            # It never comes back; there is nothing wrong with it.
            self.nemesis.broken[machine.name] = None
            return
        if isinstance(error, JournalFailed) and (failing or self._had_no_room(machine, error)):
            return
        if isinstance(error, Damaged) and machine.name in self.nemesis.damaged:
            self.nemesis.broken[machine.name] = None
            return
        self.checker.violated(f"{machine.name} ended: {error!r}")

    def _had_no_room(self, machine: Machine, error: JournalFailed) -> bool:
        """Its disk is a new one, and full: there is nothing yet that could wait for room."""
        cause = error.__cause__
        is_full = isinstance(cause, DiskFull) or (
            isinstance(cause, OSError) and cause.errno in DISK_FULL
        )
        return is_full and machine.name in self.nemesis.broken

    def run(self) -> Result:
        """All of it."""
        with quiet_graves():
            result = self._run()
            for machine in self.machines.values():
                machine.bury()
            self.network.end()
            self.checker.end()
            self.world.end()
        return result

    def _run(self) -> Result:
        began = perf_counter()
        for machine in self.machines.values():
            machine.start()
        self.nemesis.follow(self.faults)
        self._until(self.seconds)
        self.nemesis.heal()
        self.workload.stop()
        self.clockworks.stop()
        healed_at = self.world.now
        patience = HEAL_SECONDS + self._ahead_seconds() + self._backlog_seconds()
        self._until(healed_at + patience, healing=True)
        healed_in = self.world.now - healed_at
        self._settle()
        return self._result(healed_in, perf_counter() - began)

    def _until(self, end: float, *, healing: bool = False) -> None:
        while self.world.now < end and not self.checker.violations:
            self.world.run(min(end, self.world.now + LOOK_SECONDS))
            self.checker.durable()
            if healing and self._is_at_rest():
                return

    def _ahead_seconds(self) -> float:
        """By how much the cluster's time is ahead of the world's, and so will stand still.

        Clocks that were wrong together are believed; what waits for a time then waits longer.
        """
        peers = [m.peer for m in self.machines.values() if m.loop is not None and m.peer]
        now = max([peer.replica.state.now for peer in peers], default=0)
        return max(0.0, (now - EPOCH_MS) / 1000 - self.world.time)

    def _is_at_rest(self) -> bool:
        """Every peer that can runs, has applied the same, and no task is open."""
        states = []
        if self.group.leader() is None:
            return False
        for machine in [self.machines[name] for name in self._members()]:
            if machine.loop is None or machine.peer is None:
                return False
            states.append(machine.peer.replica.state)
        last = self.checker.applied_index
        is_idle = all(state.index >= last and not state.open_count for state in states)
        return is_idle and self.clockworks.is_at_rest

    def _backlog_seconds(self) -> float:
        """How long runs of a schedule may take that wait for one another, one by one."""
        waiting: Counter[str] = Counter()
        for machine in self.machines.values():
            if machine.loop is not None and machine.peer:
                tasks = machine.peer.replica.state.tasks.values()
                found = Counter(
                    t.extra.schedule
                    for t in tasks
                    if t.status is TaskStatus.WAITING and t.extra is not None and t.extra.schedule
                )
                waiting |= found
        return RUN_SECONDS * max(waiting.values(), default=0)

    def _settle(self) -> None:
        if self.checker.violations:
            return
        if not self._is_at_rest():
            for name, machine in self.machines.items():
                peer = machine.peer
                if peer is not None and machine.loop is not None:
                    status, state = peer.log.status(), peer.replica.state
                    left = [t.id for t in state.tasks.values() if t.status not in TERMINAL]
                    self.checker.violated(
                        f"not at rest after the healing: {name} {status.role} "
                        f"of {status.leader} in term {status.term}, applied {status.applied_index} "
                        f"of {status.last_index}, open tasks {left[:5]}"
                    )
                elif name not in self.nemesis.broken:
                    self.checker.violated(f"not at rest: {name} does not run")
            return
        # What is on its way may still be applied here and not there.
        self.world.run(self.world.now + 8.0)
        self.workload.check()
        self.checker.attempts()
        self.checker.schedules(self.clockworks)
        self._same_index()

    def _same_index(self) -> None:
        for _ in range(200):
            members = [self.machines[name] for name in self._members()]
            running = [m for m in members if m.loop is not None and m.peer]
            indexes = {m.peer.replica.state.index for m in running if m.peer is not None}
            if len(indexes) == 1:
                break
            self.world.run(self.world.now + 0.0173)
        self.checker.replicas(self._members())

    def _result(self, healed_in: float, took: float) -> Result:
        workload, checker = self.workload, self.checker
        return Result(
            profile=self.name,
            seed=self.seed,
            seconds=self.seconds,
            # A copy: what dead processes do when they are buried counts for nothing.
            violations=list(checker.violations),
            trace=self.world.trace,
            committed=checker.applied_index,
            leader_changes=checker.leader_changes,
            operations=workload.invoked,
            operations_ok=workload.ok,
            reads=workload.reads,
            attempts=sum(len(machine.spans) for machine in self.machines.values()),
            snapshots_installed=checker.snapshots_installed,
            member_changes=self.group.changes,
            faults=dict(sorted(self.nemesis.done.items())),
            healed_in=healed_in,
            took=took,
        )
