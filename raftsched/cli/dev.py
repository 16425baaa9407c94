"""``raftsched dev``: a cluster on this machine, to try things and to kill its leader."""

from __future__ import annotations

import os
import select
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from raftsched.cli import witness
from raftsched.cli.exits import Exit, Failure, complain
from raftsched.cli.local import LocalCluster
from raftsched.cli.options import apps_options
from raftsched.cli.output import clean, progress
from raftsched.client import discovery
from raftsched.client.errors import ClientError

FAILOVER_SECONDS_MAX = 30.0
WAKE_SECONDS = 0.5
#: ``--demo`` keeps about so many tasks open.
DEMO_OPEN = 6
KEYS = "keys: k kill the leader   r restart what is down   s status   q quit"


@click.command()
@click.option("--peers", type=click.IntRange(1, 9), default=3, show_default=True)
@click.option("--base-port", type=click.IntRange(1024, 65_400), default=7400, show_default=True)
@click.option(
    "--data-dir",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Kept between starts; default ./raftsched-data.",
)
@click.option(
    "--lease-seconds",
    type=click.FloatRange(2, 3600),
    default=5.0,
    show_default=True,
    help="How long attempts may run without word from the leader.",
)
@click.option("--demo", is_flag=True, help="Keep a few short tasks coming.")
@apps_options
def dev(
    peers: int,
    base_port: int,
    data_dir: Path | None,
    lease_seconds: float,
    demo: bool,
    apps: tuple[str, ...],
    workers: int | None,
) -> None:
    """Start a whole cluster on this machine; Ctrl-C stops it.

    Other commands find it by themselves while it runs.
    """
    cluster = LocalCluster(
        data_dir or default_directory(),
        peers=peers,
        base_port=base_port,
        lease_seconds=lease_seconds,
        apps=apps,
        workers=workers or 1,
    )
    cluster.prepare()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.default_int_handler)
    contexts = (cluster.directory / discovery.CONTEXT_NAME, discovery.context_paths()[1])
    try:
        cluster.start_all()
        cluster.wait_ready(lambda ready: progress(f"{ready} of {peers} peers ready"))
        progress("")
        _leave_contexts(cluster, contexts)
        _welcome(cluster)
        Console(cluster, demo=demo).run()
    except KeyboardInterrupt:
        pass
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        for path in contexts:
            discovery.remove_context(path, os.getpid())
        progress("stopping ...")
        stubborn = cluster.stop()
        progress("")
    if stubborn:
        raise Failure(f"{', '.join(stubborn)} did not stop in time and was killed")
    click.echo(f"stopped; everything is kept in {cluster.directory}")


def default_directory() -> Path:
    """``./raftsched-data``, or this user's state folder where that cannot be written."""
    here = Path.cwd()
    if (here / discovery.DEV_DIR).is_dir() or os.access(here, os.W_OK):
        return here / discovery.DEV_DIR
    return discovery.state_home() / "dev"


def _leave_contexts(cluster: LocalCluster, paths: tuple[Path, ...]) -> None:
    for path in paths:
        # In our own directory, which is locked, a context of somebody else is only left over.
        is_ours = path.parent == cluster.directory
        other = None if is_ours else discovery.foreign_context(path, os.getpid())
        if other is not None:
            complain(
                f"commands elsewhere go to the cluster in {other.token_file.parent}, which was "
                f"here first; for this one add --addr {cluster.addresses[0]} "
                f"--token-file {cluster.token_path}"
            )
            continue
        try:
            discovery.write_context(path, cluster.addresses, cluster.token_path, os.getpid())
        except OSError as error:
            complain(f"{path}: {error.strerror}; other commands need --addr and --token-file")


def _welcome(cluster: LocalCluster) -> None:
    leader = cluster.leader()
    for peer in cluster.peers.values():
        mark = "  leader" if peer.id == leader else ""
        click.echo(f"{peer.id}  http://{peer.api}{mark}")
    click.echo(f"token in {cluster.token_path}, logs in {cluster.directory}/<id>.log")
    click.echo("try in another terminal:")
    click.echo("  raftsched run -- uname -a")
    click.echo("  raftsched submit --shell 'sleep 30; date'")
    click.echo("  raftsched ls")


class Console:
    """The loop after the start: keys on a terminal, ends of peers, reports of failovers."""

    def __init__(self, cluster: LocalCluster, *, demo: bool) -> None:
        self._cluster = cluster
        self._demo = demo
        self._done = False
        #: There is somebody who can press keys.
        self._has_keys = False
        self._reported: set[str] = set()

    def run(self) -> None:
        """Until q or a signal; Failure when no peer is left and nobody can press r."""
        if self._demo:
            threading.Thread(target=self._feed, name="demo", daemon=True).start()
        try:
            with _single_keys() as has_keys:
                self._has_keys = has_keys
                click.echo(KEYS if has_keys else "Ctrl-C stops it", err=False)
                sys.stdout.flush()
                while not self._done:
                    key = _next_key() if has_keys else _sleep()
                    self._act(key)
                    self._look_at_peers()
        finally:
            self._done = True

    def _act(self, key: str) -> None:
        if key == "k":
            self._kill_leader()
        elif key == "r":
            self._restart()
        elif key == "s":
            self._status()
        elif key in ("q", "\x04"):
            self._done = True
        elif key.strip():
            click.echo(KEYS)

    def _look_at_peers(self) -> None:
        news = False
        for peer in self._cluster.peers.values():
            if peer.is_running:
                self._reported.discard(peer.id)
            elif not peer.is_expected_down and peer.id not in self._reported:
                self._reported.add(peer.id)
                news = True
                complain(f"peer {peer.id} ended: {peer.how_it_ended()} ({peer.log_path})")
        if any(peer.is_running for peer in self._cluster.peers.values()):
            return
        if not self._has_keys:
            raise Failure("no peer is left", Exit.ERROR)
        if news:
            click.echo("no peer is left; r starts them again, q quits")

    def _kill_leader(self) -> None:
        leader = self._cluster.leader()
        if leader is None:
            click.echo("nobody leads just now")
            return
        try:
            with self._cluster.client(seconds=2.0) as client:
                before = witness.on_node(client, leader)
        except ClientError as error:
            click.echo(f"cannot list what runs on {leader}: {error}")
            before = []
        begin = time.monotonic()
        self._cluster.kill(leader)
        click.echo(f"{leader} (leader) killed; {len(before)} attempts were on it")
        new = self._cluster.wait_leader(leader, FAILOVER_SECONDS_MAX)
        if new is None:
            click.echo("nobody leads: too few peers are left; r restarts them")
            return
        click.echo(f"{new} leads after {time.monotonic() - begin:.2f} s")
        if before:
            click.echo(f"attempts on {leader} move when its lease has run out ...")
            follower = threading.Thread(
                target=self._follow, args=(leader, before), name="witness", daemon=True
            )
            follower.start()

    def _follow(self, node: str, before: list[witness.Document]) -> None:
        seconds = self._cluster.lease_seconds * 3 + 30
        with self._cluster.client(seconds=5.0) as client:
            text = witness.follow(client, before, seconds, lambda: self._done)
        if not self._done:
            click.echo(f"attempts of {node}: {text}")

    def _restart(self) -> None:
        down = [peer.id for peer in self._cluster.peers.values() if not peer.is_running]
        if not down:
            click.echo("every peer is running")
            return
        begin = time.monotonic()
        # All of them: one alone might lack a majority, and would never be ready.
        for peer_id in down:
            self._cluster.start(peer_id)
        try:
            self._cluster.wait_ready(only=down)
        except Failure as error:
            click.echo(str(error))
            return
        verb = "is" if len(down) == 1 else "are"
        click.echo(f"{', '.join(down)} {verb} back after {time.monotonic() - begin:.2f} s")

    def _status(self) -> None:
        leader = self._cluster.leader()
        for peer in self._cluster.peers.values():
            view = self._cluster.view(peer.id) if peer.is_running else None
            if view is None:
                click.echo(f"{peer.id}  {'no answer' if peer.is_running else 'down'}")
                continue
            role = "leader" if peer.id == leader else "follower"
            click.echo(f"{peer.id}  {role}  term {clean(view.get('term'))}  http://{peer.api}")

    def _feed(self) -> None:
        """Keep a few short tasks open (``--demo``)."""
        number = 0
        with self._cluster.client(seconds=10.0) as client:
            while not self._done:
                try:
                    running = list(client.list(state="queued,assigned,running", limit=DEMO_OPEN))
                    for _ in range(DEMO_OPEN - len(running)):
                        number += 1
                        line = f"echo hello {number}; sleep {number * 7 % 13 + 1}"
                        client.submit(["/bin/sh", "-c", line], name=f"demo-{number}")
                except ClientError:
                    pass
                time.sleep(1.0)


@contextmanager
def _single_keys() -> Iterator[bool]:
    """Deliver keys as they are pressed; yields False when there is no terminal."""
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        yield False
        return
    import termios
    import tty

    before = termios.tcgetattr(sys.stdin)
    try:
        tty.setcbreak(sys.stdin.fileno())
        yield True
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)


def _next_key() -> str:
    """A key, or nothing for a while."""
    if select.select([sys.stdin], [], [], WAKE_SECONDS)[0]:
        return os.read(sys.stdin.fileno(), 1).decode("latin-1") or "q"
    return ""


def _sleep() -> str:
    time.sleep(WAKE_SECONDS)
    return ""
