"""Commands that make something else of tasks, named by their ids or by a filter."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from raftsched.cli.many import filters, given_filters, many, which
from raftsched.cli.options import Session, with_session
from raftsched.cli.output import Row, show_one
from raftsched.cli.spec import make_patch
from raftsched.cli.tasks import each

if TYPE_CHECKING:
    from raftsched.client.sync import Client


@click.command()
@click.argument("words", nargs=-1, required=True, metavar="[ID] FIELD=VALUE...")
@filters
@with_session("id")
def edit(session: Session, words: tuple[str, ...], **options: Any) -> None:
    """Change fields of a task that does not run, or of all that match.

    \b
    raftsched edit ID priority=80 timeout=5m
    raftsched edit ID retry.max_attempts=3 'constraints=["zone = a"]' deadline=null
    raftsched edit --queue nightly --state queued priority=80
    """
    query = given_filters(options)
    if query:
        patch = make_patch(words)
        many(
            session, "edit", lambda client, asked: client.edit_many(patch, **asked), query, options
        )
        return
    task_id, *changes = words
    if not changes:
        raise click.UsageError("give the id of a task, or a filter, and FIELD=VALUE")
    if options["limit"]:
        raise click.UsageError("--limit goes with a filter such as --state or --queue")
    patch = make_patch(tuple(changes))
    with session.client() as client:
        show_one(client.edit(task_id, patch, dry_run=options["dry_run"]), session.form)


@click.command("run-now")
@click.argument("task_ids", nargs=-1)
@filters
@with_session("id")
def run_now(session: Session, task_ids: tuple[str, ...], **options: Any) -> None:
    """End the wait of tasks: a delay, a backoff, a pause.

    \b
    raftsched run-now ID...
    raftsched run-now --queue nightly --state waiting,retrying
    """
    query = which(task_ids, options)
    if query:
        many(session, "run", lambda client, asked: client.run_many(**asked), query, options)
    else:
        each(session, task_ids, "run", lambda client, task_id: client.run_now(task_id))


@click.command()
@click.argument("task_ids", nargs=-1)
@click.option("--reason", default="", help="Kept with the task.")
@filters
@with_session("id")
def cancel(session: Session, task_ids: tuple[str, ...], reason: str, **options: Any) -> None:
    """Ask for the end of tasks: what runs gets SIGTERM, then SIGKILL.

    \b
    raftsched cancel ID...
    raftsched cancel --queue nightly --state queued
    """
    query = which(task_ids, options)
    if query:
        query = {**query, "reason": reason}
        many(session, "cancel", lambda client, asked: client.cancel_many(**asked), query, options)
    else:
        each(session, task_ids, "cancelled", lambda client, task: client.cancel(task, reason))


@click.command()
@click.argument("task_ids", nargs=-1)
@click.option("--only-failed", is_flag=True, help="Of a workflow or map what failed, and what "
              "waited for it; what succeeded is kept.")  # fmt: skip
@filters
@with_session("id")
def retry(session: Session, task_ids: tuple[str, ...], only_failed: bool, **options: Any) -> None:
    """Try tasks again that ended and did not succeed; prints the ids of the new ones.

    \b
    raftsched retry ID...
    raftsched retry --only-failed ID
    raftsched retry --state failed --queue nightly
    """

    def again(client: Client, task_id: str) -> Row:
        return client.retry(task_id, only_failed=only_failed)

    query = which(task_ids, options)
    if query:
        query = {**query, "only_failed": only_failed}
        many(session, "retry", lambda client, asked: client.retry_many(**asked), query, options)
    else:
        each(session, task_ids, "tried again", again)


@click.command()
@click.argument("task_ids", nargs=-1)
@filters
@with_session("id")
def pause(session: Session, task_ids: tuple[str, ...], **options: Any) -> None:
    """Keep tasks from being started; what runs goes on.

    \b
    raftsched pause ID...
    raftsched pause --state queued --queue nightly
    """
    query = which(task_ids, options)
    if query:
        many(session, "pause", lambda client, asked: client.pause_many(**asked), query, options)
    else:
        each(session, task_ids, "paused", lambda client, task_id: client.pause(task_id))


@click.command()
@click.argument("task_ids", nargs=-1)
@filters
@with_session("id")
def resume(session: Session, task_ids: tuple[str, ...], **options: Any) -> None:
    """Undo a pause, of tasks by id or filter."""
    query = which(task_ids, options)
    if query:
        many(session, "resume", lambda client, asked: client.resume_many(**asked), query, options)
    else:
        each(session, task_ids, "resumed", lambda client, task_id: client.resume(task_id))


@click.command()
@click.argument("task_ids", nargs=-1)
@filters
@with_session("id")
def rm(session: Session, task_ids: tuple[str, ...], **options: Any) -> None:
    """Remove tasks that have ended, with their attempts.

    \b
    raftsched rm ID...
    raftsched rm --state failed,cancelled --queue nightly
    """

    def remove(client: Client, task_id: str) -> Row:
        client.delete(task_id)
        return {"id": task_id}

    query = which(task_ids, options)
    if query:
        many(session, "remove", lambda client, asked: client.delete_many(**asked), query, options)
    else:
        each(session, task_ids, "removed", remove)
