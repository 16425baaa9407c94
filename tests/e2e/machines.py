"""Peers on machines whose power can go: each has its own disk (`powerfs`) and namespace."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import pytest

from tests.e2e.cluster import until
from tests.e2e.test_tls import InitCluster
from tests.ports import free_ports

ROOT = Path(__file__).parents[2]


class SmallInitCluster(InitCluster):
    """Three peers over TLS as ``init`` made them; their journals are small (`small_journal`)."""

    def with_free_ports(self, text: str) -> str:
        # What a dead node ran is not awaited for as long as `init` has it.
        return super().with_free_ports(text) + "\n[node]\nslots = 4\nlease_seconds = 2.0\n"

    def command(self, peer: str) -> list[str]:
        command = [sys.executable, str(ROOT / "tests" / "e2e" / "small_journal.py"), "serve"]
        command += ["--config", str(self.directory / peer / "cluster.toml"), "--id", peer]
        command += ["--join"] if peer in self.joined else []
        return [*command, "--data-dir", str(self.directory / peer)]

    def join(self, peer: str) -> dict[str, str]:
        """Start a new peer in a directory with its certificate; what the cluster is to be told."""
        own = self.directory / peer
        self.api[peer], raft = free_ports(2)
        address = {"raft": f"127.0.0.1:{raft}", "api": f"127.0.0.1:{self.api[peer]}"}
        lines = [f"[peers.{peer}]", *(f'{name} = "{value}"' for name, value in address.items()), ""]
        text = (self.directory / "n1" / "cluster.toml").read_text(encoding="utf-8")
        (own / "cluster.toml").write_text("\n".join([text, *lines]), encoding="utf-8")
        shutil.copy(self.directory / "n1" / "token", own)
        self.joined[peer] = own / "cluster.toml"
        self.ids.append(peer)
        self.start(peer)
        return {"id": peer, **address}


class NoMachine(Exception):
    """Here no process may mount a file system of its own; says why."""


class Machine:
    """One disk, and all processes that see it."""

    def __init__(self, path: Path) -> None:
        path.mkdir(parents=True, exist_ok=True)
        self.path = path
        command = ["unshare", "--user", "--map-root-user", "--mount", sys.executable]
        try:
            self._disk = subprocess.Popen(
                [*command, "-m", "jepsen_like.disk.powerfs", str(path)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                cwd=ROOT / "jepsen-like",
            )
        except OSError as error:
            raise NoMachine(str(error)) from None
        if self._answer() != "ok":
            trouble = self._disk.communicate()[1].strip()
            assert "Traceback" not in trouble, f"the disk itself failed: {trouble}"
            raise NoMachine(trouble)

    @property
    def wrapper(self) -> list[str]:
        """Words that run a command on this machine."""
        return ["nsenter", "--user", "--mount", "--preserve-credentials", "-t", str(self._disk.pid)]

    def order(self, words: str) -> str:
        """Tell the disk; see `powerfs`."""
        assert self._disk.stdin is not None
        self._disk.stdin.write(words + "\n")
        self._disk.stdin.flush()
        return self._answer()

    def is_off(self) -> bool:
        """Has its power gone?"""
        return self.order("state") == "off"

    def _answer(self) -> str:
        assert self._disk.stdout is not None
        return self._disk.stdout.readline().strip()

    def cut_after(self, operations: int, seed: str = "") -> None:
        """The power goes at an operation of the disk to come; returns once it did."""
        assert self.order(f"cut-at {operations} {seed}") == "ok"
        until(lambda: self.order("state") == "off")

    def processes(self) -> list[int]:
        """Pids of what runs here, but for the disk itself."""
        namespace = f"/proc/{self._disk.pid}/ns/mnt"
        found = []
        for path in Path("/proc").iterdir():
            with contextlib.suppress(OSError):
                if path.name.isdigit() and (path / "ns/mnt").samefile(namespace):
                    found.append(int(path.name))
        return sorted(set(found) - {self._disk.pid})

    def kill_all(self) -> None:
        """Nothing survives the power: the peer, its runner, the attempts."""

        def is_empty() -> bool:
            pids = self.processes()
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            return not pids

        until(is_empty)

    def file(self, path: Path) -> Path:
        """Where the test sees a path of this machine."""
        return Path(f"/proc/{self._disk.pid}/root", path.relative_to("/"))

    def scrap(self) -> None:
        """End of the machine and all that is on it."""
        self.kill_all()
        trouble = self._disk.communicate(timeout=15)[1]
        assert self._disk.returncode == 0, f"the disk itself failed: {trouble}"


class PowerCluster(SmallInitCluster):
    """The same, each on a machine of its own."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        #: Where on its disk each peer has its data: to be made by it, as the directory above.
        self.place = Path("var", "raftsched")
        self.machines: dict[str, Machine] = {}
        with contextlib.ExitStack() as undo:
            for peer in self.ids:
                machine = self.machines[peer] = Machine(directory / peer / "disk")
                undo.callback(machine.scrap)
                self.wrappers[peer] = machine.wrapper
            undo.pop_all()

    def __exit__(self, *error: object) -> None:
        try:
            super().__exit__(*error)
        finally:
            for machine in self.machines.values():
                machine.scrap()

    def data(self, peer: str) -> Path:
        """The peer's data directory."""
        return self.machines[peer].path / self.place

    def node_directory(self, peer: str) -> Path:
        return self.data(peer) / "node"

    def command(self, peer: str) -> list[str]:
        return [*super().command(peer)[:-1], str(self.data(peer))]

    def cut_power(self, peers: Sequence[str], seed: int | None = None, after: int = 0) -> None:
        """Of these machines at once.  With ``seed`` some of what was not synced is kept.

        ``after``: not until so many operations of the first one's disk.
        """
        seeds = ["" if seed is None else f"{seed + number}" for number in range(len(peers))]
        if after:
            self.machines[peers[0]].cut_after(after, seeds[0])
        for peer, its in zip(peers, seeds, strict=True):
            assert self.machines[peer].order(f"cut {its}") == "ok"
        self.end(peers)

    def end(self, peers: Sequence[str]) -> None:
        """Nothing runs any more on these machines, whose power is gone."""
        for peer in peers:
            self.machines[peer].kill_all()
            self.processes[peer].wait()
            # What a process says while its disk is gone already is not what a start is judged by.
            log = self.directory / f"{peer}.log"
            log.rename(log.with_suffix(".dark.log"))

    def power_on(self, peers: Iterable[str]) -> None:
        """And the peers are started, as their supervisors would."""
        for peer in peers:
            answer = self.machines[peer].order("up")
            assert answer == "ok", answer
            self.start(peer)


@pytest.fixture
def power(tmp_path: Path) -> PowerCluster:
    """A cluster to be started; skips, saying why, where no such machines can be made."""
    try:
        return PowerCluster(tmp_path)
    except NoMachine as error:
        pytest.skip(f"no power can be cut here, as no file system can be mounted: {error}")
