"""``raftsched run``, ``logs`` and ``result``: what attempts wrote and left, byte for byte."""

from __future__ import annotations

import sys
from contextlib import closing
from typing import TYPE_CHECKING, Any

import click

from raftsched.cli.exits import Exit, complain, explain
from raftsched.cli.options import Session, with_session
from raftsched.cli.output import clean, hint
from raftsched.cli.spec import make_spec, spec_options

if TYPE_CHECKING:
    from raftsched.client.sync import Client, Task


@click.command(context_settings={"allow_interspersed_args": False})
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
@spec_options
@with_session("id")
def run(session: Session, command: tuple[str, ...], **options: Any) -> None:
    """Run COMMAND somewhere in the cluster: its output here, its exit code as ours.

    Ctrl-C detaches; the task goes on.

    \b
    raftsched run -- uname -a
    raftsched run --python images:resize a.png 800
    """
    if not command and options["document"] is None and not options["python"]:
        raise click.UsageError("COMMAND is missing; for example: raftsched run -- uname -a")
    spec = make_spec(command, options)
    split = [name for name in ("broadcast", "map", "workflow") if spec.get(name)]
    if split:
        raise click.UsageError(f"run follows one task, no {split[0]}: raftsched submit --wait")
    with session.client() as client:
        task = client.submit(**spec)
        try:
            task = _follow_to_end(client, task)
        except KeyboardInterrupt:
            hint(f"\ndetached; {task.id} goes on. Stop it with: raftsched cancel {task.id}")
            raise
    raise click.exceptions.Exit(_exit_code(task))


def _follow_to_end(client: Client, task: Task) -> Task:
    """Copy the output of every attempt as it comes; the task when it has ended."""
    seen = 0
    while True:
        task = _wait_for_attempt(client, task, seen)
        number = int(task.get("attempt") or 0)
        if number > seen:
            seen = number
            _copy_output(client, task, number)
        if task.is_terminal:
            return task
        task = client.get(task.id)
        if task.is_terminal and int(task.get("attempt") or 0) <= seen:
            return task


def _wait_for_attempt(client: Client, task: Task, seen: int) -> Task:
    """The task once it has an attempt after ``seen``, or has ended."""
    while not task.is_terminal:
        is_new = int(task.get("attempt") or 0) > seen
        if is_new and task.state != "assigned":
            return task
        task = client.watch_task(task)
    return task


def _copy_output(client: Client, task: Task, number: int) -> None:
    from raftsched.client.errors import ClientError

    try:
        with closing(client.output(task.id, number, follow=True)) as pieces:
            for piece in pieces:
                sys.stdout.buffer.write(piece)
                sys.stdout.buffer.flush()
    except ClientError as error:
        # The output is a convenience, the exit code is the result: go on to it.
        complain(f"output of attempt {number}: {explain(error)[0]}")


def _exit_code(task: Task) -> int:
    """The program's own code; 128 + n for a signal; 8 when there is neither."""
    if task.state == "succeeded":
        return 0
    code = task.get("exit_code")
    if isinstance(code, int) and code > 0:
        return code
    complain(ended(task))
    number = task.get("signal")
    if isinstance(number, int) and number > 0:
        return 128 + number
    return Exit.TASK_FAILED


@click.command()
@click.argument("task_id")
@click.option("-f", "--follow", is_flag=True, help="Go on until the attempt has ended.")
@click.option("--attempt", type=click.IntRange(1), help="Which one (the latest).")
@click.option("--tail", type=click.IntRange(1), metavar="BYTES", help="Only the last so many.")
@with_session()
def logs(session: Session, task_id: str, follow: bool, **options: Any) -> None:
    """Print a task's output as it is; Ctrl-C while following detaches."""
    with session.client() as client:
        task = client.get(task_id)
        if task.get("subtasks"):
            ids = " ".join(clean(part.get("id")) for part in client.tree(task_id)["items"][:3])
            hint(f"{task_id} was split; its subtasks have the output: {ids} ...")
            return
        if follow:
            task = _wait_for_attempt(client, task, 0)
        if not task.get("attempt"):
            hint(f"{task_id} is {task.state}: it has not run yet")
            return
        pieces = client.output(
            task_id,
            options["attempt"] or int(task["attempt"]),
            follow=follow,
            tail=options["tail"],
        )
        for piece in pieces:
            sys.stdout.buffer.write(piece)
            sys.stdout.buffer.flush()


@click.command()
@click.argument("task_id")
@click.option("--attempt", type=click.IntRange(1), help="Which one (the latest).")
@with_session()
def result(session: Session, task_id: str, attempt: int | None) -> None:
    """Print what a task left as its result: JSON, as it was left.

    Exit code 3 when there is none, or none yet.
    """
    with session.client() as client:
        sys.stdout.buffer.write(client.result_json(task_id, attempt) + b"\n")
        sys.stdout.buffer.flush()


def ended(task: Task) -> str:
    """How a task ended, for people."""
    reason = f" ({clean(task.get('reason'))})" if task.get("reason") else ""
    code = task.get("exit_code")
    exit_text = f", exit code {code}" if isinstance(code, int) else ""
    return f"task {task.id} ended {task.state}{reason}{exit_text}"
