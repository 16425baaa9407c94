"""``raftsched cert``: the cluster's authority, its peers' certificates, and what one says.

Rule: nothing is ever overwritten; keys are made readable by their owner only.
"""

from __future__ import annotations

import datetime
import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from raftsched.cli.exits import Exit, Failure

if TYPE_CHECKING:
    from raftsched.peer.certificates import Pair

CA_CERT, CA_KEY = "ca.crt", "ca.key"
PEER_CERT, PEER_KEY = "peer.crt", "peer.key"

_DAYS = click.IntRange(1, 36_500)
_DIRECTORY = click.Path(path_type=Path, file_okay=False)


def write_new(path: Path, data: bytes, mode: int) -> None:
    """Make a file; Failure when there is one."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    except FileExistsError:
        raise Failure(
            f"{path} exists; nothing is overwritten, choose another --out", Exit.CONFLICT
        ) from None
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)


def must_be_free(*paths: Path) -> None:
    """Failure before anything is written, when any of these exists."""
    for path in paths:
        if path.exists():
            raise Failure(
                f"{path} exists; nothing is overwritten, choose another --out", Exit.CONFLICT
            )


def write_authority(directory: Path, pair: Pair) -> None:
    """``ca.crt`` and ``ca.key``."""
    must_be_free(directory / CA_CERT, directory / CA_KEY)
    write_new(directory / CA_KEY, pair.key, 0o600)
    write_new(directory / CA_CERT, pair.cert, 0o644)


def write_peer(directory: Path, pair: Pair, ca_cert: bytes) -> None:
    """``peer.crt``, ``peer.key`` and ``ca.crt``."""
    must_be_free(*(directory / name for name in (PEER_CERT, PEER_KEY, CA_CERT)))
    write_new(directory / PEER_KEY, pair.key, 0o600)
    write_new(directory / PEER_CERT, pair.cert, 0o644)
    write_new(directory / CA_CERT, ca_cert, 0o644)


@click.group()
def cert() -> None:
    """Certificates for TLS between peers: ca, create, info."""


@cert.command()
@click.option("--cluster", "cluster_id", required=True, metavar="ID", help="As in cluster.toml.")
@click.option("--days", type=_DAYS, default=3650, show_default=True, help="How long it is valid.")
@click.option("--out", type=_DIRECTORY, required=True, metavar="DIR", help="Made if missing.")
def ca(cluster_id: str, days: int, out: Path) -> None:
    """Make a cluster's authority: ca.crt for every peer, ca.key to be kept apart.

    Whoever has ca.key can make a peer that the others believe.
    """
    from raftsched.peer.certificates import make_authority
    from raftsched.peer.config import ConfigError, check_cluster_id

    try:
        check_cluster_id(cluster_id)
    except ConfigError as error:
        raise Failure(str(error), Exit.USAGE) from None
    write_authority(out, make_authority(cluster_id, _now(), days))
    click.echo(f"{out / CA_CERT}: for every peer")
    click.echo(f"{out / CA_KEY}: keep it apart from the peers; it makes new ones")


@cert.command()
@click.option(
    "--ca", "authority", type=_DIRECTORY, required=True, metavar="DIR", help="Of 'cert ca'."
)
@click.option("--peer", "peer_id", required=True, metavar="ID", help="As in [peers.ID].")
@click.option(
    "--host", "hosts", multiple=True, help="Also name this host; peers do not look at it."
)
@click.option("--days", type=_DAYS, default=365, show_default=True, help="How long it is valid.")
@click.option("--out", type=_DIRECTORY, required=True, metavar="DIR", help="Made if missing.")
def create(authority: Path, peer_id: str, hosts: tuple[str, ...], days: int, out: Path) -> None:
    """Make a peer's certificate: peer.crt, peer.key and a copy of ca.crt.

    To renew one, make it into an empty directory and move both files over the old ones; the
    running peer takes them for its next connections.
    """
    from raftsched.peer.certificates import CertificateError, Pair, make_peer
    from raftsched.peer.config import ConfigError, check_peer_id

    pair = Pair((authority / CA_CERT).read_bytes(), (authority / CA_KEY).read_bytes())
    try:
        check_peer_id(peer_id)
        made = make_peer(pair, peer_id, _now(), hosts=hosts, days=days)
    except ConfigError as error:
        raise Failure(str(error), Exit.USAGE) from None
    except CertificateError as error:
        raise Failure(f"{authority}: {error}", Exit.CHECK_FAILED) from None
    write_peer(out, made, pair.cert)
    click.echo(f"{out}: {PEER_CERT}, {PEER_KEY} and {CA_CERT} of {peer_id}")


@cert.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
def info(file: Path) -> None:
    """Say whose certificate it is; exit code 10 when it is not valid now."""
    from raftsched.peer.certificates import CertificateError, describe

    try:
        about = describe(file.read_bytes())
    except CertificateError as error:
        raise Failure(f"{file}: {error}", Exit.CHECK_FAILED) from None
    now = _now()
    left = (about.valid_until - now).days
    state = f"{left} days left"
    if now > about.valid_until:
        state = "EXPIRED"
    elif now < about.valid_from:
        state = "NOT YET VALID"
    rows = {
        "subject": about.subject,
        "issuer": about.issuer,
        "cluster": about.cluster_id or "-",
        "peer": about.peer_id or ("(authority)" if about.is_authority else "-"),
        "hosts": ", ".join(about.hosts) or "-",
        "valid from": about.valid_from.isoformat(),
        "valid until": f"{about.valid_until.isoformat()} ({state})",
        "sha256": about.fingerprint,
    }
    for name, value in rows.items():
        click.echo(f"{name:<12} {value}")
    if not about.valid_from <= now <= about.valid_until:
        raise click.exceptions.Exit(Exit.CHECK_FAILED)


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)
