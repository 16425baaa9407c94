"""``raftsched node``: what the cluster has, and what may be put there."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from raftsched.cli.exits import Exit, Failure
from raftsched.cli.options import Session, with_session
from raftsched.cli.output import Column, clean, field, hint, show_one, show_rows

if TYPE_CHECKING:
    from raftsched.client.sync import Client


def _memory(row: Any) -> str:
    value = row.get("memory_bytes")
    return f"{value / 2**30:.1f}GiB" if isinstance(value, int) else "-"


def _cpu(row: Any) -> str:
    value = row.get("cpu_milli")
    return f"{value / 1000:g}" if isinstance(value, int) else str(row.get("cpu") or "-")


COLUMNS = (
    field("id"),
    field("status"),
    field("eligibility"),
    field("slots"),
    Column("CPU", _cpu),
    Column("MEMORY", _memory),
    field("attempts", "RUNNING"),
    field("address"),
    field("version", wide=True),
    field("labels", wide=True),
    field("incarnation", wide=True),
    field("reason", wide=True),
)


@contextmanager
def _known_named(client: Client, node_id: str) -> Iterator[None]:
    """Turn "no such node" into a line that names the nodes there are."""
    from raftsched.client.errors import ClientError, NotFound

    try:
        yield
    except NotFound as error:
        try:
            known = ", ".join(clean(row.get("id")) for row in client.nodes())
        except ClientError:
            raise error from None
        raise Failure(f"no node {node_id}; known: {known or 'none yet'}", Exit.NOT_FOUND) from None


@click.group()
def node() -> None:
    """Nodes: the capacity of each peer as the scheduler sees it."""


@node.command("ls")
@with_session()
def ls(session: Session) -> None:
    """List nodes."""
    with session.client() as client:
        if not show_rows(client.nodes(), COLUMNS, session.form):
            hint("no node has registered yet; 'raftsched cluster status' says why")


@node.command("show")
@click.argument("node_id")
@with_session()
def show(session: Session, node_id: str) -> None:
    """Show one node."""
    with session.client() as client, _known_named(client, node_id):
        show_one(client.node(node_id), session.form)


@node.command("cordon")
@click.argument("node_ids", nargs=-1, required=True)
@with_session("id")
def cordon(session: Session, node_ids: tuple[str, ...]) -> None:
    """Give nodes nothing new; what runs there goes on."""
    with session.client() as client:
        for node_id in node_ids:
            with _known_named(client, node_id):
                show_one({"id": node_id, **client.cordon(node_id)}, session.form)
    hint("nothing new starts there; undo it with: raftsched node uncordon " + " ".join(node_ids))


@node.command("uncordon")
@click.argument("node_ids", nargs=-1, required=True)
@with_session("id")
def uncordon(session: Session, node_ids: tuple[str, ...]) -> None:
    """Let nodes have new attempts again."""
    with session.client() as client:
        for node_id in node_ids:
            with _known_named(client, node_id):
                show_one({"id": node_id, **client.uncordon(node_id)}, session.form)


@node.command("drain")
@click.argument("node_id")
@click.option("--patience", default="0s", metavar="TIME", help="What runs may go on so long (0s).")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@with_session("id")
def drain(session: Session, node_id: str, patience: str, yes: bool) -> None:
    """Give a node nothing new, and move what it holds elsewhere."""
    with session.client() as client, _known_named(client, node_id):
        held = client.node(node_id).get("attempts") or 0
        if held and not yes:
            click.confirm(f"drain {node_id}: {held} attempts move; go on?", abort=True, err=True)
        show_one({"id": node_id, **client.drain(node_id, patience)}, session.form)
    hint(f"undo it with: raftsched node uncordon {node_id}")


@node.command("labels")
@click.argument("node_id")
@click.argument("changes", nargs=-1, metavar="[NAME=VALUE | NAME-]...")
@with_session("table")
def labels(session: Session, node_id: str, changes: tuple[str, ...]) -> None:
    """Show the labels of a node; set some at run time, or take back what was set (NAME-)."""
    with session.client() as client, _known_named(client, node_id):
        row = client.node(node_id)
        if changes:
            found = dict(row.get("labels_set") or {})
            for change in changes:
                name, is_set, value = change.partition("=")
                if is_set and name:
                    found[name] = value
                elif change.endswith("-") and change[:-1] in found:
                    del found[change[:-1]]
                else:
                    raise Failure(f"{change!r} is neither NAME=VALUE nor a set NAME-", Exit.USAGE)
            row = client.set_node_labels(node_id, found)
        show_one(dict(row.get("labels") or {}), session.form)
