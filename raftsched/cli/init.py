"""``raftsched init``: a directory for each peer of a new cluster, to be copied to its machine.

::

    OUT/ca/   ca.crt ca.key README            stays here, or better: goes to a safe place
    OUT/n1/   cluster.toml ca.crt peer.crt peer.key token README

Rule: all is decided and checked before anything is written, and nothing is overwritten.
"""

from __future__ import annotations

import datetime
import json
import secrets
from pathlib import Path
from typing import NamedTuple

import click

from raftsched.cli.cert import must_be_free, write_authority, write_new, write_peer
from raftsched.cli.exits import Exit, Failure, complain

#: Peers on one machine get ports so far apart.
PORT_STEP = 10

_CA_README = """\
The authority of cluster {cluster}.

ca.key makes peers: whoever has it can join the cluster and run commands on its machines.
Keep this directory apart from the peers, offline if you can. It is needed again only to add a
peer or to renew a certificate (before {until}):

  raftsched cert create --ca ca --peer n1 --out new    # then move new/peer.* over the old ones
"""
_README = """\
Peer {peer} of cluster {cluster}. For {host} only: peer.key and token are secrets.
The first command runs here, the others on {host}.

  scp -rp {peer} {host}:
  raftsched check-config {peer}/cluster.toml --id {peer}
  raftsched serve --config {peer}/cluster.toml --id {peer} --data-dir data-{peer}

{http}
"""
_HTTP_LOCAL = (
    "HTTP is not encrypted, so the API answers on that machine only ({api});\n"
    "output of tasks is read on the machine they ran on."
)
_HTTP_OPEN = "HTTP on {api} is not encrypted: keep that network to yourself."


class Place(NamedTuple):
    """Where one peer will be."""

    peer_id: str
    host: str
    raft: str
    api: str


@click.command()
@click.option(
    "--peers",
    "hosts",
    required=True,
    metavar="HOST,...",
    help="Three or five machines as the others reach them; HOST or HOST:RAFTPORT.",
)
@click.option("--cluster", "cluster_id", default="raftsched", show_default=True, metavar="ID")
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path(),
    metavar="DIR",
    help="Where ca/, n1/, n2/, ... are made (here).",
)
@click.option("--raft-port", type=click.IntRange(1, 65_535), default=7401, show_default=True)
@click.option("--http-port", type=click.IntRange(1, 65_535), default=7400, show_default=True)
@click.option("--days", type=click.IntRange(1, 3_650), default=365, show_default=True)
@click.option(
    "--insecure-http",
    is_flag=True,
    help="Answer HTTP on HOST, unencrypted, and not on loopback alone.",
)
def init(
    hosts: str,
    cluster_id: str,
    out: Path,
    raft_port: int,
    http_port: int,
    days: int,
    insecure_http: bool,
) -> None:
    """Write a directory for each peer of a new cluster, with TLS between them."""
    places = _places(hosts, raft_port, http_port, insecure_http)
    _check(cluster_id, places, insecure_http)
    must_be_free(out / "ca", *(out / place.peer_id for place in places))
    _write(out, cluster_id, places, days, insecure_http)
    click.echo(f"{out / 'ca'}: the authority; keep ca.key apart from the peers")
    _warn(places)
    for place in places:
        click.echo(f"{out / place.peer_id}: copy it to {place.host}; README says how to start")


def _places(hosts: str, raft_port: int, http_port: int, insecure_http: bool) -> list[Place]:
    """Ports rise by PORT_STEP for each further peer of the same machine."""
    places: list[Place] = []
    on_machine: dict[str, int] = {}
    for number, word in enumerate(hosts.replace(",", " ").split()):
        host, port = _host_and_port(word)
        machine = _machine(host)
        step = PORT_STEP * on_machine.get(machine, 0)
        on_machine[machine] = on_machine.get(machine, 0) + 1
        bracketed = f"[{host}]" if ":" in host else host
        api_host = bracketed if insecure_http else "127.0.0.1"
        raft = f"{bracketed}:{port or raft_port + step}"
        places.append(Place(f"n{number + 1}", host, raft, f"{api_host}:{http_port + step}"))
    return places


def _machine(host: str) -> str:
    from raftsched.peer.config import is_loopback

    return "loopback" if is_loopback(host) else host.lower()


def _warn(places: list[Place]) -> None:
    """Say what this cluster will not survive."""
    count = len(places)
    if count % 2 == 0:
        survives = (count - 1) // 2
        losses = f"only {survives} of them" if survives else "none of them"
        complain(f"{count} peers survive the failure of {losses}; take {count + 1}")
    on_machine: dict[str, list[str]] = {}
    for place in places:
        on_machine.setdefault(_machine(place.host), []).append(place.peer_id)
    for machine, peer_ids in on_machine.items():
        if len(peer_ids) > 1:
            who = ", ".join(peer_ids)
            complain(f"{who} are on one machine ({machine}) and fail together; take one each")


def _host_and_port(word: str) -> tuple[str, int]:
    """``host``, ``host:port``, ``[::1]:port`` or ``::1``; port 0 when there is none."""
    if word.count(":") > 1 and not word.startswith("["):
        return word, 0
    host, colon, port = word.rpartition(":")
    if not colon or word.endswith("]"):
        return word.strip("[]"), 0
    if not host or not port.isascii() or not port.isdigit() or len(port) > 5:
        raise Failure(f"--peers: {word!r} is neither HOST nor HOST:RAFTPORT", Exit.USAGE)
    return host.strip("[]"), int(port)


def _check(cluster_id: str, places: list[Place], insecure_http: bool) -> None:
    """What `serve` would say against this.  Failure says it now."""
    from raftsched.peer.config import ConfigError, PeerAddress, PeerConfig, TlsFiles, check

    if not places:
        raise Failure("--peers names none", Exit.USAGE)
    tls = TlsFiles(ca=Path("ca.crt"), cert=Path("peer.crt"), key=Path("peer.key"))
    config = PeerConfig(
        cluster_id=cluster_id,
        peer_id=places[0].peer_id,
        peers={place.peer_id: PeerAddress(place.raft, place.api) for place in places},
        data_dir=Path(),
        tls=tls,
        insecure_http=insecure_http,
    )
    try:
        check(config)
    except ConfigError as error:
        raise Failure(str(error), Exit.USAGE) from None


def _write(out: Path, cluster_id: str, places: list[Place], days: int, insecure_http: bool) -> None:
    from raftsched.peer.certificates import CertificateError, make_authority, make_peer

    now = datetime.datetime.now(datetime.UTC)
    authority = make_authority(cluster_id, now)
    try:
        pairs = [
            make_peer(authority, place.peer_id, now, hosts=(place.host,), days=days)
            for place in places
        ]
    except CertificateError as error:
        raise Failure(f"--peers: {error}", Exit.USAGE) from None
    until = (now + datetime.timedelta(days=days)).date().isoformat()
    write_authority(out / "ca", authority)
    ca_words = _CA_README.format(cluster=cluster_id, until=until)
    write_new(out / "ca" / "README", ca_words.encode(), 0o644)
    token = secrets.token_urlsafe(32).encode() + b"\n"
    text = cluster_toml(cluster_id, places, insecure_http).encode()
    http = _HTTP_OPEN if insecure_http else _HTTP_LOCAL
    for place, pair in zip(places, pairs, strict=True):
        directory = out / place.peer_id
        write_peer(directory, pair, authority.cert)
        write_new(directory / "token", token, 0o600)
        write_new(directory / "cluster.toml", text, 0o644)
        words = _README.format(
            peer=place.peer_id,
            cluster=cluster_id,
            host=place.host,
            http=http.format(api=place.api),
        )
        write_new(directory / "README", words.encode(), 0o644)


def cluster_toml(cluster_id: str, places: list[Place], insecure_http: bool) -> str:
    """The configuration, the same for every peer: files are named relative to it."""
    lines = [
        "[cluster]",
        f"id = {json.dumps(cluster_id, ensure_ascii=False)}",
        'token_file = "token"',
    ]
    if insecure_http:
        lines.append("insecure_http = true      # HTTP is not encrypted; logged at every start")
    lines += ["", "[tls]", 'ca = "ca.crt"', 'cert = "peer.crt"', 'key = "peer.key"']
    for place in places:
        lines += ["", f"[peers.{place.peer_id}]", f'raft = "{place.raft}"', f'api = "{place.api}"']
    return "\n".join(lines) + "\n"
