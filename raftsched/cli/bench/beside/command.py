"""``raftsched bench beside``.

Rules
1. One round has every candidate once, so what else the machine does hits all alike; a ratio is of
   two of the same round, and the median of the rounds is given.
2. All have the same number of worker processes on the same machine, and what each promises stands
   beside its number: none of the others promises what we do.
3. What is not installed is left out with a line that says how to install it.
"""

from __future__ import annotations

import json
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from raftsched.cli.bench.beside.tasks import measure_tasks
from raftsched.cli.bench.beside.writes import measure_writes
from raftsched.cli.bench.cluster import BASE_PORT, Report, this_machine

#: Where ``make bench`` puts the packages of the others.
ENVIRONMENT = Path(".venv-compare", "bin", "python")


@click.command()
@click.option("--seconds", type=click.FloatRange(0.2, 600), default=5.0, show_default=True)
@click.option("--rounds", type=click.IntRange(1, 20), default=3, show_default=True)
@click.option("--tasks", type=click.IntRange(1), default=10_000, show_default=True)
@click.option(
    "--python",
    default="",
    metavar="FILE",
    help="The interpreter that has celery, dramatiq and huey.  [default: .venv-compare's, or ours]",
)
@click.option("--only", type=click.Choice(["writes", "tasks"]), help="Leave the other out.")
@click.option("--base-port", type=click.IntRange(1024, 65_400), default=BASE_PORT)
def beside(
    seconds: float, rounds: int, tasks: int, python: str, only: str | None, base_port: int
) -> None:
    """Measure in turns with etcd, Celery, Dramatiq and Huey; JSON on stdout.

    Durable writes beside etcd's, and no-op tasks from the first submission to the last end beside
    the queues that keep theirs in one Redis.
    """
    report: Report = {"machine": this_machine()}
    with ended_by_sigterm():
        if only != "tasks":
            report["writes"] = measure_writes(seconds, rounds, base_port)
        if only != "writes":
            report["tasks"] = measure_tasks(python or _interpreter(), tasks, rounds, base_port)
    click.echo(json.dumps(report, indent=2))


def _interpreter() -> str:
    return str(ENVIRONMENT.absolute()) if ENVIRONMENT.exists() else sys.executable


@contextmanager
def ended_by_sigterm() -> Iterator[None]:
    """Let SIGTERM unwind the block, so that everything started in it is stopped."""

    def leave(*_: object) -> None:
        raise SystemExit(128 + signal.SIGTERM)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
