"""``raftsched schedule apply`` and ``import-crontab``: many schedules from a file."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from raftsched.cli import crontab
from raftsched.cli.exits import Exit, Failure, complain, explain
from raftsched.cli.files import Document, documents, parsed, read
from raftsched.cli.options import Session, with_session
from raftsched.cli.output import Column, Row, clean, field, hint, show_rows

if TYPE_CHECKING:
    from raftsched.client.sync import Client

#: Fields whose values may be secrets.
SECRETS = ("task.env", "task.http", "task.stdin")


def _changes(row: Row) -> str:
    said = [f"{c['field']}: {clean(c['old'])} -> {clean(c['new'])}" for c in row["changes"]]
    return "; ".join(said)


CHANGE_COLUMNS = (field("name"), field("action"), Column("CHANGES", _changes))


@click.command("apply")
@click.option(
    "-f",
    "--file",
    "path",
    required=True,
    metavar="FILE",
    help="JSON (a list of documents) or TOML ([[schedules]]); '-': JSON on stdin.",
)
@click.option("--prune", is_flag=True, help="Remove all schedules that are not in the file.")
@click.option("--dry-run", is_flag=True, help="Only say what would be done.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask before schedules are removed.")
@with_session()  # fmt: skip
def apply(session: Session, path: str, prune: bool, dry_run: bool, yes: bool) -> None:
    """Make the schedules as a file has them, and say what is changed.

    All documents are checked before the first is written; a wrong one changes nothing.
    """
    wanted = documents(parsed(path), path, "schedule")
    with session.client() as client:
        rows = _plan(client, wanted, "schedule")
        kept = {document["name"] for document in wanted}
        gone = [row["name"] for row in client.schedules() if row["name"] not in kept]
        rows += [_row(name, "delete") for name in gone if prune]
        if not dry_run:
            if prune and gone and not yes:
                names = ", ".join(map(clean, gone[:5])) + (", ..." if len(gone) > 5 else "")
                click.confirm(f"remove {len(gone)} schedules ({names})?", abort=True, err=True)
            _carry_out(client, wanted, rows)
    _show(session, rows, dry_run)
    if gone and not prune:
        hint(f"{len(gone)} schedules are not in the file; --prune removes them")


@click.command("import-crontab")
@click.argument("path", metavar="FILE")
@click.option(
    "--system/--user",
    "is_system",
    default=None,
    help="Is the sixth word of a line the user?  (In /etc it is.)",
)
@click.option("--zone", default="", metavar="NAME", help="Unless CRON_TZ says it (this machine's).")
@click.option("--prefix", default="", help="Before the names of the schedules.")
@click.option("--no-user", is_flag=True, help="Run as the nodes do, whatever the lines say.")
@click.option("--dry-run", is_flag=True, help="Only say what would be done.")
@click.option(
    "--print",
    "printed",
    is_flag=True,
    help="Only print the documents, as 'schedule apply' takes them; asks no cluster.",
)
@with_session()  # fmt: skip
def import_crontab(session: Session, path: str, **options: Any) -> None:
    """Make a schedule of each line of a crontab; '-' reads 'crontab -l' from stdin.

    \b
    raftsched schedule import-crontab /etc/crontab --dry-run
    crontab -l | raftsched schedule import-crontab - --prefix me-
    """
    is_system = options["is_system"]
    if is_system is None:
        is_system = Path(path).resolve().is_relative_to("/etc") and path != "-"
    zone = options["zone"] or local_zone()
    text = read(path).decode("utf-8", "surrogateescape")
    entries, troubles = crontab.read(text, is_system=is_system, zone=zone, prefix=options["prefix"])
    if options["no_user"]:
        for entry in entries:
            entry.document["task"].pop("user", None)
    if options["printed"]:
        click.echo(json.dumps([entry.document for entry in entries], indent=2))
        rows: list[dict[str, Any]] = []
    else:
        with session.client() as client:
            rows, refused = _import(client, entries, options["dry_run"])
        troubles += refused
        _show(session, rows, options["dry_run"])
    for line, why in sorted(troubles):
        complain(f"line {line}: {clean(why)}")
    taken = len(entries) if options["printed"] else len(rows)
    if not taken and troubles:
        raise Failure("nothing was taken", Exit.ERROR)
    if any(not why.startswith("MAILTO") for _, why in troubles):
        raise click.exceptions.Exit(Exit.PARTIAL)


def _import(
    client: Client, entries: list[crontab.Entry], dry_run: bool
) -> tuple[list[dict[str, Any]], list[crontab.Trouble]]:
    """What was done with each line that could be taken, and why others could not."""
    from raftsched.client.errors import InvalidRequest

    rows, refused = [], []
    for line, document in entries:
        try:
            rows += (found := _plan(client, [document], ""))
        except InvalidRequest as error:
            refused.append(crontab.Trouble(line, str(error)))
            continue
        if not dry_run:
            _carry_out(client, [document], found)
    return rows, refused


# What is to be done ----------------------------------------------------------------------------


def _plan(client: Client, wanted: list[Document], what: str) -> list[dict[str, Any]]:
    """What each document would change.  Failure for wrong ones, if it is known what they are."""
    from raftsched.client.errors import InvalidRequest

    rows: list[dict[str, Any]] = []
    wrong = 0
    for number, document in enumerate(wanted, start=1):
        name = document["name"]
        fields = {key: value for key, value in document.items() if key != "name"}
        try:
            found = client.put_schedule(name, dry_run=True, **fields)
        except InvalidRequest as error:
            if not what:
                raise
            complain(f"{what} {number} ({clean(name)}): {explain(error)[0]}")
            wrong += 1
            continue
        row = _row(name, found["action"])
        if found["action"] == "update":
            known = client.schedule(name)
            for changed in found["fields"]:
                row["changes"] += _differences(changed, known.get(changed), fields.get(changed))
        rows.append(row)
    if wrong:
        raise Failure(f"{wrong} of {len(wanted)} are wrong; nothing was changed", Exit.USAGE)
    return rows


def _differences(name: str, old: Any, new: Any) -> list[dict[str, Any]]:
    """A field with what it is and what it is to be; of a task each of its fields."""
    if name == "task" and isinstance(old, dict) and isinstance(new, dict):
        names = sorted(key for key in {*old, *new} if old.get(key) != new.get(key))
        found = [_differences(f"task.{key}", old.get(key), new.get(key)) for key in names]
        return [one for some in found for one in some]
    if name in SECRETS:
        old = new = "(not shown)"
    return [{"field": name, "old": old, "new": new}]


def _row(name: str, action: str) -> dict[str, Any]:
    return {"name": name, "action": action, "changes": []}


def _carry_out(client: Client, wanted: list[Document], rows: list[dict[str, Any]]) -> None:
    documents = {document["name"]: document for document in wanted}
    for row in rows:
        name = row["name"]
        if row["action"] == "delete":
            client.delete_schedule(name)
        elif row["action"] != "none":
            fields = {key: value for key, value in documents[name].items() if key != "name"}
            client.put_schedule(name, **fields)


def _show(session: Session, rows: list[dict[str, Any]], dry_run: bool) -> None:
    show_rows(rows, CHANGE_COLUMNS, session.form, "name")
    count = sum(row["action"] != "none" for row in rows)
    hint(f"{count} would be changed; nothing was" if dry_run else f"{count} changed")


def local_zone() -> str:
    """The time zone of this machine by its name; UTC if it has none."""
    if os.environ.get("TZ"):
        return os.environ["TZ"].lstrip(":")
    try:
        return Path("/etc/timezone").read_text(encoding="ascii").strip() or "UTC"
    except (OSError, ValueError):
        pass
    _, found, name = os.path.realpath("/etc/localtime").partition("zoneinfo/")
    return name if found else "UTC"
