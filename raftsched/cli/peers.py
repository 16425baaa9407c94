"""``raftsched peers``: who is in the group, and how that changes."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import click

from raftsched.cli.exits import Exit, Failure
from raftsched.cli.options import Session, with_session
from raftsched.cli.output import clean, field, hint, progress, show_rows

COLUMNS = (
    field("id"),
    field("role"),
    field("is_leader", "LEADS"),
    field("connected"),
    field("match_index", "MATCH"),
    field("lag_entries", "LAG"),
    field("raft"),
    field("api"),
    field("replaces", wide=True),
    field("heard_ms", wide=True),
)
#: One request waits so long; the next one goes on waiting, and shows where it is.
WAIT_SECONDS = 2.0

_wait = click.option(
    "--timeout",
    "timeout_seconds",
    type=click.FloatRange(0, 86_400),
    default=600.0,
    show_default=True,
    metavar="SECONDS",
    help="How long to wait; it goes on without anybody waiting.",
)


@click.group()
def peers() -> None:
    """The group of peers: who votes, who catches up, how far each is."""


@peers.command("ls")
@with_session()
def ls(session: Session) -> None:
    """List the members as the leader knows them."""
    with session.client() as client:
        document = client.peers()
    show_rows(document.get("items", []), COLUMNS, session.form)
    if document.get("waits_for"):
        hint(f"a change is under way: {clean(document['waits_for'])}")


@peers.command("add")
@click.argument("peer_id")
@click.option("--raft", required=True, metavar="HOST:PORT", help="Where it listens for peers.")
@click.option("--api", required=True, metavar="HOST:PORT", help="Where it answers users.")
@_wait
@with_session()
def add(session: Session, peer_id: str, raft: str, api: str, timeout_seconds: float) -> None:
    """Add PEER_ID: it receives the log, and votes once it has caught up.

    Start it with 'raftsched serve --join' and an empty directory, before or after this.
    """
    with session.client() as client:
        _until_done(
            session,
            lambda: client.add_peer(peer_id, raft, api, wait_seconds=WAIT_SECONDS),
            timeout_seconds,
        )


@peers.command("replace")
@click.argument("old")
@click.argument("new")
@click.option("--raft", required=True, metavar="HOST:PORT", help="Where NEW listens for peers.")
@click.option("--api", required=True, metavar="HOST:PORT", help="Where NEW answers users.")
@_wait
@with_session()
def replace(
    session: Session, old: str, new: str, raft: str, api: str, timeout_seconds: float
) -> None:
    """Add NEW, and remove OLD for good once NEW votes; OLD may be dead, or lead."""
    with session.client() as client:
        _until_done(
            session,
            lambda: client.add_peer(new, raft, api, replaces=old, wait_seconds=WAIT_SECONDS),
            timeout_seconds,
        )


@peers.command("remove")
@click.argument("peer_id")
@click.option("--yes", is_flag=True, help="Do not ask.")
@_wait
@with_session()
def remove(session: Session, peer_id: str, yes: bool, timeout_seconds: float) -> None:
    """Remove PEER_ID for good: it stops, its attempts move, its id never comes back."""
    with session.client() as client:
        if not yes:
            click.confirm(_impact(client.peers(), peer_id), abort=True, err=True)
        _until_done(
            session, lambda: client.remove_peer(peer_id, wait_seconds=WAIT_SECONDS), timeout_seconds
        )


def _impact(document: dict[str, Any], peer_id: str) -> str:
    voters = [row["id"] for row in document.get("items", []) if row.get("role") == "voter"]
    left = [voter for voter in voters if voter != peer_id]
    quorum = len(left) // 2 + 1
    return (
        f"Remove {clean(peer_id)} for good? {len(left)} voters stay ({clean(left)}), "
        f"{quorum} of them must be up"
    )


def _until_done(
    session: Session, ask: Callable[[], dict[str, Any]], timeout_seconds: float
) -> None:
    """Ask again and again: what was begun is not begun twice."""
    deadline = time.monotonic() + timeout_seconds
    while not (document := ask()).get("done"):
        waits = clean(document.get("waits_for"))
        if time.monotonic() >= deadline:
            progress("")
            raise Failure(f"not done yet, it goes on: {waits}", Exit.UNKNOWN)
        progress(waits)
    progress("")
    show_rows(document.get("items", []), COLUMNS, session.form)
