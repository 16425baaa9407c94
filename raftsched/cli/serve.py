"""``raftsched serve`` and ``check-config``: one peer of a cluster.

The peer itself (aiohttp, PySyncObj) is imported only when it is to run.
"""

from __future__ import annotations

import errno
import os
import signal
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec

from raftsched.cli.exits import Exit, Failure, complain
from raftsched.cli.options import apps_options, config_option, data_dir_option

if TYPE_CHECKING:
    from raftsched.peer.config import PeerConfig

#: How often a child of ``dev`` looks whether ``dev`` is still there.
PARENT_CHECK_SECONDS = 0.5
_LISTEN_ERRORS = frozenset({errno.EADDRINUSE, errno.EADDRNOTAVAIL, errno.EACCES})
LOG_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


@click.command()
@config_option("The cluster's configuration, the same for every peer.")
@click.option("--id", "peer_id", required=True, help="Which of the configured peers this one is.")
@data_dir_option("Where this peer keeps its journal, snapshots and output; made if missing.")
@click.option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"]),
    default="info",
    show_default=True,
)
@click.option(
    "--join",
    "joins",
    is_flag=True,
    help="A new peer of a cluster there is: with an empty directory, wait to be added.",
)
@apps_options
@click.option("--with-parent", type=int, default=0, hidden=True)
def serve(
    config_path: Path,
    peer_id: str,
    data_dir: Path,
    log_level: str,
    joins: bool,
    apps: tuple[str, ...],
    workers: int | None,
    with_parent: int,
) -> None:
    """Run one peer until SIGTERM or SIGINT.

    It takes part in consensus, runs tasks, and answers the HTTP API on its `api` address.
    """
    from raftsched.peer.config import ConfigError, check, load_config

    try:
        config = load_config(config_path, peer_id, data_dir)
        config = msgspec.structs.replace(
            config,
            apps=apps or config.apps,
            workers=config.workers if workers is None else workers,
            joins=joins,
        )
        check(config)
    except ConfigError as error:
        raise Failure(str(error), Exit.CHECK_FAILED) from None
    if with_parent:
        _end_with_parent(with_parent)
    raise click.exceptions.Exit(_run(config, log_level))


def _run(config: PeerConfig, log_level: str) -> int:
    import asyncio
    import gc
    import logging
    from importlib import import_module
    from importlib.util import find_spec

    from raftsched.embed import serve as run_peer

    logging.basicConfig(level=log_level.upper(), format=LOG_FORMAT)
    # Requests make no cycles to speak of: collecting a tenth as often took a fifth off the p99.
    gc.set_threshold(20_000, 20, 20)
    factory = import_module("uvloop").new_event_loop if find_spec("uvloop") else None
    with asyncio.Runner(loop_factory=factory) as runner:
        try:
            return runner.run(run_peer(config))
        except Exception as error:
            if os.environ.get("RAFTSCHED_DEBUG"):
                raise
            logging.getLogger(__name__).debug("peer ended", exc_info=True)
            reason = _refused_address(config, error) or _reason(error)
            code = Exit(getattr(_bottom(error), "exit_code", Exit.ERROR))
            raise Failure(f"peer {config.peer_id} cannot run: {reason}", code) from None


def _bottom(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _refused_address(config: PeerConfig, error: BaseException) -> str:
    """The key whose address is no use here, if that was the trouble; else nothing."""
    import socket

    from raftsched.peer.config import split_address

    bottom = _bottom(error)
    is_unknown = isinstance(bottom, socket.gaierror)
    if not isinstance(bottom, OSError) or not (is_unknown or bottom.errno in _LISTEN_ERRORS):
        return ""
    # The message of asyncio does not say for what the port was; listening again does.
    for name in ("raft", "api"):
        key, value = f"peers.{config.peer_id}.{name}", getattr(config.address, name)
        host, port = split_address(key, value)
        try:
            socket.create_server(
                (host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET
            ).close()
        except socket.gaierror as refusal:
            why = refusal.strerror or "it has no address"
            return f"{key} is {value}: {host}: {why}; correct the host, or have it resolved here"
        except OSError as refusal:
            why = os.strerror(refusal.errno) if refusal.errno else str(refusal)
            return f"{key} is {value}: {why}; stop what uses it or configure another address"
    return ""


def _reason(error: BaseException) -> str:
    """What is at the bottom of a group of errors, in words."""
    error = _bottom(error)
    return str(error) or type(error).__name__


def _end_with_parent(parent: int) -> None:
    """Stop this peer as SIGTERM would once process ``parent`` is gone (killed, too)."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(PARENT_CHECK_SECONDS)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, name="parent-watch", daemon=True).start()


@click.command("check-config")
@click.argument("file", type=click.Path(path_type=Path), required=False)
@click.option(
    "--config",
    "config_path",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="The same as FILE, as `serve` takes it (cluster.toml).",
)
@click.option("--id", "peer_id", default="", help="Check also this peer and its TLS files.")
def check_config(file: Path | None, config_path: Path | None, peer_id: str) -> None:
    """Say whether a cluster.toml can be used, and what it means; changes nothing."""
    import tomllib

    from raftsched.peer.config import ConfigError, check_tls, parse_config

    if file is not None and config_path is not None:
        raise click.UsageError("give FILE or --config FILE, not both")
    config_path = config_path or file or Path("cluster.toml")
    try:
        peers = sorted(tomllib.loads(config_path.read_text(encoding="utf-8"))["peers"])
    except (OSError, ValueError, KeyError, TypeError):
        peers = []
    try:
        config, _ = parse_config(config_path, peer_id or (peers[0] if peers else "n1"), Path())
        if peer_id:  # Otherwise this may be any machine, without them.
            check_tls(config)
    except ConfigError as error:
        raise Failure(str(error), Exit.CHECK_FAILED) from None
    count = len(peers)
    survives = (count - 1) // 2
    click.echo(
        f"{config_path}: ok, cluster {config.cluster_id}, {count} peers ({', '.join(peers)}), "
        f"goes on without any {survives} of them"
    )
    if count % 2 == 0:
        complain(f"{count} peers survive no more losses than {count - 1}; take an odd number")
