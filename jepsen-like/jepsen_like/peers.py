"""The system under test: one peer on each machine, and the files that they share.

The name of Jepsen's ``db``.  Nothing is asked of a peer here but that it starts, is ready and ends.
"""

from __future__ import annotations

import asyncio
import os
import shlex
import signal
import time
from pathlib import Path

from jepsen_like.api import Api, Unreachable
from jepsen_like.clocks import Clocks
from jepsen_like.net.base import Net
from jepsen_like.orders import OrderFailed, Program
from jepsen_like.zones import Zone

TOKEN = "jepsen-like-token-0123456789"
#: A whole cluster has a leader, and a peer is ready, within so long, on a busy machine too.
READY_SECONDS = 60.0
STOP_SECONDS = 30.0


class NotReady(Exception):
    """The cluster does not come up by itself, or not again; says which peer said what."""


class Peers:
    """All of them, the configuration and the machines."""

    def __init__(
        self,
        directory: Path,
        count: int,
        net: Net,
        *,
        program: str,
        lease_seconds: float = 5.0,
        has_disks: bool = False,
        environment: dict[str, str] | None = None,
        clocks: Clocks | None = None,
        zone: Zone | None = None,
    ) -> None:
        """``program``: the command line before ``serve``; ``environment``: more of all peers."""
        self.directory = directory
        self.net = net
        self.ids = [f"n{number + 1}" for number in range(count)]
        self.token = TOKEN
        self.machines: dict[str, Program] = {}
        #: Whom the harness wants to run just now.
        self.running: set[str] = set()
        #: Who is not to be started again.
        self.dead: list[str] = []
        self._environment = environment or {}
        #: If the wall clock of each machine can be set.
        self.clocks = clocks
        #: Whose clocks change all the while, if the peers know it.
        self.zone = zone
        self._words = shlex.split(program)
        self._lease_seconds = lease_seconds
        #: Every machine's data is on a file system whose power can go.
        self.has_disks = has_disks
        #: Peers that joined later, and those of them that are not members yet.
        self._joined: set[str] = set()
        self._joining: set[str] = set()
        self._names = count
        self.logs = directory / "logs"
        self.logs.mkdir(parents=True, exist_ok=True)

    # Where things are ---------------------------------------------------------------------------

    def home(self, peer: str) -> Path:
        """What is a peer's own; attempts see in it on which machine they are."""
        return self.directory / "peers" / peer

    def data(self, peer: str) -> Path:
        """Its data directory."""
        return (
            self.home(peer) / "data" / "raftsched" if self.has_disks else self.home(peer) / "data"
        )

    def seen_data(self, peer: str) -> Path:
        """The data directory as this process sees it; a disk of its own is mounted only there."""
        data = self.data(peer)
        if not self.has_disks:
            return data
        return Path(f"/proc/{self.machines[peer].pid}/root") / data.relative_to("/")

    def log(self, peer: str) -> Path:
        """What it said on its standard streams, all starts of it."""
        return self.logs / f"{peer}.log"

    def api(self, peer: str) -> str:
        """``host:port`` of its API."""
        return self.net.api(peer)

    def ask(self, peer: str) -> Api:
        """A client of its API."""
        return Api(self.api(peer), self.token)

    # All of it ------------------------------------------------------------------------------------

    async def open(self) -> None:
        """Machines, files and peers; returns when all are ready.  Raises NotReady."""
        for peer in self.ids:
            await self.boot(peer)
        for peer in self.ids:
            await self.start(peer)
        await self.all_ready()

    async def close(self) -> None:
        """Nothing of it runs any more."""
        await asyncio.gather(*[machine.close() for machine in self.machines.values()])
        self.machines.clear()
        self.running.clear()

    async def boot(self, peer: str) -> None:
        """A machine for a peer, with its network and its disk."""
        self.home(peer).mkdir(parents=True, exist_ok=True)
        prefix = _namespaces(net=self.net.is_own_network, disk=self.has_disks)
        machine = await Program.of_module(f"machine {peer}", "machine", prefix=prefix)
        self.machines[peer] = machine
        await self.net.attach(peer, machine)
        if self.has_disks:
            mount = self.home(peer) / "data"
            mount.mkdir(exist_ok=True)
            answer = await machine.order("disk", path=str(mount))
            if answer["answer"] != "ok":
                raise NotReady(f"{peer} cannot have a disk of its own: {answer['answer']}")

    # One peer -------------------------------------------------------------------------------------

    def write_config(self, peer: str) -> Path:
        """Its file, with the addresses as it is to see them now."""
        home = self.home(peer)
        lines = ["[cluster]", 'id = "jepsen-like"', 'token_file = "token"', "insecure = true", ""]
        for other in self.ids:
            if other in self._joining and other != peer:
                continue
            lines += [f"[peers.{other}]", f'raft = "{self.net.raft(other, seen_by=peer)}"']
            lines += [f'api = "{self.net.api(other)}"', ""]
        lines += ["[node]", "slots = 8", f"lease_seconds = {self._lease_seconds}"]
        path = home / "cluster.toml"
        path.write_text("\n".join(lines), encoding="utf-8")
        token = home / "token"
        token.touch(mode=0o600)
        token.write_text(TOKEN, encoding="ascii")
        return path

    def command(self, peer: str) -> list[str]:
        """Its command line."""
        words = [*self._words, "serve", "--config", str(self.write_config(peer)), "--id", peer]
        return [*words, *(["--join"] if peer in self._joined else []),
                "--data-dir", str(self.data(peer))]  # fmt: skip

    async def start(self, peer: str) -> None:
        """Start a peer that does not run."""
        await self.machines[peer].order(
            "start", command=self.command(peer), log=str(self.log(peer)),
            env=self._variables(peer),
        )  # fmt: skip
        self.running.add(peer)

    def _variables(self, peer: str) -> dict[str, str]:
        clock = self.clocks.environment(self.home(peer)) if self.clocks else {}
        return {**self._environment, **clock}

    async def join(self) -> dict[str, str]:
        """A machine with a peer that is not of the cluster yet; what the cluster is to be told.

        Its id is one that none has had.
        """
        self._names += 1
        peer = f"n{self._names}"
        self._joined.add(peer)
        self._joining.add(peer)
        await self.boot(peer)
        self.ids.append(peer)
        await self.start(peer)
        return {"id": peer, "raft": self.net.raft(peer), "api": self.net.api(peer)}

    def is_member(self, peer: str) -> None:
        """A peer that joined belongs to the cluster: others may name it in their files."""
        self._joining.discard(peer)

    async def leave(self, peer: str) -> None:
        """Its machine goes; the cluster was told before."""
        self.running.discard(peer)
        self.ids.remove(peer)
        self._joined.discard(peer)
        self._joining.discard(peer)
        await self.machines.pop(peer).close()

    async def export(self, peer: str, file: Path) -> tuple[int, str]:
        """Have the program print a stopped peer's log into a file; exit code and complaints."""
        command = [*self._words, "journal", "export", str(self.data(peer))]
        done = await self.machines[peer].order("run", command=command, file=str(file))
        return int(done["exit"]), str(done["output"])

    async def signal(self, peer: str, number: signal.Signals, who: str = "peer") -> list[int]:
        """Send a signal to the ``peer``, ``others`` of its machine, or ``all``; the pids."""
        answer = await self.machines[peer].order("signal", signal=number, who=who)
        pids: list[int] = answer["pids"]
        return pids

    async def kill(self, peer: str) -> None:
        """SIGKILL the peer; its runner and attempts go on, as they do when a program dies."""
        self.running.discard(peer)
        await self.signal(peer, signal.SIGKILL)
        await self.ended(peer)

    async def crash(self, peer: str, *, boots: bool = False) -> None:
        """The machine goes down with all that runs on it; ``boots``: it will say that it did."""
        self.running.discard(peer)
        await self.machines[peer].order("crash", boots=boots)

    async def stop(self, peer: str) -> int | None:
        """SIGTERM; the exit code, None: it had to be killed."""
        self.running.discard(peer)
        await self.signal(peer, signal.SIGTERM)
        try:
            return await self.ended(peer)
        except NotReady:
            await self.kill(peer)
            return None

    async def exit_of(self, peer: str) -> int | None:
        """The exit code of a peer that has ended; None: it runs."""
        code: int | None = (await self.machines[peer].order("look"))["exit"]
        return code

    async def ended(self, peer: str) -> int:
        """Wait for its end; the exit code.  Raises NotReady."""
        deadline = time.monotonic() + STOP_SECONDS
        while (code := await self.exit_of(peer)) is None:
            if time.monotonic() > deadline:
                raise NotReady(f"{peer} has not ended within {STOP_SECONDS} s")
            await asyncio.sleep(0.01)
        return code

    async def is_stopped(self, peer: str, who: str) -> bool:
        """Does the ``peer``, or ``all`` of its machine, stand still?"""
        look = await self.machines[peer].order("look")
        states = [other["state"] for other in look["others"]] if who == "all" else []
        return all(state == "T" for state in [*states, look["state"]])

    # Readiness ------------------------------------------------------------------------------------

    async def all_ready(self, seconds: float = READY_SECONDS) -> None:
        """Every peer that runs takes part.  Raises NotReady."""
        await asyncio.gather(*[self.ready(peer, seconds) for peer in sorted(self.running)])

    async def ready(self, peer: str, seconds: float = READY_SECONDS) -> None:
        """It takes part.  Raises NotReady, with what it said last."""
        deadline = time.monotonic() + seconds
        async with self.ask(peer) as api:
            while True:
                try:
                    if (await api.ask("GET", "/health/ready", seconds=2.0)).status == 200:
                        return
                except Unreachable:
                    pass
                try:
                    code = await self.exit_of(peer)
                except OrderFailed as error:
                    raise NotReady(str(error)) from None
                if code is not None:
                    raise NotReady(f"{peer} ended with exit code {code}: {self._last_words(peer)}")
                if time.monotonic() > deadline:
                    raise NotReady(
                        f"{peer} is not ready after {seconds} s: {self._last_words(peer)}"
                    )
                await asyncio.sleep(0.05)

    async def leader(self, seconds: float = READY_SECONDS) -> str:
        """Who leads, and answers as such.  Raises NotReady."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            for peer in sorted(self.running):
                if await self._leads(peer):
                    return peer
            await asyncio.sleep(0.05)
        raise NotReady(f"nobody leads after {seconds} s")

    async def _leads(self, peer: str) -> bool:
        try:
            async with self.ask(peer) as api:
                return (await api.ask("GET", "/health/leader", seconds=1.0)).status == 200
        except Unreachable:
            return False

    def _last_words(self, peer: str) -> str:
        log = self.log(peer)
        lines = log.read_text(errors="replace").strip().splitlines() if log.exists() else []
        return lines[-1] if lines else "it said nothing"


def _namespaces(*, net: bool, disk: bool) -> tuple[str, ...]:
    """Words that give a machine namespaces of its own."""
    kinds = [*(["--net"] if net else []), *(["--mount"] if net or disk else [])]
    if not kinds:
        return ()
    user = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    return ("unshare", *user, *kinds)
