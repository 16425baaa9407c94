"""A whole cluster of real ``serve`` processes on this machine, for ``dev``, ``bench`` and tests.

Rules
1. The children are started with this very interpreter and end when this process ends, however.
2. They are not in the terminal's process group: Ctrl-C reaches ``dev``, which stops them in order.
3. Everything lies in one directory: cluster.toml, token (0600), DIR/<id>/ and DIR/<id>.log.
4. DIR/dev.lock is held from `prepare` to `stop`.  Who does not get it touches nothing in DIR.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

from raftsched.cli.exits import Exit, Failure
from raftsched.client.errors import ClientError
from raftsched.client.sync import Client

PEERS_MAX = 9
PORT_STEP = 10
START_SECONDS_MAX = 30.0
STOP_SECONDS_MAX = 20.0
RUNNER_STOP_SECONDS_MAX = 5.0
#: How often state that has no event is looked at.
POLL_SECONDS = 0.05
LOG_TAIL_BYTES = 4_096
LOCK_NAME = "dev.lock"
#: Locked by the peer that uses a data directory.
PEER_LOCK = Path("raft", "journal", "lock")


class LocalPeer:
    """One ``serve`` process and where it listens."""

    def __init__(self, peer_id: str, api: str, raft: str, directory: Path) -> None:
        self.id = peer_id
        self.api = api
        self.raft = raft
        self.data_dir = directory / peer_id
        self.log_path = directory / f"{peer_id}.log"
        self.process: subprocess.Popen[bytes] | None = None
        #: We ended it ourselves, so its end is no news.
        self.is_expected_down = False

    @property
    def is_running(self) -> bool:
        """Is its process there?"""
        return self.process is not None and self.process.poll() is None

    def how_it_ended(self) -> str:
        """The signal that killed it, or the last line of its log."""
        if self.process is not None and (self.process.poll() or 0) < 0:
            return f"killed by signal {-self.process.returncode}"
        return self._last_words()

    def _last_words(self) -> str:
        try:
            with self.log_path.open("rb") as file:
                size = file.seek(0, os.SEEK_END)
                file.seek(max(0, size - LOG_TAIL_BYTES))
                lines = file.read().decode("utf-8", "replace").strip().splitlines()
        except OSError:
            return ""
        return lines[-1].removeprefix("raftsched: ") if lines else ""


class LocalCluster:
    """Peers n1..nN on loopback.  `prepare`, `start`, `wait_ready`, ..., `stop`."""

    def __init__(
        self,
        directory: Path,
        *,
        peers: int,
        base_port: int,
        lease_seconds: float = 5.0,
        apps: Sequence[str] = (),
        workers: int = 1,
        slots: int = 8,
    ) -> None:
        """``apps``: applications whose functions every peer calls, in so many ``workers``.

        ``slots``: attempts that each node runs at once.
        """
        self.directory = directory.absolute()
        self.lease_seconds = lease_seconds
        self._slots = slots
        self._apps = [word for app in apps for word in ("--app", app)]
        self._apps += ["--workers", str(workers)] if apps else []
        self.peers: dict[str, LocalPeer] = {}
        for number in range(peers):
            port = base_port + number * PORT_STEP
            peer_id = f"n{number + 1}"
            self.peers[peer_id] = LocalPeer(
                peer_id, f"127.0.0.1:{port}", f"127.0.0.1:{port + 1}", self.directory
            )
        self._token = ""
        #: Descriptor of the locked file, while this process owns the directory.
        self._lock: int | None = None

    @property
    def config_path(self) -> Path:
        """The cluster.toml of all its peers."""
        return self.directory / "cluster.toml"

    @property
    def token_path(self) -> Path:
        """The token of all its peers."""
        return self.directory / "token"

    @property
    def addresses(self) -> tuple[str, ...]:
        """API addresses, n1 first."""
        return tuple(peer.api for peer in self.peers.values())

    def prepare(self) -> None:
        """Own the directory, check ports and write what the peers read; `stop` gives it back.

        Failure (exit 10) if that cannot be; then nothing was touched.
        """
        try:
            # Before the ports: "in use" says more than "port taken", and nothing is made yet.
            if self.directory.is_dir():
                self._own()
            for peer in self.peers.values():
                for address in (peer.api, peer.raft):
                    _check_port(address)
            self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._own()
            self._check_earlier()
            self.config_path.write_text(self._config_text(), encoding="utf-8")
            self._write_token()
        except OSError as error:
            self._disown()
            raise Failure(
                f"{error.filename or self.directory}: {error.strerror}; choose another --data-dir",
                Exit.CHECK_FAILED,
            ) from None
        except Failure:
            self._disown()
            raise

    def _own(self) -> None:
        """Lock the directory until `stop` or the end of this process, however that ends."""
        if self._lock is not None:
            return
        descriptor = os.open(self.directory / LOCK_NAME, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = os.read(descriptor, 20).decode("ascii", "replace").strip()
            os.close(descriptor)
            raise Failure(
                f"{self.directory} is in use by another 'raftsched dev'"
                f"{f' (process {owner})' if owner.isdigit() else ''}; use that one, stop it, or "
                "choose another --data-dir",
                Exit.CHECK_FAILED,
            ) from None
        except OSError:
            os.close(descriptor)
            raise
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        self._lock = descriptor

    def _disown(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _check_earlier(self) -> None:
        if not self.config_path.exists():
            return
        try:
            earlier = sorted(tomllib.loads(self.config_path.read_text(encoding="utf-8"))["peers"])
        except (ValueError, KeyError, TypeError):
            return
        if earlier != sorted(self.peers):
            raise Failure(
                f"{self.directory} holds a cluster of {len(earlier)} peers; start it with "
                f"--peers {len(earlier)}, choose another --data-dir, or delete it",
                Exit.CHECK_FAILED,
            )

    def _config_text(self) -> str:
        blocks = ['[cluster]\nid = "dev"\ninsecure = false\ntoken_file = "token"\n']
        for peer in self.peers.values():
            blocks.append(f'[peers.{peer.id}]\nraft = "{peer.raft}"\napi = "{peer.api}"\n')
        blocks.append(
            f'[node]\nslots = {self._slots}\ncpu = "2"\nmemory = "4GiB"\n'
            f"lease_seconds = {self.lease_seconds:g}\n"
        )
        return "\n".join(blocks)

    def _write_token(self) -> None:
        try:
            descriptor = os.open(self.token_path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            self.token_path.chmod(0o600)
            self._token = self.token_path.read_text(encoding="ascii").strip()
            return
        self._token = secrets.token_urlsafe(32)
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(self._token + "\n")

    def start(self, peer_id: str) -> None:
        """Start one peer's process; it is not ready when this returns."""
        peer = self.peers[peer_id]
        command = [sys.executable, "-m", "raftsched.cli.main", "serve"]
        command += ["--config", str(self.config_path), "--id", peer_id]
        command += ["--data-dir", str(peer.data_dir), "--with-parent", str(os.getpid())]
        command += self._apps
        environment = {k: v for k, v in os.environ.items() if not k.startswith("RAFTSCHED_TOKEN")}
        with peer.log_path.open("ab") as log:
            peer.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env=environment,
            )
        peer.is_expected_down = False

    def start_all(self) -> None:
        """Start every peer."""
        for peer_id in self.peers:
            self.start(peer_id)

    def wait_ready(
        self,
        report: Callable[[int], None] | None = None,
        seconds: float = START_SECONDS_MAX,
        only: Collection[str] = (),
    ) -> None:
        """Return when peers (``only`` these, or all) say that they are ready.

        Failure if one of them ends or takes longer than ``seconds``.
        """
        deadline = time.monotonic() + seconds
        asked = [peer for peer in self.peers.values() if not only or peer.id in only]
        waiting = asked
        while True:
            for peer in waiting:
                if not peer.is_running:
                    raise Failure(f"peer {peer.id} ended: {peer.how_it_ended()} ({peer.log_path})")
            waiting = [peer for peer in waiting if not self._is_ready(peer)]
            if report is not None:
                report(len(asked) - len(waiting))
            if not waiting:
                return
            if time.monotonic() > deadline:
                raise Failure(
                    f"{', '.join(p.id for p in waiting)} not ready after {seconds:g} s; "
                    f"see {waiting[0].log_path}"
                )
            time.sleep(POLL_SECONDS)

    def _is_ready(self, peer: LocalPeer) -> bool:
        try:
            with self.client(peer.id, seconds=1.0) as client:
                client.request("GET", "/health/ready", timeout_seconds=0.5)
        except ClientError:
            return False
        return True

    def client(self, peer_id: str | None = None, seconds: float = 30.0) -> Client:
        """A client of one peer, or of all."""
        addresses = [self.peers[peer_id].api] if peer_id else list(self.addresses)
        return Client(
            addresses, token=self._token, timeout_seconds=seconds, unreachable_seconds=0.2
        )

    def view(self, peer_id: str) -> dict[str, Any] | None:
        """What a peer knows of the cluster now; None when it does not answer."""
        try:
            with self.client(peer_id, seconds=0.5) as client:
                return client.cluster(0.5)
        except ClientError:
            return None

    def leader(self) -> str | None:
        """The peer that running peers name as leader, if that one is running, too."""
        for peer in self.peers.values():
            if not peer.is_running:
                continue
            document = self.view(peer.id)
            named = (document or {}).get("leader")
            if named in self.peers and self.peers[named].is_running:
                return str(named)
        return None

    def wait_leader(self, other_than: str | None, seconds: float) -> str | None:
        """The leader once there is one (other than one just killed); None at the deadline."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            found = self.leader()
            if found is not None and found != other_than:
                return found
            time.sleep(POLL_SECONDS)
        return None

    def kill(self, peer_id: str) -> None:
        """SIGKILL a peer: no good-bye, no flush."""
        peer = self.peers[peer_id]
        peer.is_expected_down = True
        if peer.process is not None:
            peer.process.kill()
            peer.process.wait()

    def stop(self) -> list[str]:
        """Stop all peers with SIGTERM, after a while SIGKILL; ids of those that needed it.

        Attempts still under way end with them, and run again after the next start.  Peers that
        this cluster never started are left alone, and so are their runners.
        """
        running = [peer for peer in self.peers.values() if peer.is_running]
        for peer in running:
            peer.is_expected_down = True
            assert peer.process is not None
            peer.process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + STOP_SECONDS_MAX
        stubborn = []
        for peer in running:
            assert peer.process is not None
            try:
                peer.process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                peer.process.kill()
                peer.process.wait()
                stubborn.append(peer.id)
        for peer in self.peers.values():
            if peer.process is not None and not _is_used(peer.data_dir):
                _end_runner(peer.data_dir / "node")
        self._disown()
        return stubborn


def _is_used(data_dir: Path) -> bool:
    """Does a peer that is not ours, a `serve` started by hand, own this peer's data?"""
    try:
        with (data_dir / PEER_LOCK).open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def _end_runner(directory: Path) -> None:
    """End the runner of a node whose peer has gone, with the attempts it still has.

    A peer leaves its runner to its next start; nobody knows when that will be here.
    """
    try:
        pid = int((directory / "runner.pid").read_text(encoding="ascii"))
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        if b"raftsched.executor.keeper" not in words or os.fsencode(directory) not in words:
            return  # The number went to another process.
        os.kill(pid, signal.SIGTERM)
        deadline = time.monotonic() + RUNNER_STOP_SECONDS_MAX
        while time.monotonic() < deadline and _is_alive(pid):
            time.sleep(POLL_SECONDS)
    except (OSError, ValueError):
        return  # It has ended by itself.


def _is_alive(pid: int) -> bool:
    """Is there such a process, and not only waiting to be reaped?"""
    stat = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    return stat.rpartition(")")[2].split()[0] != "Z"


def _check_port(address: str) -> None:
    host, _, port = address.rpartition(":")
    if int(port) > 65_535:
        raise Failure(f"port {port} does not exist; choose a lower --base-port", Exit.USAGE)
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, int(port)))
        except OSError as error:
            raise Failure(
                f"port {port} on {host}: {error.strerror}; stop what uses it or choose "
                "another --base-port",
                Exit.CHECK_FAILED,
            ) from None
