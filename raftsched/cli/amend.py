"""Commands that make something else of tasks: edit, run now, try again; and of many at once."""

from __future__ import annotations

from typing import Any

import click

from raftsched.cli.exits import Exit, Failure
from raftsched.cli.options import Session, with_session
from raftsched.cli.output import hint, show_one
from raftsched.cli.spec import make_patch
from raftsched.cli.tasks import each


@click.command()
@click.argument("task_id")
@click.argument("changes", nargs=-1, required=True, metavar="FIELD=VALUE...")
@click.option("--dry-run", is_flag=True, help="Check only; nothing is changed.")
@with_session("id")
def edit(session: Session, task_id: str, changes: tuple[str, ...], dry_run: bool) -> None:
    """Change fields of a task that does not run.

    \b
    raftsched edit ID priority=80 timeout=5m
    raftsched edit ID retry.max_attempts=3 'constraints=["zone = a"]' deadline=null
    """
    patch = make_patch(changes)
    with session.client() as client:
        show_one(client.edit(task_id, patch, dry_run=dry_run), session.form)


@click.command("run-now")
@click.argument("task_ids", nargs=-1, required=True)
@with_session("id")
def run_now(session: Session, task_ids: tuple[str, ...]) -> None:
    """End the wait of tasks: a delay, a backoff, a pause."""
    each(session, task_ids, "run", lambda client, task_id: client.run_now(task_id))


def _filters(command: Any) -> Any:
    """The options that say which of many."""
    options = [
        click.option("--state", help="All in these states, for example queued,retrying."),
        click.option("--queue", help="All of this queue."),
        click.option("--node", help="All on this node."),
        click.option("--label", help="All with this label, as NAME:VALUE."),
        click.option("-n", "--limit", type=click.IntRange(1, 100_000), help="At most so many."),
        click.option("--dry-run", is_flag=True, help="Say how many there are; change nothing."),
        click.option("-y", "--yes", is_flag=True, help="Do not ask."),
    ]
    for option in reversed(options):
        command = option(command)
    return command


def _which(task_ids: tuple[str, ...], options: dict[str, Any]) -> dict[str, Any]:
    """The filters that were given; either these or ids."""
    names = ("state", "queue", "node", "label")
    filters = {name: options[name] for name in names if options[name]}
    if bool(task_ids) == bool(filters):
        raise click.UsageError("give ids of tasks, or --state, --queue, --node or --label")
    if task_ids and (options["limit"] or options["dry_run"]):
        raise click.UsageError("--limit and --dry-run go with --state, --queue, --node or --label")
    return filters


def _many(session: Session, verb: str, filters: dict[str, Any], options: dict[str, Any]) -> None:
    """Do it to all that match, after saying how many there are."""
    limit = options["limit"]
    with session.client() as client:
        act = client.cancel_many if verb == "cancel" else client.retry_many
        found = act(limit=limit, dry_run=True, **filters)
        count = f"{found['matched']} tasks"
        if options["dry_run"] or not found["matched"]:
            hint(f"{count} match; nothing was changed")
            show_one(found, _form(session))
            return
        if not options["yes"]:
            click.confirm(f"{verb} {count}?", abort=True, err=True)
        done = act(limit=limit, **filters)
    hint(f"{done['changed']} of {done['matched']} changed")
    show_one(done, _form(session))
    if done["changed"] < done["matched"]:
        raise Failure("some had changed meanwhile and were passed over", Exit.PARTIAL)


def _form(session: Session) -> str:
    """What many come to has no id."""
    return "table" if session.form == "id" else session.form


@click.command()
@click.argument("task_ids", nargs=-1)
@click.option("--reason", default="", help="Kept with the task.")
@_filters
@with_session("id")
def cancel(session: Session, task_ids: tuple[str, ...], reason: str, **options: Any) -> None:
    """Ask for the end of tasks: what runs gets SIGTERM, then SIGKILL.

    \b
    raftsched cancel ID...
    raftsched cancel --queue nightly --state queued
    """
    filters = _which(task_ids, options)
    if filters:
        _many(session, "cancel", {**filters, "reason": reason}, options)
    else:
        each(session, task_ids, "cancelled", lambda client, task: client.cancel(task, reason))


@click.command()
@click.argument("task_ids", nargs=-1)
@_filters
@with_session("id")
def retry(session: Session, task_ids: tuple[str, ...], **options: Any) -> None:
    """Try tasks again that ended and did not succeed; prints the ids of the new ones.

    \b
    raftsched retry ID...
    raftsched retry --state failed --queue nightly
    """
    filters = _which(task_ids, options)
    if filters:
        _many(session, "retry", filters, options)
    else:
        each(session, task_ids, "tried again", lambda client, task: client.retry(task))
