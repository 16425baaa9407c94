"""A network namespace for each machine and one for the clients, joined by a `switch` of our own.

The whole harness runs in a namespace of its own (`enter`), so that nothing of it can stay behind:
namespaces and devices end with the last process in them.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from jepsen_like.net.base import CLIENTS, Net
from jepsen_like.net.tun import make_device
from jepsen_like.orders import Program

_INSIDE = "JEPSEN_LIKE_NETNS"
#: The directory of a switch's socket, with the pid of whoever made it.
_DIRECTORY = "jepsen-like-net-"
_RAFT, _API = 7401, 7400


def why_not() -> str:
    """What this machine lacks for it, in words; empty: nothing."""
    for command, package in (("unshare", "util-linux"), ("ip", "iproute2")):
        if shutil.which(command) is None:
            return f"{command} is missing: apt-get install {package}"
    if not Path("/dev/net/tun").exists():
        return "/dev/net/tun is missing: modprobe tun, or give the container that device"
    tried = subprocess.run(
        [*_unshare(), sys.executable, "-c", "import os; os.open('/dev/net/tun', os.O_RDWR)"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if tried.returncode:
        return f"no network namespace can be made: {tried.stderr.strip().splitlines()[-1]}"
    return ""


def _unshare() -> list[str]:
    """As root a namespace is there for the asking, else within a user namespace."""
    user = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    return ["unshare", *user, "--net", "--mount"]


def enter(*more: str) -> None:
    """Go on in a namespace of its own: the same program from its beginning, with ``more`` words.

    Returns there.
    """
    if os.environ.get(_INSIDE) != "1":
        os.environ[_INSIDE] = "1"
        command = _unshare()
        os.execvp(command[0], [*command, sys.executable, *sys.orig_argv[1:], *more])


def sweep() -> None:
    """Remove the directories of those that were killed before they could."""
    for path in Path(tempfile.gettempdir()).glob(f"{_DIRECTORY}*-*"):
        pid = path.name.removeprefix(_DIRECTORY).partition("-")[0]
        if pid.isdecimal() and not Path(f"/proc/{pid}").exists():
            shutil.rmtree(path, ignore_errors=True)


class NetnsNet(Net):
    """Its machines are at 10.77.0.1 and so on, clients at 10.77.0.250."""

    name = "netns"
    breaks = frozenset({"drop", "reject", "loss", "delay_ms", "duplicate", "reorder"})
    is_own_network = True

    def __init__(self, peers: Iterable[str]) -> None:
        self.peers = list(peers)
        self._hosts = {CLIENTS: "10.77.0.250"}
        self._switch: Program | None = None
        self._directory = Path(tempfile.mkdtemp(prefix=f"{_DIRECTORY}{os.getpid()}-"))

    async def open(self) -> None:
        sweep()
        socket_path = str(self._directory / "switch")
        self._switch = await Program.of_module("the switch", "net.switch", socket_path)
        await self._switch.answer()
        make_device(CLIENTS, self._hosts[CLIENTS], socket_path)

    async def close(self) -> None:
        if self._switch is not None:
            await self._switch.close()
        shutil.rmtree(self._directory, ignore_errors=True)

    def host(self, peer: str) -> str:
        """Its address; one it has not had is given to it."""
        if peer not in self._hosts:
            self._hosts[peer] = f"10.77.0.{len(self._hosts)}"
        return self._hosts[peer]

    def raft(self, peer: str, *, seen_by: str = "") -> str:
        return f"{self.host(peer)}:{_RAFT}"

    def api(self, peer: str) -> str:
        return f"{self.host(peer)}:{_API}"

    def move(self, peer: str) -> None:
        self._hosts[peer] = f"10.77.1.{len(self._hosts)}"

    async def attach(self, peer: str, machine: Program) -> None:
        path = str(self._directory / "switch")
        await machine.order("device", name=peer, address=self.host(peer), socket=path)

    async def shape(self, source: str, to: str, **rule: Any) -> None:
        assert self._switch is not None
        await self._switch.order("rule", **{"from": source, "to": to, "rule": rule})

    async def heal(self) -> None:
        assert self._switch is not None
        await self._switch.order("clear")

    async def counts(self) -> dict[str, dict[str, int]]:
        assert self._switch is not None
        found: dict[str, dict[str, int]] = await self._switch.order("counts")
        return found
