"""One simulated machine and the peer on it: start, stop, kill, pause, power loss."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from raftsched.core.model import Task
from raftsched.core.state import State
from raftsched.peer.config import PeerConfig
from raftsched.peer.host import PeerHost
from raftsched.peer.peer import Peer
from raftsched.testing import points
from raftsched.testing.clocks import SimulatedClock
from raftsched.testing.disk import Crash, MemoryDisk
from raftsched.testing.inputs import SimulatedInputs, items_of
from raftsched.testing.loop import Killed, PeerLoop
from raftsched.testing.network import Network
from raftsched.testing.runner import Connection, Run, Script, SimulatedRunner, Span
from raftsched.testing.world import World

#: A runner is started within this.
RUNNER_START_SECONDS = 0.3


class _NoRemoval:
    """Attempts of a simulation leave no files."""

    def look(self) -> None:
        pass

    async def run(self, is_current: asyncio.Event) -> None:
        await asyncio.get_running_loop().create_future()


class Machine(PeerHost):
    """What a peer runs on, as the peer sees it, and as whoever breaks it does."""

    def __init__(
        self,
        world: World,
        network: Network,
        config: PeerConfig,
        script: Script,
        log: dict[str, Any],
    ) -> None:
        """``log``: fields of ``raft.config.LogConfig`` that differ from the defaults."""
        self.simulated_clock = SimulatedClock(world)
        self.simulated_disk = MemoryDisk()
        super().__init__(
            clock=self.simulated_clock,
            disk=self.simulated_disk,
            chance=world.chance(f"peer/{config.peer_id}"),
        )
        self.world = world
        self.network = network
        self.config = config
        self.name = config.peer_id
        self._script = script
        self._log = log
        self._disk_chance = world.chance(f"disk/{self.name}")
        self.loop: PeerLoop | None = None
        self.peer: Peer | None = None
        #: The peer has started in this process: it can be asked.
        self.is_serving = False
        #: The attempts that have ended on this machine, in any life of it.
        self.spans: list[Span] = []
        self._runner: SimulatedRunner | None = None
        #: Seconds a sync takes: at least, at most.
        self.sync_seconds = (0.0001, 0.0012)
        #: Kill the process after so many more operations of its disk, in the middle of the next.
        self.kill_in: int | None = None
        self.power_off_then = False
        #: The same when a place in the code (`points`) is reached, after so many times at it.
        self.doomed_at = ""
        self.doomed_after = 0
        #: Called when that happened, with the place.
        self.on_doom: Callable[[str], None] = lambda point: None
        #: Makes the peer of a new process.
        self.make_peer: Callable[[Machine], Peer] = lambda machine: Peer(
            machine.config, host=machine
        )
        #: Called with a new `Peer` before it starts, to watch it.
        self.on_new_peer: Callable[[Machine, Peer], None] = lambda machine, peer: None
        #: Called when the process ended by itself: with what made going on unsafe, or a start fail.
        self.on_end: Callable[[Machine, BaseException], None] = lambda machine, error: None
        #: What nobody may throw away before the end: coroutines of dead processes.
        self._graves: list[object] = []
        self.boots = 0

    # What the peer asks of its host --------------------------------------------------------------

    def unique_bytes(self, count: int) -> bytes:
        return self.chance.randbytes(count)

    def settle(self) -> None:
        """The collector is left alone."""

    async def address(self, name: str) -> str:
        """Simulated machines have no names but addresses."""
        return name

    @property
    def cpus(self) -> int:
        return 2

    @property
    def memory_bytes(self) -> int:
        return 8 << 30

    async def runner(self, directory: Path, lease_seconds: float) -> Connection:
        """The runner of this machine; it starts one if none runs."""
        assert self.loop is not None
        adopted = self._runner is not None and not self._runner.is_dead
        await asyncio.sleep(0.005 if adopted else self._disk_chance.random() * RUNNER_START_SECONDS)
        if not adopted or self._runner is None or self._runner.is_dead:
            self._runner = SimulatedRunner(
                self.world,
                self.name,
                self.simulated_clock,
                lease_seconds,
                self._script,
                self.spans,
            )
            adopted = False
        connection = Connection(self._runner, self.loop, adopted=adopted)
        points.watch_runner(connection, self.reach)
        return connection

    async def end_runner(self, directory: Path) -> None:
        self.kill_runner()

    def removal(self, directory: Path, is_known: Callable[[str], bool]) -> _NoRemoval:
        return _NoRemoval()

    def inputs(self, directory: Path, state: Callable[[], State]) -> SimulatedInputs:
        """Nothing is written; what is depended on must have ended."""
        return SimulatedInputs(state)

    async def items(self, directory: Path, source: Task) -> list[Any]:
        """As many as the id says: every run of a seed has the same."""
        await asyncio.sleep(0.001)
        return items_of(source)

    # Life ----------------------------------------------------------------------------------------

    @property
    def is_up(self) -> bool:
        """A process of the peer runs (or hangs) here."""
        return self.loop is not None

    def start(self) -> None:
        """The peer's process starts."""
        assert self.loop is None
        self.boots += 1
        self.is_serving = False
        self.network.machine_is_up(self.name)
        loop = self.loop = PeerLoop(self.world, self.name, self.simulated_clock, self.network)
        loop.on_error = self._uncaught
        self.simulated_disk.on_operation = lambda name: self._disk_operation(loop, name)
        loop.call_soon(self._boot)

    def _boot(self) -> None:
        assert self.loop is not None
        self.keep(self.loop.start(self._main()))

    async def _main(self) -> None:
        try:
            peer = self.peer = self.make_peer(self)
            peer.log.config = msgspec.structs.replace(peer.log.config, **self._log)
            peer.log.on_fatal = self._fatal
            points.watch(peer, self.reach)
            self.on_new_peer(self, peer)
            await peer.start()
            self.is_serving = True
            assert peer.failed is not None
            await peer.failed
        except asyncio.CancelledError:
            return
        except Exception as error:
            self._fatal(error)

    def _fatal(self, error: BaseException) -> None:
        """The process ends itself."""
        if self.loop is not None:
            self.kill()
            self.on_end(self, error)
        raise Killed

    def _uncaught(self, message: str, error: BaseException | None) -> None:
        if isinstance(error, Killed | Crash):
            return
        try:
            self._fatal(error or RuntimeError(message))
        except Killed:
            return

    async def _stop(self) -> None:
        assert self.peer is not None
        await self.peer.stop()
        self.kill()

    def stop(self) -> None:
        """Ask the process to leave; it is gone some time later."""
        if self.loop is not None and self.peer is not None:
            loop = self.loop
            loop.call_soon(lambda: self.keep(loop.start(self._stop())))

    def kill(self) -> None:
        """SIGKILL: what was written stays, and so does the runner."""
        loop, self.loop = self.loop, None
        self.is_serving = False
        if loop is None:
            return
        loop.kill()
        self.network.process_died(loop)
        self._leave_disk(None)
        self._graves += [loop, self.peer]
        if self._runner is not None:
            self._runner.connection = None

    def power_off(self) -> None:
        """The power fails: what was not synced may be gone, and everything that ran is."""
        loop, self.loop = self.loop, None
        self.is_serving = False
        if loop is not None:
            loop.kill()
            self.network.machine_died(loop)
            self._graves += [loop, self.peer]
        self.kill_runner()
        self._leave_disk(self._disk_chance.getrandbits(32))

    def _leave_disk(self, power_loss_seed: int | None) -> None:
        disk = self.simulated_disk
        disk.on_operation = _dead
        self._graves.append(disk)
        self.disk = self.simulated_disk = disk.restarted(power_loss_seed)
        disk.on_error = _nothing
        self.simulated_disk.capacity = disk.capacity
        self.spare()

    def wipe(self) -> None:
        """The machine comes back with an empty disk, and with nothing running."""
        self.power_off()
        self.disk = self.simulated_disk = MemoryDisk()

    def keep(self, what: object) -> None:
        """Until the end of the simulation: collecting a dead coroutine would run its last words."""
        self._graves.append(what)

    def bury(self) -> None:
        """At the end: let go of everything that ran here."""
        self.kill()
        self.kill_runner()
        self.peer = None
        for grave in self._graves:
            if isinstance(grave, PeerLoop):
                grave.bury()
        self._graves.clear()

    def kill_runner(self) -> None:
        """The runner dies, and all it runs with it."""
        runner, self._runner = self._runner, None
        if runner is not None and not runner.is_dead:
            connection = runner.connection
            runner.die()
            if connection is not None:
                connection.lost()

    def pause(self, seconds: float) -> None:
        """SIGSTOP, and SIGCONT later; the runner goes on."""
        if self.loop is not None:
            self.loop.pause(seconds)

    def running(self) -> list[Span]:
        """The attempts that run here now."""
        return [] if self._runner is None else self._runner.open_spans()

    # Disk ----------------------------------------------------------------------------------------

    def _disk_operation(self, loop: PeerLoop, name: str) -> None:
        if loop.is_dead:
            raise Killed
        world = self.world
        if name in ("datasync", "sync_directory"):
            world.lag += self._disk_chance.uniform(*self.sync_seconds)
        if self.kill_in is not None:
            self.kill_in -= 1
            if self.kill_in < 0:
                self.on_doom("")
                self._die()

    # Aimed faults --------------------------------------------------------------------------------

    def reach(self, point: str) -> None:
        """The peer's process is at a place in its code (`points`); perhaps it comes no further."""
        if point == self.doomed_at and self.loop is not None:
            self.doomed_after -= 1
            if self.doomed_after < 0:
                self.on_doom(point)
                self._die()

    def spare(self) -> None:
        """Nothing more is aimed at this machine."""
        self.kill_in = None
        self.doomed_at = ""

    def _die(self) -> None:
        if self.power_off_then:
            self.power_off()
        else:
            self.kill()
        raise Killed


def _nothing() -> None:
    pass


def _dead(name: str) -> None:
    raise Killed


def standard_script(chance: random.Random) -> Script:
    """Attempts of 50 ms to 2 s, now and then of up to 15 s; some fail, some ignore SIGTERM.

    What is called ``uneven`` takes long far more often.
    """

    def script(spec: Any) -> Run:
        seconds = 0.05 + 2 * chance.random() ** 3
        if not chance.randrange(4 if "uneven" in spec.spec.command else 25):
            seconds = 3 + 12 * chance.random()
        return Run(seconds, int(not chance.randrange(10)), ignores_sigterm=not chance.randrange(20))

    return script
