"""``raftsched bench schedules``: which cases, and how much of each."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import click

from raftsched.cli.bench.cluster import BASE_PORT, Report, this_machine
from raftsched.cli.bench.schedules.cases import Options, aligned, dense, instant
from raftsched.cli.bench.schedules.failover import failover
from raftsched.cli.output import hint

CASES = {"dense": dense, "aligned": aligned, "instant": instant, "failover": failover}


@click.command()
@click.option("--only", type=click.Choice(list(CASES)), multiple=True, help="Repeatable.")
@click.option(
    "--minutes",
    type=click.FloatRange(0.1, 600),
    default=10.0,
    show_default=True,
    help="Of 'dense' and of 'aligned', each.",
)
@click.option(
    "--schedules",
    type=click.IntRange(2, 20_000),
    default=1_800,
    show_default=True,
    help="Of these two: five in nine every 5 s, the others every 10 s.",
)
@click.option(
    "--at-once",
    type=click.IntRange(1, 20_000),
    default=5_000,
    show_default=True,
    help="Schedules of 'instant'.",
)
@click.option(
    "--kills",
    type=click.IntRange(1, 1_000),
    default=50,
    show_default=True,
    help="Leaders killed in 'failover'.",
)
@click.option("--base-port", type=click.IntRange(1024, 65_400), default=BASE_PORT)
def schedules(only: tuple[str, ...], **options: Any) -> None:
    """Count slots of schedules that are missed, run twice or late; JSON on stdout.

    Three peers of its own for each case; the runs are Python functions that note their start in a
    file, which is what counts.  Takes about half an hour as it comes.
    """
    asked = list(only or CASES)
    report: Report = {"machine": this_machine(), "options": {**options, "cases": asked}}
    for name in asked:
        hint(f"case {name}")
        with tempfile.TemporaryDirectory(prefix="raftsched-bench-") as directory:
            report[name] = CASES[name](Options(**options, directory=Path(directory)))
    click.echo(json.dumps(report, indent=2))
