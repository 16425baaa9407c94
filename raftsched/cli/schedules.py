"""``raftsched schedule``: what is to run again and again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from raftsched.cli.exits import Exit, Failure
from raftsched.cli.options import Session, with_session
from raftsched.cli.output import Column, Row, clean, field, hint, show_one, show_rows
from raftsched.cli.schedule_files import apply, import_crontab
from raftsched.cli.spec import make_spec, spec_options


def when(row: Row) -> str:
    """When a schedule is due, as it was written."""
    crons = row.get("cron") or []
    said = [crons] if isinstance(crons, str) else list(crons)
    said += [f"every {row['every']}"] if row.get("every") else []
    said += [f"at {at}" for at in row.get("at") or ()]
    return clean("; ".join(map(str, said)))


def _time(name: str) -> Callable[[Row], str]:
    return lambda row: clean(row.get(name))[:19].replace("T", " ")


def _streak(row: Row) -> str:
    if row.get("failures"):
        return f"{row['failures']} failed"
    return f"{row['successes']} ok" if row.get("successes") else "-"


def _upto(row: Row) -> str:
    return _time("upto")(row) if row.get("count", 1) > 1 else "-"


COLUMNS = (
    field("name"),
    Column("WHEN", when),
    field("zone"),
    field("paused"),
    Column("NEXT (UTC)", _time("next_at")),
    Column("STREAK", _streak),
    Column("RUNNING", lambda row: len(row.get("running") or ())),
    field("overlap", wide=True),
    field("misfire", wide=True),
    field("english", wide=True),
)
SLOT_COLUMNS = (
    Column("SLOT (UTC)", _time("at")),
    Column("UPTO", _upto),
    field("count"),
    field("status"),
    field("reason"),
    field("task"),
)
PREVIEW_COLUMNS = (
    field("local"),
    field("offset"),
    Column("UTC", _time("at")),
    field("change"),
    field("instead_of", "INSTEAD OF"),
    Column("STARTS (UTC)", _time("starts_at"), True),
)
EXPECTED_COLUMNS = (Column("SLOT (UTC)", _time("at")), field("schedule"))

#: Options that are fields of the document as they are.
_PLAIN = (
    "zone", "gap", "fold", "start", "end", "every", "jitter", "misfire", "misfire_limit",
    "misfire_window", "overlap",
)  # fmt: skip
_TIMES = [
    click.option("--cron", "crons", multiple=True, metavar="EXPRESSION",
                 help="'0 2 * * *', with seconds first '*/10 * * * * *', 'H 3 * * *', @daily; "
                 "repeatable."),
    click.option("--every", metavar="TIME", help="10m, 0.5s."),
    click.option("--at", "at", multiple=True, metavar="INSTANT", help="Once then; repeatable."),
    click.option("--zone", metavar="NAME", help="Time zone such as Europe/Berlin (UTC)."),
    click.option("--gap", type=click.Choice(["usual", "skip", "shift"]),
                 help="Times that the clocks go over."),
    click.option("--fold", type=click.Choice(["usual", "first", "both", "second"]),
                 help="Times that the clocks show twice."),
    click.option("--start", metavar="INSTANT", help="Not before."),
    click.option("--end", metavar="INSTANT", help="Not from then on."),
    click.option("--exclude", multiple=True, metavar="DAY[..DAY]", help="Not on these days, "
                 "without the year: of every year; repeatable."),
    click.option("--jitter", metavar="TIME", help="Each start up to so much later."),
]  # fmt: skip
_POLICY = [
    click.option("--misfire", type=click.Choice(["skip", "latest", "all"]),
                 help="Which of the instants run that nobody could fire in time (latest)."),
    click.option("--misfire-limit", type=click.IntRange(1, 100), help="With all: how many (10)."),
    click.option("--misfire-window", metavar="TIME", help="Older ones never run (1h)."),
    click.option("--overlap", type=click.Choice(["allow", "skip", "queue", "replace"]),
                 help="What an instant does whose forerunner still runs (skip)."),
    click.option("--paused", is_flag=True, help="Nothing of it fires until it is resumed."),
]  # fmt: skip


def _options(options: list[Any]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


def _fields(options: dict[str, Any]) -> dict[str, Any]:
    """The schedule document that the options describe, but what runs."""
    fields: dict[str, Any] = {n: options[n] for n in _PLAIN if options.get(n) is not None}
    for name, option in (("cron", "crons"), ("at", "at"), ("exclude", "exclude")):
        if options[option]:
            fields[name] = list(options[option])
    if len(options["crons"]) == 1:
        fields["cron"] = options["crons"][0]
    return fields | ({"paused": True} if options.get("paused") else {})


@click.group()
def schedule() -> None:
    """Schedules: what is to run again and again."""


@schedule.command("add", context_settings={"allow_interspersed_args": True})
@click.argument("schedule_name", metavar="NAME")
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
@_options([*_TIMES, *_POLICY])
@spec_options
@click.option("--replace", is_flag=True, help="If there is one of this name.")
@click.option("--key", default="", help="Idempotency key: the same key creates once.")
@click.option("--dry-run", is_flag=True, help="Check only; nothing is created.")
@with_session("table")
def add(session: Session, schedule_name: str, command: tuple[str, ...], **options: Any) -> None:
    """Run COMMAND again and again; options of 'submit' say how.

    \b
    raftsched schedule add nightly --cron '0 2 * * *' --zone Europe/Berlin -- ./backup.sh
    raftsched schedule add poll --every 30s --overlap skip --timeout 20s -- ./poll.sh
    raftsched schedule add report --cron 'H 6 * * 1-5' --attempts 3 --python reports:daily
    """
    if not command and options["document"] is None and not options["python"]:
        raise click.UsageError("COMMAND is missing; end with: -- /bin/date")
    fields = {**_fields(options), "task": make_spec(command, options)}
    with session.client() as client:
        if options["dry_run"]:
            found = client.put_schedule(schedule_name, dry_run=True, **fields)
            if found.get("action") != "create" and not options["replace"]:
                message = f"there is a schedule {schedule_name}; --replace replaces it"
                raise Failure(message, Exit.CONFLICT)
            show_one(found, session.form)
        elif options["replace"]:
            show_one(client.put_schedule(schedule_name, **fields), session.form, "name")
        else:
            key = options["key"]
            made = client.create_schedule(schedule_name, idempotency_key=key, **fields)
            show_one(made, session.form, "name")


@schedule.command("ls")
@with_session()
def ls(session: Session) -> None:
    """List schedules, by name."""
    with session.client() as client:
        if not show_rows(client.schedules(), COLUMNS, session.form, "name"):
            hint("there is no schedule; make one with: raftsched schedule add")


@schedule.command("show")
@click.argument("name")
@with_session()
def show(session: Session, name: str) -> None:
    """Show one schedule."""
    with session.client() as client:
        show_one(client.schedule(name), session.form, "name")


@schedule.command("preview")
@click.argument("name", required=False, default="")
@_options(_TIMES)
@click.option("-n", "count", type=click.IntRange(1, 100), default=10, show_default=True)
@click.option("--after", default="", metavar="INSTANT", help="Instants after this one (now).")
@with_session()
def preview(session: Session, name: str, count: int, after: str, **options: Any) -> None:
    """Show the next instants of a schedule, or of these options; nothing is saved.

    \b
    raftsched schedule preview nightly
    raftsched schedule preview --cron '30 2 * * *' --zone Europe/Berlin
    """
    fields = _fields(options)
    if not name and not fields:
        raise click.UsageError("give NAME, or options that say when, such as --cron")
    with session.client() as client:
        found = client.preview_schedule(name, n=count, after=after, **fields)
    if session.form in ("table", "wide"):
        click.echo(clean(found["english"]))
        show_rows(found["items"], PREVIEW_COLUMNS, session.form, "at")
        for text in found["warnings"]:
            click.echo(f"warning: {clean(text)}", err=True)
    elif session.form == "json":
        show_one(found, "json")
    else:
        show_rows(found["items"], PREVIEW_COLUMNS, session.form, "at")


@schedule.command("pause")
@click.argument("name")
@with_session("id")
def pause(session: Session, name: str) -> None:
    """Nothing of it fires until it is resumed; what runs goes on."""
    with session.client() as client:
        show_one(client.pause_schedule(name), session.form, "name")


@schedule.command("resume")
@click.argument("name")
@with_session("id")
def resume(session: Session, name: str) -> None:
    """Undo a pause: what was due meanwhile does not run."""
    with session.client() as client:
        show_one(client.resume_schedule(name), session.form, "name")


@schedule.command("trigger")
@click.argument("name")
@with_session("id")
def trigger(session: Session, name: str) -> None:
    """Run it now, beside its instants; prints the task's id."""
    with session.client() as client:
        show_one(client.trigger_schedule(name), session.form)


@schedule.command("backfill")
@click.argument("name")
@click.option("--from", "since", required=True, metavar="INSTANT", help="From this instant on.")
@click.option("--to", "until", default="", metavar="INSTANT", help="Before this one (now).")
@click.option("--dry-run", is_flag=True, help="Only list the instants.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@with_session("id")
def backfill(session: Session, name: str, since: str, until: str, dry_run: bool, yes: bool) -> None:
    """Run it for instants of the past that have no run; prints the tasks' ids."""
    with session.client() as client:
        due = client.backfill_schedule(name, since, until, dry_run=True)
        if dry_run:
            rows = [{"at": at} for at in due["instants"]]
            show_rows(rows, (field("at"),), session.form, "at")
            return
        count = len(due["instants"])
        if count and not yes:
            click.confirm(f"backfill {name}: run {count} instants?", abort=True, err=True)
        done = client.backfill_schedule(name, since, until)
    show_rows([{"id": task_id} for task_id in done["tasks"]], (field("id"),), session.form)
    if done["next_from"]:
        raise Failure(f"there is more to run: go on with --from {done['next_from']}", Exit.PARTIAL)


@schedule.command("slots")
@click.argument("name")
@with_session()
def slots(session: Session, name: str) -> None:
    """List what became of its instants, the latest first."""
    with session.client() as client:
        if not show_rows(client.slots(name), SLOT_COLUMNS, session.form, "at"):
            hint("nothing was due yet")


@schedule.command("rm")
@click.argument("name")
@click.option("--tasks", is_flag=True, help="End its tasks, too.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@with_session("id")
def rm(session: Session, name: str, tasks: bool, yes: bool) -> None:
    """Remove a schedule and its slots; its tasks stay."""
    with session.client() as client:
        if tasks and not yes:
            count = len(client.schedule(name).get("running") or ())
            if count:
                more = " or more" if count >= 20 else ""
                click.confirm(f"rm {name}: end {count}{more} tasks?", abort=True, err=True)
        client.delete_schedule(name, tasks=tasks)
        show_one({"name": name}, session.form, "name")


@schedule.command("forecast")
@click.option("--from", "since", default="", metavar="INSTANT", help="From this instant on (now).")
@click.option("--to", "until", default="", metavar="INSTANT", help="Before this one (a day later).")
@click.option("-n", "--limit", type=click.IntRange(1, 10_000), default=50, show_default=True)
@with_session()
def forecast(session: Session, since: str, until: str, limit: int) -> None:
    """List when all schedules are due, the earliest first."""
    with session.client() as client:
        rows = client.forecast(since, until, limit)
        if not show_rows(rows, EXPECTED_COLUMNS, session.form, "at"):
            hint("nothing is due in that time")


schedule.add_command(apply)
schedule.add_command(import_crontab)
