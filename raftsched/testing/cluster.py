"""A cluster in virtual time, for tests of your own.

::

    def convert(attempt: StartAttempt) -> Run:
        return Run(seconds=30.0, exit_code=0 if attempt.number > 1 else 1)

    def test_a_conversion_survives_the_leader() -> None:
        with SimulatedCluster(peers=3, seed=7, script=convert) as cluster:
            task = cluster.submit(["convert", "a.png"], retry={"max_attempts": 3})
            cluster.run(5.0)
            cluster.kill(cluster.leader())
            task = cluster.wait(task.id)
            assert task.status == "succeeded"

The peers are the real ones, with their log on disk, elections, leases and retries; only time,
network, disks and programs are simulated.  Half a minute of theirs takes about a second, the same
seed does the same every time, and at the end of the ``with`` block the promises of
``docs/consistency.md`` are checked; a broken one is an AssertionError.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from raftsched import embed
from raftsched.core.model import Task
from raftsched.peer import peer
from raftsched.peer.config import PeerAddress, PeerConfig
from raftsched.peer.errors import NoLeader
from raftsched.raft.log import Role
from raftsched.testing.checks import Checker
from raftsched.testing.machine import Machine
from raftsched.testing.network import Network
from raftsched.testing.runner import Run, Script
from raftsched.testing.world import World, quiet_graves

T = TypeVar("T")
#: A condition is looked at this often, in simulated seconds.
STEP_SECONDS = 0.01


class _Peer(embed.Peer):
    """The whole peer but for its HTTP server."""

    async def start(self) -> None:
        await peer.Peer.start(self)

    async def stop(self) -> None:
        await peer.Peer.stop(self)


class SimulatedCluster:
    """See the module.  Not for threads, and not to be used on a running event loop."""

    def __init__(
        self,
        peers: int = 3,
        *,
        seed: int = 0,
        script: Script | None = None,
        lease_seconds: float = 15.0,
        delay: tuple[float, float] = (0.0001, 0.0008),
    ) -> None:
        """``script``: what an attempt does (default: it succeeds after 0.1 s); ``delay``: seconds
        a packet takes, at least and at most.  Peers are called n1, n2 and so on.
        """
        self._world = World(seed)
        self._network = Network(self._world, delay)
        names = [f"n{n + 1}" for n in range(peers)]
        addresses = {
            name: PeerAddress(f"127.0.0.1:{7001 + n}", f"127.0.0.1:{8001 + n}")
            for n, name in enumerate(names)
        }
        self._machines = {
            name: Machine(
                self._world,
                self._network,
                PeerConfig(
                    cluster_id="simulated",
                    peer_id=name,
                    peers=addresses,
                    data_dir=Path("/simulated") / name,
                    lease_seconds=lease_seconds,
                ),
                script or (lambda attempt: Run()),
                {"reserve_bytes": 64 * 1024},
            )
            for name in names
        }
        self._checker = Checker(self._world, self._machines)
        for machine in self._machines.values():
            machine.make_peer = lambda m: _Peer(m.config, host=m)
            machine.on_new_peer = self._checker.watch
            machine.on_end = lambda m, error: self._checker.violated(f"{m.name} ended: {error!r}")
        self._quiet = ExitStack()

    # Life ----------------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        self._quiet.enter_context(quiet_graves())
        for machine in self._machines.values():
            machine.start()
        self.run_until(lambda: self._leader() is not None and all(self._serving()), 30.0)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            if kind is None:
                self.check()
        finally:
            for machine in self._machines.values():
                machine.bury()
            self._network.end()
            self._checker.end()
            self._world.end()
            self._quiet.close()

    def check(self) -> None:
        """AssertionError with every promise that was broken so far."""
        self._checker.durable()
        self._checker.attempts()
        violations = self._checker.violations
        assert not violations, "\n".join(violations)

    # Time ----------------------------------------------------------------------------------------

    @property
    def now(self) -> float:
        """Simulated seconds since the beginning."""
        return self._world.time

    @property
    def trace(self) -> str:
        """A hash of everything that happened: the same for the same seed and test."""
        return self._world.trace

    def run(self, seconds: float) -> None:
        """Let time pass."""
        self._world.run(self._world.now + seconds)

    def run_until(self, condition: Callable[[], object], timeout_seconds: float = 60.0) -> None:
        """Let time pass until a condition holds.  Raises TimeoutError."""
        end = self._world.now + timeout_seconds
        while not condition():
            if self._world.now >= end:
                raise TimeoutError(f"not within {timeout_seconds:g} simulated seconds")
            self._world.run(self._world.now + STEP_SECONDS)

    # Work ----------------------------------------------------------------------------------------

    def submit(
        self, command: Sequence[str] | str, *, at: str | None = None, **document: Any
    ) -> Task:
        """Submit a task through a peer (``at``; default: any that runs) as `embed.Peer.submit`."""
        task: Task = self.call(lambda p: p.submit(command, **document), at)
        return task

    def wait(self, task_id: str, timeout_seconds: float = 600.0, *, at: str | None = None) -> Task:
        """Let time pass until a task is terminal.  Raises KeyError or TimeoutError."""
        return self.call(lambda p: p.wait(task_id, timeout_seconds), at, timeout_seconds + 5)

    def cancel(self, task_id: str, *, at: str | None = None) -> bool:
        """Cancel a task; False when it had already ended."""
        return self.call(lambda p: p.cancel(task_id), at)

    def task(self, task_id: str, *, at: str | None = None) -> Task | None:
        """A task as a peer has it now."""
        return self.peer(at).state.tasks.get(task_id)

    def call(
        self,
        ask: Callable[[embed.Peer], Awaitable[T]],
        at: str | None = None,
        timeout_seconds: float = 60.0,
    ) -> T:
        """Await something on a peer while time passes; what it returns or raises.

        Raises TimeoutError, also when the peer dies meanwhile.
        """
        machine = self._machine(at)
        loop = machine.loop
        assert loop is not None
        outcome: list[T | Exception] = []
        target = self.peer(machine.name)

        async def asking() -> None:
            try:
                outcome.append(await ask(target))
            except Exception as error:
                outcome.append(error)

        loop.call_soon(lambda: machine.keep(loop.start(asking())))
        self.run_until(lambda: outcome, timeout_seconds)
        if isinstance(outcome[0], Exception):
            raise outcome[0]
        return outcome[0]

    # The peers -----------------------------------------------------------------------------------

    def peer(self, name: str | None = None) -> embed.Peer:
        """The peer of a machine, for looking at (default: one that runs)."""
        found = self._machine(name).peer
        assert isinstance(found, _Peer)
        return found

    def leader(self) -> str:
        """Who leads and has the state of its term.  Raises NoLeader."""
        found = self._leader()
        if found is None:
            raise NoLeader("nobody leads just now")
        return found

    def up(self) -> list[str]:
        """The peers that run."""
        return [name for name, machine in self._machines.items() if machine.is_serving]

    def _leader(self) -> str | None:
        for name in self.up():
            status = self.peer(name).status()
            if status.role is Role.LEADER and status.is_current:
                return name
        return None

    def _serving(self) -> list[bool]:
        return [machine.is_serving for machine in self._machines.values()]

    def _machine(self, name: str | None) -> Machine:
        if name is None:
            up = self.up()
            if not up:
                raise NoLeader("no peer runs")
            name = up[0]
        return self._machines[name]

    # What may happen to them ---------------------------------------------------------------------

    def kill(self, name: str) -> None:
        """SIGKILL to the peer; its runner, and what it runs, live on."""
        self._machines[name].kill()

    def power_off(self, name: str) -> None:
        """The machine loses power: unsynced data and everything that ran is gone."""
        self._machines[name].power_off()

    def start(self, name: str) -> None:
        """Start a peer that does not run; it is there some moments later."""
        self._machines[name].start()

    def stop(self, name: str) -> None:
        """Ask a peer to leave as on SIGTERM, and wait until it has."""
        self._machines[name].stop()
        self.run_until(lambda: self._machines[name].loop is None)

    def pause(self, name: str, seconds: float) -> None:
        """SIGSTOP to the peer, and SIGCONT after some time."""
        self._machines[name].pause(seconds)

    def isolate(self, name: str) -> None:
        """Cut a machine off from all others."""
        for other in self._machines:
            if other != name:
                self._network.cut(name, other)
                self._network.cut(other, name)

    def cut(self, here: str, there: str) -> None:
        """Let nothing pass from one machine to another."""
        self._network.cut(here, there)

    def mend(self) -> None:
        """All links are whole again."""
        self._network.mend_all()

    def step_clock(self, name: str, milliseconds: int) -> None:
        """A machine's wall clock jumps."""
        self._machines[name].simulated_clock.step(milliseconds)
