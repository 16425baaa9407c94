"""One run: a cluster, clients, faults, the heal, and what is left to be judged."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import time
from collections.abc import AsyncIterator, Coroutine
from pathlib import Path
from typing import Any, Literal

import msgspec

from jepsen_like import clocks, evidence, startup
from jepsen_like.api import Unreachable
from jepsen_like.attached import Attached
from jepsen_like.client import Client, Process
from jepsen_like.history import Clock, Earn, FaultEvent, Phase, Run, Writer, write_document
from jepsen_like.nemesis import Arena, Fault, faults_of
from jepsen_like.nemesis.base import Seen, can_be_together, reason_to_skip
from jepsen_like.nemesis.processes import LeftDead
from jepsen_like.net.base import Net
from jepsen_like.observer import NoFinal, all_ended, watch, write_finals
from jepsen_like.orders import OrderFailed
from jepsen_like.peers import NotReady, Peers
from jepsen_like.replay import replay
from jepsen_like.workload import WORKLOADS, Workload
from jepsen_like.zones import Zone

#: Undisturbed seconds before the first fault and after the heal; between two faults.
BEFORE_SECONDS = 3.0
AFTER_SECONDS = 3.0
CALM_SECONDS = (0.5, 3.0)
#: A task of some seconds is submitted that often, and a fault waits so long for one that runs.
BUSY_SECONDS = 1.0
IN_FLIGHT_SECONDS = 10.0
#: All tasks are terminal within so long after the heal, or the run says which are not.
ENDED_SECONDS = 90.0

#: Until the clocks of the run's time zone change first.
_FIRST_CHANGE_SECONDS = 10

#: Starts of a peer after the heal.
STARTS_MAX = 3

#: A cluster that does not come up again, or does not answer: the evidence is judged all the same.
TROUBLE = (NotReady, NoFinal, OrderFailed, Unreachable, TimeoutError)


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """What was asked for."""

    workload: str
    nemesis: tuple[str, ...] = ()
    seed: int = 0
    #: Of the faults; what comes before and after is not in it.
    time_limit_seconds: float = 30.0
    peers: int = 3
    lease_seconds: float = 5.0
    has_disks: bool = False
    #: Never two faults at once.
    is_single: bool = False
    #: As many machines as may fail are left dead after the heal.
    leaves_dead: bool = False
    #: The command line of a peer before ``serve``.
    program: str = ""


class Progress:
    """What a run says while it goes; `cli` has one for terminals."""

    def say(self, text: str) -> None:
        """A line."""


class Session:
    """A run as it goes."""

    def __init__(
        self,
        options: Options,
        directory: Path,
        net: Net,
        progress: Progress,
        attached: Attached | None = None,
    ) -> None:
        self.options = options
        self.directory = directory
        self.progress = progress
        # One seed, and a stream of its own for whoever needs one.
        self._seeds = random.Random(options.seed)
        faults = faults_of(options.nemesis)
        #: Why wall clocks cannot be set.
        self._no_clocks = ""
        self._presets: dict[str, Any] = {}
        if any(fault.needs_small_journals for fault in faults):
            self._presets = startup.SMALL_JOURNALS
        zone = Zone(round(time.time()) + _FIRST_CHANGE_SECONDS, options.time_limit_seconds)
        self.is_attached = attached is not None
        self.peers = attached or Peers(
            directory, options.peers, net, program=options.program,
            lease_seconds=options.lease_seconds, has_disks=options.has_disks,
            environment=startup.environment(self._presets, zone.write(directory / "shims")),
            clocks=self._clocks() if any(fault.needs_clocks for fault in faults) else None,
            zone=zone,
        )  # fmt: skip
        self.arena = Arena(self.peers, self._stream(), options.lease_seconds)
        self._faults = Writer(directory / evidence.FAULTS)
        self._phases: list[Phase] = []
        self._standing: list[Fault] = []
        #: Why it did not come to its end.
        self.trouble = ""
        self._moved_leader = False

    def _stream(self) -> random.Random:
        return random.Random(self._seeds.getrandbits(64))

    def _clocks(self) -> clocks.Clocks | None:
        try:
            return clocks.Clocks(clocks.build(self.directory / "shims"))
        except clocks.CannotBuild as error:
            self._no_clocks = str(error)
            self.progress.say(f"no clocks to set: {error}")
            return None

    async def go(self) -> Run:
        """From nothing to the evidence; returns what ``run.json`` has."""
        options = self.options
        history = Writer(self.directory / evidence.HISTORY)
        states = Writer(self.directory / evidence.STATES)
        client = Client(self.peers, history)
        workload = WORKLOADS[options.workload](client, self.directory, self._stream())
        clock = Clock(time.monotonic_ns(), time.time_ns() // 1_000_000)
        try:
            await self._until_over(client, workload, states)
            if not self.is_attached:
                # Somebody else's peers go on.
                self.progress.say(await replay(self.peers, self.directory))
        finally:
            if self.trouble:
                self.progress.say(f"it did not come to its end: {self.trouble}")
            await client.close()
            await workload.tear_down()
            await self.peers.close()
            await self.peers.net.close()
            for writer in (history, states, self._faults):
                writer.close()
            run = self._document(workload, clock)
            write_document(self.directory / evidence.RUN, run)
        return run

    async def _until_over(self, client: Client, workload: Workload, states: Writer) -> None:
        """All of it but what the peers leave on their disks; trouble is noted."""
        try:
            await self.peers.net.open()
            await self.peers.open()
            self.progress.say(f"{len(self.peers.ids)} peers are ready")
            await workload.set_up()
            async with _running(watch(self.arena, states)):
                await self._phased(client, workload)
                await self._wind_down(client, workload)
                left = await all_ended(self.peers, ENDED_SECONDS) if workload.all_end else []
                if left:
                    self.progress.say(f"{len(left)} tasks have not ended: {', '.join(left[:5])}")
                await workload.read_again(client.process())
            await write_finals(self.peers, self.directory)
        except asyncio.CancelledError:
            self.trouble = "interrupted"
            raise
        except TROUBLE as error:
            self.trouble = f"{type(error).__name__}: {error}"
        except ExceptionGroup as group:
            # Something that goes on meanwhile failed, of which one is enough to know.
            match, rest = group.split(TROUBLE)
            if match is None or rest is not None:
                raise
            self.trouble = _first(match)

    def _document(self, workload: Workload, clock: Clock) -> Run:
        options = self.options
        return Run(
            workload=options.workload, nemesis=list(options.nemesis), seed=options.seed,
            time_limit_seconds=options.time_limit_seconds, peers=list(self.peers.ids),
            backend=self.peers.net.name, lease_seconds=options.lease_seconds,
            phases=self._phases, clock=clock, dead=self.arena.dead, limits=dict(workload.limits),
            exits=self.arena.exits, earn=self._earn(workload), presets=self._presets,
            trouble=self.trouble, is_attached=self.is_attached,
        )  # fmt: skip

    def _earn(self, workload: Workload) -> Earn:
        """What has to have happened: a leader that changed only where a fault has that effect."""
        if self._moved_leader or workload.earn.leader_changes is not None:
            return workload.earn
        return msgspec.structs.replace(workload.earn, leader_changes=0)

    async def _phased(self, client: Client, workload: Workload) -> None:
        processes = [client.process() for _ in range(workload.processes)]
        working = [self._work(workload, process) for process in processes]
        if workload.earn.in_flight is not False:
            working.append(self._keep_busy(workload, client.process()))
        async with _running(*working):
            async with self._phase("before"):
                await asyncio.sleep(BEFORE_SECONDS)
            async with self._phase("during"):
                try:
                    await self._disturb(workload)
                finally:
                    await self._heal(workload)
            async with self._phase("healed"):
                await asyncio.sleep(AFTER_SECONDS)

    @contextlib.asynccontextmanager
    async def _phase(self, name: str) -> AsyncIterator[None]:
        self.progress.say(f"phase: {name}")
        began = time.monotonic_ns()
        yield
        self._phases.append(Phase(name, began, time.monotonic_ns()))

    async def _work(self, workload: Workload, process: Process) -> None:
        chance = self._stream()
        while True:
            await workload.step(process)
            await asyncio.sleep(chance.expovariate(1 / workload.think_seconds))

    async def _wind_down(self, client: Client, workload: Workload) -> None:
        process = client.process()
        await workload.wind_down(process)
        # The last word: what clients were at when they were stopped says nothing of the cluster.
        await workload.read(process, workload.known[-1] if workload.known else "nothing")

    # Faults ---------------------------------------------------------------------------------

    def _possible(self) -> list[type[Fault]]:
        """Those that can be had here; the others are written down as skipped."""
        found: list[type[Fault]] = []
        for fault in faults_of(self.options.nemesis):
            if fault.needs_crons and not WORKLOADS[self.options.workload].has_crons:
                continue
            why = reason_to_skip(
                fault, self.peers.net, has_disks=self.options.has_disks,
                no_clocks=self._no_clocks,
            )  # fmt: skip
            if why:
                self._write(fault, "skip", Seen([], None, why))
            else:
                found.append(fault)
        return found

    async def _keep_busy(self, workload: Workload, process: Process) -> None:
        while True:
            await workload.keep_busy(process)
            await asyncio.sleep(BUSY_SECONDS)

    async def _disturb(self, workload: Workload) -> None:
        """Until the time is over: a fault, or two of them at once, and calm between them."""
        deadline = time.monotonic() + self.options.time_limit_seconds
        possible, chance = self._possible(), self._stream()
        bag: list[type[Fault]] = []
        while time.monotonic() < deadline:
            if not possible:
                await asyncio.sleep(deadline - time.monotonic())
                return
            count = 2 if chance.random() < 0.2 and not self.options.is_single else 1
            while len(bag) < count:
                # Each before any comes again.
                bag = [*chance.sample(possible, len(possible)), *bag]
            kinds = [bag.pop() for _ in range(count)]
            if count == 2 and not can_be_together(*kinds):
                bag.append(kinds.pop())
            # Who waits for a moment does so before anything is broken.
            kinds.sort(key=lambda kind: kind.wait is Fault.wait)
            faults = [kind(self.arena) for kind in kinds]
            if workload.earn.in_flight is not False:
                await _until_running(workload.effects)
            for fault in faults:
                await self._begin(fault)
            left = max(deadline - time.monotonic(), 0.0)
            await asyncio.sleep(min(max(fault.seconds() for fault in faults), left + 1.0))
            await self._end_all()
            if self.options.is_single:
                # Who is still starting would be a second one.
                await self.peers.all_ready()
            calm = chance.uniform(*CALM_SECONDS)
            await asyncio.sleep(min(calm, max(deadline - time.monotonic(), 0.0)))

    async def _begin(self, fault: Fault) -> None:
        self._standing.append(fault)
        await fault.wait()
        # What it does to peers, it may do before all of it stands.
        at = time.monotonic_ns()
        seen = await fault.begin()
        # A fault that found nobody to hit moves nobody.
        self._moved_leader |= fault.moves_leader and seen.verified is not None
        self.progress.say(f"{fault.name}: {', '.join(seen.targets)}")
        self._write(type(fault), "begin", seen, at)

    async def _end_all(self) -> None:
        """The last one first, as they may lie over one another."""
        while self._standing:
            fault = self._standing.pop()
            self._write(type(fault), "end", await fault.end())

    async def _heal(self, workload: Workload) -> None:
        """Every fault is taken away, and whoever may run runs."""
        await self._end_all()
        if self.options.leaves_dead:
            if workload.earn.in_flight is not False:
                await _until_running(workload.effects)
            await self._begin(LeftDead(self.arena))
            # It stands for good.
            self._standing.clear()
        await self.arena.heal()
        for starts_left in reversed(range(STARTS_MAX)):
            await self.arena.start(self.peers.ids)
            try:
                return await self.peers.all_ready()
            except NotReady:
                # A peer that met a fault's last moment ends after it, and that is judged as well.
                if not starts_left:
                    raise

    def _write(
        self,
        fault: type[Fault],
        event: Literal["begin", "end", "skip"],
        seen: Seen,
        at: int | None = None,
    ) -> None:
        at, allows = at or time.monotonic_ns(), list(fault.allows)
        self._faults.write(FaultEvent(fault.name, event, at, allows=allows, **seen._asdict()))


def _first(group: BaseException) -> str:
    while isinstance(group, ExceptionGroup):
        group = group.exceptions[0]
    return f"{type(group).__name__}: {group}"


async def _until_running(effects: Path) -> None:
    """Until some attempt has shown a sign of life just now, or it has been too long."""
    deadline = time.monotonic() + IN_FLIGHT_SECONDS
    while time.monotonic() < deadline and not _is_running(effects):
        await asyncio.sleep(0.02)


def _is_running(effects: Path) -> bool:
    with contextlib.suppress(FileNotFoundError), effects.open("rb") as file:
        file.seek(max(0, effects.stat().st_size - 4_096))
        for line in file.read().splitlines()[1:]:
            with contextlib.suppress(ValueError):
                effect = json.loads(line)
                is_recent = time.monotonic_ns() - effect["at"] < 100_000_000
                if is_recent and effect["event"] != "end":
                    return True
    return False


@contextlib.asynccontextmanager
async def _running(*coroutines: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """These go on meanwhile; the first that fails fails all."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(coroutine) for coroutine in coroutines]
        yield
        for task in tasks:
            task.cancel()
