"""One simulated machine with a peer of the library on it, driven as its own thread drives it."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

from raftsched.peer.config import PeerConfig
from raftsched.testing.disk import MemoryDisk
from raftsched.testing.loop import Killed, PeerLoop
from raftsched.testing.machine import Machine
from raftsched.testing.network import Network
from raftsched.testing.world import World
from tests.simulation.stock.checks import StockChecker
from tests.simulation.stock.files import Child
from tests.simulation.stock.library import running
from tests.simulation.stock.peer import StockPeer
from tests.simulation.stock.sockets import Poll, Socket

#: The library's ``autoTickPeriod``.
TICK_SECONDS = 0.05
#: The kernel writes back what is dirty this often.
WRITE_BACK_SECONDS = 5.0
#: A forked child takes so long for a dump: at least, at most.
CHILD_SECONDS = (0.05, 1.0)


class StockMachine(Machine):
    """See the module.  Faults are those of `Machine`."""

    def __init__(
        self,
        world: World,
        network: Network,
        config: PeerConfig,
        conf: dict[str, Any],
        checker: StockChecker,
    ) -> None:
        """``conf``: fields of the library's ``SyncObjConf``."""
        super().__init__(world, network, config, _no_script, {})
        files = str(Path("/stock") / self.name)
        self._conf = {"journalFile": f"{files}.journal", "fullDumpFile": f"{files}.dump", **conf}
        self._checker = checker
        self.stock: StockPeer | None = None
        self.sockets: dict[int, Socket] = {}
        self._poll: Poll | None = None
        self._tick_is_due = False
        self._timer: asyncio.TimerHandle | None = None
        #: Kill after so many operations of the next compaction.
        self.kill_in_compaction: int | None = None
        #: What ended the last process: a word for the checker.
        self.end = ""
        #: Ticks that ended with an exception, which the library logs and goes on after.
        self.exceptions = 0
        self.child: Child | None = None
        #: By process id: has it ended?
        self._children: dict[int, bool] = {}
        #: They take the children with them.
        self._power_cuts = 0
        self._child_chance = world.chance(f"children/{self.name}")
        world.after(WRITE_BACK_SECONDS, self._write_back)

    # Life ----------------------------------------------------------------------------------------

    def _boot(self) -> None:
        self.sockets, self._poll, self._tick_is_due, self.child = {}, None, False, None
        self._children = {}
        peers = {name: address.raft for name, address in self.config.peers.items()}
        address = peers.pop(self.name)
        self.stock = None
        try:
            with running(self):
                self.stock = StockPeer(
                    self.name, address, list(peers.values()), self._conf, self._checker
                )
        except Exception as error:
            self._checker.cannot_start(self, error)
            super().kill()
            return
        self._checker.started(self)
        self.is_serving = True
        self.wake()

    def kill(self) -> None:
        self._ends("kill")
        super().kill()

    def power_off(self) -> None:
        self._ends("power")
        self.end = "power"
        self._power_cuts += 1
        super().power_off()

    def stop(self) -> None:
        """As from outside: the library has nothing to do before it leaves."""
        self.kill()

    def _ends(self, how: str) -> None:
        if self.loop is not None:
            self._graves.append(self.stock)
            self.end = how
            self._checker.ended(self)

    # The loop of the library's thread ------------------------------------------------------------

    def new_poll(self) -> Poll:
        """The library makes its poller."""
        self._poll = Poll(self)
        return self._poll

    def wake(self) -> None:
        """Its ``poll`` returns."""
        if not self._tick_is_due and self.loop is not None and self.stock is not None:
            self._tick_is_due = True
            self.loop.call_soon(self._tick, self.loop)

    def _tick(self, loop: PeerLoop) -> None:
        self._tick_is_due = False
        if self._timer is not None:
            self._timer.cancel()
        assert self.stock is not None and self._poll is not None
        busy = False
        try:
            with running(self):
                self.stock.doTick(0)
            busy = self._poll.was_busy
        except Exception:
            # Its thread would log this, wait and go on.
            self.exceptions += 1
        if loop.is_dead:
            raise Killed
        self._checker.ticked(self, self.stock)
        if busy:
            self.wake()
        else:
            self._timer = loop.call_later(TICK_SECONDS, self.wake)

    # Disk ----------------------------------------------------------------------------------------

    def _disk_operation(self, loop: PeerLoop, name: str) -> None:
        compacts = self.stock is not None and self.stock.compacting is not None
        if self.kill_in_compaction is not None and compacts and self.kill_in is None:
            self.kill_in, self.kill_in_compaction = self.kill_in_compaction, None
            self.power_off_then = False
        super()._disk_operation(loop, name)

    def _write_back(self) -> None:
        self.world.after(WRITE_BACK_SECONDS, self._write_back)
        assert isinstance(self.disk, MemoryDisk)
        for file in self.disk.names.values():
            file.sync()
        self.disk.durable_names = dict(self.disk.names)
        self.disk.renames.clear()

    # The forked child ----------------------------------------------------------------------------

    def begin_child(self) -> int:
        """Fork; what follows is run as the child's."""
        self.child = Child()
        return 0

    def launch_child(self) -> int:
        """Back in the parent: the child, which outlives its parent, has its work before it."""
        assert self.child is not None
        child, self.child = self.child, None
        pid = self.world.serial() + 1000
        self._children[pid] = False
        children = self._children
        seconds = self._child_chance.uniform(*CHILD_SECONDS)
        self.world.after(seconds, self._child_writes, child, children, pid, self._power_cuts)
        return pid

    def _child_writes(
        self, child: Child, children: dict[int, bool], pid: int, power_cuts: int
    ) -> None:
        if power_cuts != self._power_cuts:
            return
        disk = self.disk
        assert isinstance(disk, MemoryDisk)
        watch, disk.on_operation = disk.on_operation, None
        for name, data in child.files.items():
            fd = disk.open(Path(name), os.O_CREAT | os.O_TRUNC)
            disk.write(fd, bytes(data), 0)
            disk.close(fd)
        source, target = (Path(name) for name in child.rename)
        disk.rename(source, target)
        disk.on_operation = watch
        children[pid] = True

    def child_status(self, pid: int) -> tuple[int, int]:
        """waitpid(pid, WNOHANG)."""
        return (pid, 0) if self._children[pid] else (0, 0)


def _no_script(_: Any) -> Any:
    raise AssertionError("nothing is run here")
