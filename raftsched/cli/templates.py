"""``raftsched template``: task documents with places, kept under a name."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from raftsched.cli.exits import Exit, Failure, complain, explain
from raftsched.cli.files import documents, parsed
from raftsched.cli.follow import ended
from raftsched.cli.options import Session, with_session
from raftsched.cli.output import Column, Row, clean, field, hint, show_one, show_rows
from raftsched.cli.spec import make_patch

if TYPE_CHECKING:
    from raftsched.client.sync import Client

#: Fields of what ``show`` prints that ``put`` passes over.
_SHOWN = ("namespace", "version", "created_at", "modified_at", "modify_index")


def _types(row: Row) -> str:
    return clean(" ".join(f"{name}:{kind}" for name, kind in row["parameters"].items()))


COLUMNS = (
    field("name"),
    field("version"),
    Column("PARAMETERS", _types),
    Column("CHANGED", lambda row: clean(row.get("modified_at"))[:19].replace("T", " ")),
    field("description"),
)
CHANGE_COLUMNS = (field("name"), field("action"), field("fields"))


@click.group()
def template() -> None:
    """Templates: task documents with places for parameters."""


@template.command("put")
@click.argument("name", required=False, default="")
@click.option(
    "-f",
    "--file",
    "path",
    required=True,
    metavar="FILE",
    help="A document, or many with names, in JSON (a list) or TOML ([[templates]]); "
    "'-': JSON on stdin.",
)
@click.option("--dry-run", is_flag=True, help="Only say what would be done.")
@with_session()
def put(session: Session, name: str, path: str, dry_run: bool) -> None:
    """Make templates as a file has them, or replace them.

    All documents are checked before the first is written; a wrong one changes nothing.

    \b
    raftsched template put report -f report.toml
    raftsched template put -f templates.json --dry-run
    """
    wanted = _wanted(name, path)
    with session.client() as client:
        rows = _plan(client, wanted)
        if not dry_run:
            for row, (known, document) in zip(rows, wanted.items(), strict=True):
                if row["action"] != "none":
                    client.put_template(known, **document)
    show_rows(rows, CHANGE_COLUMNS, session.form, "name")
    count = sum(row["action"] != "none" for row in rows)
    hint(f"{count} would be changed; nothing was" if dry_run else f"{count} changed")


def _wanted(name: str, path: str) -> dict[str, dict[str, Any]]:
    """The documents of a file by their names.  Failure."""
    found = parsed(path)
    if isinstance(found, dict) and "task" in found:
        found = [{**found, "name": name or found.get("name")}]
    elif name:
        raise Failure(f"{path}: one template document is needed for {name}", Exit.USAGE)
    return {
        one["name"]: {k: v for k, v in one.items() if k != "name" and k not in _SHOWN}
        for one in documents(found, path, "template")
    }


def _plan(client: Client, wanted: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """What each document would change.  Failure for wrong ones."""
    from raftsched.client.errors import InvalidRequest

    rows, wrong = [], 0
    for name, document in wanted.items():
        try:
            found = client.put_template(name, dry_run=True, **document)
        except (InvalidRequest, TypeError) as error:
            why = "a field is not known" if isinstance(error, TypeError) else explain(error)[0]
            complain(f"template {clean(name)}: {why}")
            wrong += 1
            continue
        rows.append({"name": name, "action": found["action"], "fields": found["fields"]})
    if wrong:
        raise Failure(f"{wrong} of {len(wanted)} are wrong; nothing was changed", Exit.USAGE)
    return rows


@template.command("ls")
@with_session()
def ls(session: Session) -> None:
    """List templates, by name."""
    with session.client() as client:
        if not show_rows(client.templates(), COLUMNS, session.form, "name"):
            hint("there is no template; make one with: raftsched template put NAME -f FILE")


@template.command("show")
@click.argument("name")
@with_session("json")
def show(session: Session, name: str) -> None:
    """Show one template, as 'put' takes it back."""
    with session.client() as client:
        show_one(client.template(name), session.form, "name")


@template.command("run")
@click.argument("template_name", metavar="NAME")
@click.option(
    "-p",
    "--param",
    "given",
    multiple=True,
    metavar="NAME=VALUE",
    help="A parameter; repeatable.  A text as it is, any other type as JSON.",
)
@click.option("--id", "task_id", metavar="ID", help="Of the task.")
@click.option("--name", help="A name for people (the template's).")
@click.option("--queue", help="Queue.")
@click.option("--priority", type=click.IntRange(0, 100), help="0 last, 100 first.")
@click.option("--expire", "deadline_", metavar="TIME", help="Over by then, or expired: 2h.")
@click.option(
    "--set",
    "fields",
    multiple=True,
    metavar="FIELD=VALUE",
    help="Any other field of the task: retry.max_attempts=3.  Repeatable.",
)
@click.option("--key", help="Idempotency key: the same key creates once, however often.")
@click.option("--wait", "wait_for_end", is_flag=True, help="Wait for the end; exit code 8 if bad.")
@click.option("--dry-run", is_flag=True, help="Check only; nothing is created.")
@with_session("id")
def run(session: Session, template_name: str, given: tuple[str, ...], **options: Any) -> None:
    """Create the task of a template and print its id.

    \b
    raftsched template run report -p day=2026-11-21
    raftsched template run pack -p 'files=["a","b"]' --queue night --wait
    """
    if options["dry_run"] and options["wait_for_end"]:
        raise click.UsageError("--dry-run creates nothing that --wait could wait for")
    fields = make_patch(options["fields"])
    for field_name, option in (
        ("id", "task_id"),
        ("name", "name"),
        ("queue", "queue"),
        ("priority", "priority"),
        ("deadline", "deadline_"),
    ):
        if options[option] is not None:
            fields[field_name] = options[option]
    with session.client() as client:
        types = client.template(template_name)["parameters"] if given else {}
        task = client.run_template(
            template_name,
            _values(given, types),
            idempotency_key=options["key"],
            dry_run=options["dry_run"],
            **fields,
        )
        if options["dry_run"]:
            hint("would be accepted; nothing was created")
        elif options["wait_for_end"]:
            task = task.wait()
        else:
            hint(f"look at it with: raftsched tree {task.get('id', '')}")
    show_one(task, session.form)
    if options["wait_for_end"] and task.state != "succeeded":
        raise Failure(ended(task), Exit.TASK_FAILED)


def _values(given: tuple[str, ...], parameters: Any) -> dict[str, Any]:
    """The values by their types; those of parameters that are not there are JSON or text."""
    values: dict[str, Any] = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise click.UsageError(f"-p {text!r}: write NAME=VALUE")
        kind = parameters.get(name, {}).get("type", "string") if name in parameters else ""
        values[name] = value if kind == "string" else _json(name, value, kind)
    return values


def _json(name: str, text: str, kind: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        if not kind:
            return text
        example = {"list": '["a", "b"]', "object": '{"a": 1}', "boolean": "true"}.get(kind, "3")
        message = f"-p {name}={text}: {name} is of type {kind}; write it as JSON, such as {example}"
        raise click.UsageError(message) from None


@template.command("rm")
@click.argument("name")
@with_session("id")
def rm(session: Session, name: str) -> None:
    """Remove a template; tasks and schedules that were made of it stay as they are."""
    with session.client() as client:
        client.delete_template(name)
        show_one({"name": name}, session.form, "name")
