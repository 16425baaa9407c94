"""What commands for one task have in common that take a filter for many instead."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from raftsched.cli.exits import Exit, Failure, complain
from raftsched.cli.options import Session
from raftsched.cli.output import clean, hint, show_one

if TYPE_CHECKING:
    from raftsched.client.sync import Client

#: Options that say which tasks, in the order of ``--help``.
NAMES = ("state", "queue", "node", "parent", "schedule", "label", "q", "since", "until")
#: Refusals reported on stderr at most.
REFUSALS_SHOWN_MAX = 10

#: Of the client that does it and what is asked for; the answer of the API.
Act = Callable[["Client", dict[str, Any]], dict[str, Any]]


def filters(command: Any) -> Any:
    """The options that say which of many."""
    options = [
        click.option("--state", help="All in these states, for example queued,retrying."),
        click.option("--queue", help="All of this queue."),
        click.option("--node", help="All on this node."),
        click.option("--parent", help="All subtasks of this task."),
        click.option("--schedule", help="All that this schedule made."),
        click.option("--label", help="All with this label, as NAME:VALUE."),
        click.option("-q", "--search", "q", help="All whose name contains this."),
        click.option("--since", metavar="INSTANT", help="All created from then on."),
        click.option("--until", metavar="INSTANT", help="All created before then."),
        click.option("-n", "--limit", type=click.IntRange(1, 100_000), help="At most so many."),
        click.option("--dry-run", is_flag=True, help="Say how many there are; change nothing."),
        click.option("-y", "--yes", is_flag=True, help="Do not ask."),
    ]
    for option in reversed(options):
        command = option(command)
    return command


def which(task_ids: tuple[str, ...], options: dict[str, Any]) -> dict[str, Any]:
    """The filters that were given; either these or ids."""
    given = given_filters(options)
    if bool(task_ids) == bool(given):
        raise click.UsageError("give ids of tasks, or a filter such as --state or --queue")
    if task_ids and (options["limit"] or options["dry_run"]):
        raise click.UsageError("--limit and --dry-run go with a filter such as --state or --queue")
    return given


def given_filters(options: dict[str, Any]) -> dict[str, Any]:
    """Those options that say which tasks."""
    given = {name: options[name] for name in NAMES if options.get(name) is not None}
    for name, value in given.items():
        if not value:
            option = "search" if name == "q" else name
            raise click.UsageError(f"--{option} is empty, and would match all")
    return given


def many(
    session: Session, verb: str, act: Act, query: dict[str, Any], options: dict[str, Any]
) -> None:
    """Do it to all that match, after saying how many there are."""
    query = {**query, "limit": options["limit"]}
    with session.client() as client:
        found = act(client, {**query, "dry_run": True})
        count = f"{found['matched']} tasks"
        if options["dry_run"] or not found["matched"]:
            hint(f"{count} match; nothing was changed")
            _show(session, found)
            return
        if not options["yes"]:
            click.confirm(f"{verb} {count}?", abort=True, err=True)
        done = act(client, query)
    hint(f"{done['changed']} of {done['matched']} changed")
    _show(session, done)
    if done["changed"] < done["matched"]:
        raise Failure(
            f"{done['matched'] - done['changed']} of {done['matched']} tasks were not changed",
            Exit.PARTIAL if done["changed"] else Exit.ERROR,
        )


def _show(session: Session, answer: dict[str, Any]) -> None:
    """What it came to on stdout; there as text without the refusals, which go to stderr."""
    refused = answer.get("refused") or []
    for row in refused[:REFUSALS_SHOWN_MAX]:
        complain(f"{row.get('id')}: {clean(row.get('detail') or row.get('code'))}")
    if session.form in ("json", "ndjson"):
        show_one(answer, session.form)
        return
    # What many come to has no id.
    rest = {name: value for name, value in answer.items() if name != "refused"}
    show_one(rest, "table" if session.form == "id" else session.form)
