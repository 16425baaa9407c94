"""Commands about tasks: create, look, follow, steer."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, BinaryIO

import click
from click.core import ParameterSource

from raftsched.cli.exits import Exit, Failure, complain, explain
from raftsched.cli.follow import ended
from raftsched.cli.maps import wait_for, what
from raftsched.cli.options import Session, with_session
from raftsched.cli.output import (
    Column,
    Row,
    clean,
    field,
    hint,
    progress,
    show_one,
    show_rows,
)
from raftsched.cli.spec import make_spec, spec_options

if TYPE_CHECKING:
    from raftsched.client.errors import ProblemError
    from raftsched.client.sync import BatchResult, Client, Task

#: A batch reports at most so many refused lines on stderr.
REFUSALS_SHOWN_MAX = 10
#: Parameters of ``submit`` that mean something with ``--batch``.
BESIDE_BATCH = frozenset(
    {"batch", "key", "atomic", "dry_run", "command", "addr", "token_file", "deadline", "form"}
)


def _state(row: Row) -> str:
    return f"{clean(row.get('state'))}{' (paused)' if row.get('paused') else ''}"


def _time(name: str) -> Callable[[Row], str]:
    return lambda row: clean(row.get(name))[:19].replace("T", " ")


COLUMNS = (
    field("id"),
    Column("STATE", _state),
    field("reason"),
    field("node"),
    field("attempt", "ATT"),
    Column("CREATED", _time("created_at")),
    field("name", wide=True),
    field("queue", wide=True),
    field("priority", wide=True),
    Column("STARTED", _time("started_at"), True),
    Column("FINISHED", _time("finished_at"), True),
    field("exit_code", "EXIT", wide=True),
    field("labels", wide=True),
    Column("COMMAND", what),
)


@click.command(context_settings={"allow_interspersed_args": False})
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
@spec_options
@click.option("--key", help="Idempotency key: the same key creates once, however often.")
@click.option("--batch", type=click.File("rb"), metavar="FILE", help="NDJSON, a task a line; '-'.")
@click.option("--atomic", is_flag=True, help="With --batch: all or none (at most 1,000).")
@click.option("--wait", "wait_for_end", is_flag=True, help="Wait for the end; exit code 8 if bad.")
@click.option("--dry-run", is_flag=True, help="Check only; nothing is created.")
@with_session("id")
def submit(session: Session, command: tuple[str, ...], **options: Any) -> None:
    """Create a task that runs COMMAND and print its id; or many with --batch FILE.

    \b
    raftsched submit -- /usr/bin/convert a.png b.jpg
    raftsched submit --shell 'sleep 1; date'
    raftsched submit --attempts 3 --retry-base 10s --timeout 5m -- ./import.sh
    raftsched submit --constraint 'zone = a' --limit billing-api -- ./bill
    raftsched submit --broadcast all -- apt-get update
    raftsched submit --python images:resize a.png 800
    raftsched submit --after "$FIRST" --after "$SECOND:always" -- ./report.sh
    raftsched submit -f workflow.toml --wait
    raftsched submit --batch tasks.ndjson
    """
    if options["batch"] is not None:
        if command:
            raise click.UsageError("give COMMAND or --batch FILE, not both")
        _refuse_beside_batch()
        _submit_batch(session, options)
        return
    if not command and options["document"] is None and not options["python"]:
        raise click.UsageError("COMMAND is missing; for example: raftsched submit -- /bin/date")
    if options["atomic"]:
        raise click.UsageError("--atomic goes with --batch FILE")
    if options["dry_run"] and options["wait_for_end"]:
        raise click.UsageError("--dry-run creates nothing that --wait could wait for")
    spec = make_spec(command, options)
    with session.client() as client:
        task = client.submit(idempotency_key=options["key"], dry_run=options["dry_run"], **spec)
        if options["dry_run"]:
            hint("would be accepted; nothing was created")
            show_one(task, session.form)
            return
        if not options["wait_for_end"]:
            show_one(task, session.form)
            hint(f"follow it with: raftsched logs -f {task.get('id', '')}")
            return
        task = wait_for(client, task) if task.get("fork") else task.wait()
    show_one(task, session.form)
    if task.state != "succeeded":
        raise Failure(ended(task), Exit.TASK_FAILED)


def _refuse_beside_batch() -> None:
    """UsageError for options that say something of one task, or wait for one."""
    context = click.get_current_context()
    given = [
        option.opts[0]
        for option in context.command.params
        if option.name not in BESIDE_BATCH
        and context.get_parameter_source(str(option.name)) is ParameterSource.COMMANDLINE
        and isinstance(option, click.Option)
    ]
    if given:
        raise click.UsageError(
            f"{', '.join(given)} cannot go with --batch: each line of the file says it for its task"
            if "--wait" not in given
            else "--wait cannot go with --batch; 'raftsched wait' takes the ids it prints"
        )


def _submit_batch(session: Session, options: dict[str, Any]) -> None:
    def report(done: int) -> None:
        progress(f"{done:,} tasks answered")

    with session.client() as client:
        result = client.submit_batch(
            _lines(options["batch"]),
            idempotency_key=options["key"],
            atomic=options["atomic"],
            dry_run=options["dry_run"],
            progress=report,
        )
    progress("")
    if not options["dry_run"] or session.form != "id":
        _show_batch(result, session.form)
    for position, problem in result.refused[:REFUSALS_SHOWN_MAX]:
        why = problem.get("detail") or problem.get("code") or problem.get("title")
        complain(f"line {position + 1} refused: {clean(why)}")
    if result.refused:
        message = f"{len(result.refused)} of {len(result.ids)} tasks refused"
        raise Failure(message, Exit.PARTIAL if result.accepted else Exit.ERROR)
    if options["dry_run"]:
        hint(f"{result.accepted:,} tasks would be accepted; nothing was created")
    else:
        hint(f"{result.created:,} tasks created")


def _show_batch(result: BatchResult, form: str) -> None:
    problems = dict(result.refused)
    rows: Iterator[dict[str, Any]] = (
        {"line": n + 1, "id": i, "code": problems.get(n, {}).get("code")}
        for n, i in enumerate(result.ids)
    )
    if form == "id":
        rows = (row for row in rows if row["id"])
    show_rows(rows, (field("line"), field("id"), field("code")), form)


def _lines(file: BinaryIO) -> Iterator[dict[str, Any]]:
    for number, line in enumerate(file, start=1):
        if not line.strip():
            continue
        try:
            task = json.loads(line)
        except ValueError as error:
            raise Failure(f"line {number} is not JSON: {error}", Exit.USAGE) from None
        if not isinstance(task, dict):
            raise Failure(f"line {number} is not a JSON object", Exit.USAGE)
        yield task


@click.command()
@click.option("--state", help="Only these, for example running,failed.")
@click.option("--node", help="Only tasks on this node.")
@click.option("--queue", help="Only tasks of this queue.")
@click.option("--parent", help="Only subtasks of this task.")
@click.option("--schedule", help="Only tasks that this schedule made.")
@click.option("--label", help="Only tasks with this label, as NAME:VALUE.")
@click.option("-q", "--search", "q", help="Only tasks whose name or command contains this.")
@click.option("-n", "--limit", type=click.IntRange(1), default=50, show_default=True)
@click.option("--all", "everything", is_flag=True, help="All, however many.")
@with_session()
def ls(session: Session, limit: int, everything: bool, **filters: str | None) -> None:
    """List tasks, newest first."""
    with session.client() as client:
        tasks = client.list(
            limit=None if everything else limit,
            page=1_000 if everything else 100,
            **{name: value for name, value in filters.items() if value},
        )
        count = show_rows(tasks, COLUMNS, session.form)
    if not count:
        hint("no tasks" + (" match" if any(filters.values()) else ""))
    elif count == limit and not everything:
        hint(f"the newest {limit} are shown; --all or --limit N shows more")


@click.command()
@click.argument("task_id")
@click.option("--attempts", is_flag=True, help="List its attempts instead.")
@with_session()
def show(session: Session, task_id: str, attempts: bool) -> None:
    """Show one task."""
    names = ("number", "status", "node", "token", "exit_code", "signal", "reason")
    times = (Column(n.upper(), _time(f"{n}_at")) for n in ("started", "finished"))
    columns = (*(field(name) for name in names), *times)
    with session.client() as client:
        if attempts:
            show_rows(client.attempts(task_id), columns, session.form, key="number")
        else:
            show_one(client.get(task_id), session.form)


@click.command()
@click.argument("task_ids", nargs=-1, required=True)
@click.option("--timeout", type=click.FloatRange(0), metavar="SECONDS", help="Exit code 7 then.")
@with_session()
def wait(session: Session, task_ids: tuple[str, ...], timeout: float | None) -> None:
    """Wait until tasks have ended; exit code 8 if one did not succeed."""
    import time

    deadline = None if timeout is None else time.monotonic() + timeout
    done: list[Task] = []
    with session.client() as client:
        for task_id in task_ids:
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            done.append(client.wait(task_id, left))
    show_rows(done, COLUMNS, session.form)
    bad = [task for task in done if task.state != "succeeded"]
    if bad:
        raise Failure(ended(bad[0]), Exit.TASK_FAILED)


def each(
    session: Session,
    task_ids: tuple[str, ...],
    done_to: str,
    act: Callable[[Client, str], Row],
) -> None:
    """Do one thing to several tasks: all are tried, the codes of failures are told apart."""
    from raftsched.client.errors import ProblemError

    done: list[Row] = []
    codes: list[Exit] = []
    with session.client() as client:
        for task_id in task_ids:
            try:
                done.append(act(client, task_id))
            except ProblemError as error:
                message, code = explain(error)
                message = _refusal(client, task_id, done_to, error) or message
                complain(message if task_id in message else f"{task_id}: {message}")
                codes.append(code)
    show_rows(done, COLUMNS, session.form)
    if codes:
        raise click.exceptions.Exit(Exit.PARTIAL if done else codes[0])


def _refusal(client: Client, task_id: str, done_to: str, error: ProblemError) -> str:
    """What, which and what now, for refusals that are about the task; else nothing."""
    from raftsched.client.errors import ClientError, TaskNotTerminal, TaskTerminal

    if error.code == "unknown-task":
        return f"no task {task_id}; 'raftsched ls' lists the tasks there are"
    if isinstance(error, TaskNotTerminal):
        return f"task {task_id} has not ended and cannot be {done_to}; cancel it first, or wait"
    if not isinstance(error, TaskTerminal):
        return ""
    try:
        how = f" ({clean(client.get(task_id).state)})"
    except ClientError:
        how = ""
    return f"task {task_id} has ended{how} and cannot be {done_to}"
