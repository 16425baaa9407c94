"""``raftsched queue``, ``limit`` and ``explain``: what tasks share, and why one does not run."""

from __future__ import annotations

from typing import Any

import click

from raftsched.cli.options import Session, with_session
from raftsched.cli.output import Column, clean, field, hint, show_one, show_rows
from raftsched.cli.spec import make_patch, merge


def _rate(row: Any) -> str:
    rate = row.get("rate")
    return f"{rate['count']} in {rate['per']:g} s, {rate['burst']} at once" if rate else "-"


QUEUE_COLUMNS = (
    field("name"),
    field("paused"),
    field("open"),
    field("running"),
    field("concurrency"),
    field("max_depth", "DEPTH"),
)
LIMIT_COLUMNS = (field("key"), field("count"), field("held"), Column("RATE", _rate))
NODE_COLUMNS = (field("node"), field("reason"), field("text"))


@click.group()
def queue() -> None:
    """Queues: what holds for all tasks of one."""


@queue.command("ls")
@with_session()
def queue_ls(session: Session) -> None:
    """List queues that were set or have tasks."""
    with session.client() as client:
        if not show_rows(client.queues(), QUEUE_COLUMNS, session.form, "name"):
            hint("no queue was set, and none has tasks")


@queue.command("show")
@click.argument("name")
@with_session()
def queue_show(session: Session, name: str) -> None:
    """Show one queue."""
    with session.client() as client:
        show_one(client.queue(name), session.form, "name")


@queue.command("set")
@click.argument("name")
@click.option("--concurrency", type=click.IntRange(0), help="Attempts at once; 0: no limit.")
@click.option("--max-depth", type=click.IntRange(0), help="Tasks not ended; 0: no limit.")
@click.option("--keep", metavar="TIME", help="How long finished tasks are kept: 2d.")
@click.option("--keep-count", type=click.IntRange(0), help="How many are.")
@click.option("--keep-bytes", metavar="SIZE", help="How much of them is: 256MiB.")
@click.option(
    "--default",
    multiple=True,
    metavar="FIELD=VALUE",
    help="What its tasks ask for "
    "unless they say it themselves: retry.max_attempts=3.  Repeatable, null takes back.",
)
@with_session("table")
def queue_set(session: Session, name: str, **options: Any) -> None:
    """Say what holds for a queue; what is not said stays."""
    keep = {"age": options["keep"], "count": options["keep_count"], "bytes": options["keep_bytes"]}
    with session.client() as client:
        known = client.queue(name)
        names = ("concurrency", "max_depth")
        fields = {k: known[k] if options[k] is None else options[k] for k in names}
        said = {k: v for k, v in keep.items() if v is not None}
        more = {
            "retention": {**known.get("retention", {}), **said},
            "defaults": merge(known.get("defaults", {}), make_patch(options["default"])),
        }
        fields |= {name: value for name, value in more.items() if value}
        show_one(client.set_queue(name, **fields), session.form, "name")


@queue.command("pause")
@click.argument("name")
@with_session("id")
def queue_pause(session: Session, name: str) -> None:
    """Start nothing of a queue; what runs goes on."""
    with session.client() as client:
        show_one(client.pause_queue(name), session.form, "name")


@queue.command("resume")
@click.argument("name")
@with_session("id")
def queue_resume(session: Session, name: str) -> None:
    """Undo a pause."""
    with session.client() as client:
        show_one(client.resume_queue(name), session.form, "name")


@queue.command("purge")
@click.argument("name")
@click.option("--reason", default="", help="Kept with the tasks.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@with_session("table")
def queue_purge(session: Session, name: str, reason: str, yes: bool) -> None:
    """Cancel all tasks of a queue that no node has."""
    with session.client() as client:
        count = client.purge_queue(name, dry_run=True)["matched"]
        if count and not yes:
            click.confirm(f"purge {name}: cancel {count} tasks?", abort=True, err=True)
        show_one(client.purge_queue(name, reason=reason), session.form)


@queue.command("rm")
@click.argument("name")
@with_session("id")
def queue_rm(session: Session, name: str) -> None:
    """Back to the defaults; the tasks stay."""
    with session.client() as client:
        client.delete_queue(name)
        show_one({"name": name}, session.form, "name")


@click.group()
def limit() -> None:
    """Limits: what tasks with the same key share."""


@limit.command("ls")
@with_session()
def limit_ls(session: Session) -> None:
    """List limits that were set or are held."""
    with session.client() as client:
        if not show_rows(client.limits(), LIMIT_COLUMNS, session.form, "key"):
            hint("no limit was set, and none is held")


@limit.command("show")
@click.argument("key")
@with_session()
def limit_show(session: Session, key: str) -> None:
    """Show one limit."""
    with session.client() as client:
        show_one(client.limit(key), session.form, "key")


@limit.command("set")
@click.argument("key")
@click.option("--count", type=click.IntRange(0), help="Holders at once; 0: any number.")
@click.option("--rate", default="", metavar="N/TIME", help="Starts in a time, such as 10/1m.")
@click.option("--burst", type=click.IntRange(1), default=1, help="Starts at once (1).")
@with_session("table")
def limit_set(session: Session, key: str, count: int | None, rate: str, burst: int) -> None:
    """Say what holds for a key: a semaphore, a rate, or both.

    \b
    raftsched limit set billing-api --count 4
    raftsched limit set billing-api --rate 100/1m --burst 10
    """
    fields: dict[str, Any] = {} if count is None else {"count": count}
    if rate:
        number, _, per = rate.partition("/")
        if not number.isdecimal() or not per:
            raise click.UsageError("--rate takes a number and a time, such as 10/1m")
        fields["rate"] = {"count": int(number), "per": per, "burst": burst}
        fields.setdefault("count", 0)
    if not fields:
        raise click.UsageError("give --count, --rate or both")
    with session.client() as client:
        show_one(client.set_limit(key, **fields), session.form, "key")


@limit.command("rm")
@click.argument("key")
@with_session("id")
def limit_rm(session: Session, key: str) -> None:
    """Back to a mutex."""
    with session.client() as client:
        client.delete_limit(key)
        show_one({"key": key}, session.form, "key")


@click.command()
@click.argument("task_id")
@with_session()
def explain(session: Session, task_id: str) -> None:
    """Say why a task does not run: what is in its way, and node by node why it is not there."""
    with session.client() as client:
        found = client.explain(task_id)
    if session.form not in ("table", "wide"):
        show_one(found, session.form, "task")
        return
    click.echo(f"{clean(found['verdict'])}: {clean(found['text'])}")
    for blocker in found["blockers"]:
        if blocker["until"]:
            click.echo(f"  {clean(blocker['kind'])} until {clean(blocker['until'])}")
    if found["nodes"]:
        show_rows(found["nodes"], NODE_COLUMNS, session.form, "node")
