"""``raftsched cluster`` and ``raftsched leader``: who leads, who is there, hand-over."""

from __future__ import annotations

import click

from raftsched.cli.exits import Exit, Failure
from raftsched.cli.options import Session, with_session
from raftsched.cli.output import clean, field, hint, show_one, show_rows

PEER_COLUMNS = (
    field("id"),
    field("role"),
    field("api"),
    field("raft"),
    field("connected"),
    field("status"),
)


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
