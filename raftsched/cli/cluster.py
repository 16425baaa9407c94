"""``raftsched cluster`` and ``raftsched leader``: who leads, who is there, hand-over."""

from __future__ import annotations

import getpass
from typing import Any

import click

from raftsched.cli.exits import Exit, Failure, complain
from raftsched.cli.options import Session, with_session
from raftsched.cli.output import clean, field, hint, show_one, show_rows

PEER_COLUMNS = (
    field("id"),
    field("role"),
    field("api"),
    field("raft"),
    field("connected"),
    field("status"),
    field("program"),
    field("version_max"),
    field("tzdata"),
)


CHECK_COLUMNS = (field("id"), field("verdict"), field("digest"))


@click.group()
def cluster() -> None:
    """The cluster as a whole."""


@cluster.command("status")
@with_session()
def status(session: Session) -> None:
    """Show leader, term and peers; answers without a leader too (exit code 6 then)."""
    with session.client() as client:
        document = client.cluster()
    if session.form in ("table", "wide"):
        plain = {k: v for k, v in document.items() if not isinstance(v, list | dict)}
        show_one(plain, session.form)
        peers = document.get("peers")
        if isinstance(peers, dict):
            peers = [{"id": k, **(v if isinstance(v, dict) else {})} for k, v in peers.items()]
        if isinstance(peers, list) and peers:
            click.echo()
            rows = [p if isinstance(p, dict) else {"id": p} for p in peers]
            used = [c for c in PEER_COLUMNS if any(c.cell(row) is not None for row in rows)]
            show_rows(rows, used, session.form)
    else:
        show_one(document, session.form, key="leader")
    if not document.get("leader"):
        hint("no leader: writes are refused until a majority of peers is connected")
        raise click.exceptions.Exit(Exit.NO_LEADER)


@cluster.command("verify")
@click.option(
    "--wait",
    "wait_seconds",
    type=click.FloatRange(0, 60),
    default=5.0,
    show_default=True,
    metavar="SECONDS",
    help="For connected peers that have not reported.",
)
@with_session()
def check(session: Session, wait_seconds: float) -> None:
    """Compare the peers' replicas; exit code 10 if they differ, 9 if some peer said nothing."""
    with session.client() as client:
        document = client.check_replicas(wait_seconds)
    if session.form in ("table", "wide"):
        show_rows(document.get("peers", []), CHECK_COLUMNS, session.form)
    else:
        show_one(document, session.form, key="verdict")
    index, verdict = document.get("index"), document.get("verdict")
    if verdict in ("diverged", "split") or document.get("suspect"):
        complain(_trouble(document))
        raise click.exceptions.Exit(Exit.CHECK_FAILED)
    silent = [p["id"] for p in document.get("peers", []) if p.get("verdict") == "missing"]
    if silent or verdict != "same":
        complain(f"not all replicas were compared at index {index}: {', '.join(silent)} silent")
        raise click.exceptions.Exit(Exit.PARTIAL)
    hint(f"all replicas are the same at index {index}")


def _trouble(document: dict[str, Any]) -> str:
    """What the differing replicas mean and what to do about it."""
    index = document.get("index")
    named = [p["id"] for p in document.get("peers", []) if p.get("verdict") == "diverged"]
    if named:
        return (
            f"{', '.join(named)} differs from the majority at index {index} and stops; its log "
            "says how to refill it"
        )
    return (
        f"no majority of the replicas agrees at index {index}: writes are refused; decide which "
        "peer is right and replace the others ('A replica differs' in the operations guide)"
    )


@cluster.command("reset-clock")
@click.option("--to", default="", metavar="TIME", help="RFC 3339; default: the peer's own clock.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@with_session()
def reset_clock(session: Session, to: str, yes: bool) -> None:
    """Set the cluster's clock, also backwards, and log on every peer who did.

    Keys and finished tasks expire by that clock: set ahead it forgets them early, set back it
    keeps for longer what was stamped before.
    """
    if not yes:
        click.confirm("Set the clock of the whole cluster?", abort=True, err=True)
    with session.client() as client:
        document = client.reset_clock(to or None, by=_user())
    show_one(document, session.form, key="now")
    hint(f"it said {clean(document.get('before'))} before")


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):  # A container may have no name for its user.
        return ""


@click.group()
def leader() -> None:
    """The leader of the cluster."""


@leader.command("show")
@with_session("id")
def show(session: Session) -> None:
    """Print who leads; exit code 6 when nobody does."""
    with session.client() as client:
        document = client.cluster()
    if not document.get("leader"):
        raise Failure("nobody leads; try again in a second", Exit.NO_LEADER)
    named = {name: document.get(name) for name in ("leader", "term")}
    show_one(named, session.form, key="leader")


@leader.command("transfer")
@click.argument("peer_id", default="")
@with_session("id")
def transfer(session: Session, peer_id: str) -> None:
    """Hand leadership to PEER_ID (default: the most advanced peer); no attempt is disturbed."""
    with session.client() as client:
        document = client.transfer_leader(peer_id or None)
    show_one(document, session.form, key="leader")
    hint(f"{clean(document.get('leader'))} leads now")
