"""``raftsched bench raft``: which measures are taken, and what they are held against."""

from __future__ import annotations

import asyncio
import json
import os
import platform
import tempfile
import time
from pathlib import Path
from typing import Any

import click

from raftsched.cli.bench.figures import Report, spread
from raftsched.cli.bench.raft.measures import Options, commits, failover, reads
from raftsched.cli.bench.raft.million import million
from raftsched.cli.output import hint

BASE_PORT = 17_500
MEASURES = {"commits": commits, "reads": reads, "failover": failover, "million": million}
#: Bytes of one write of the bare loop, about an entry of 64 commands.
WRITE_BYTES = 16 * 1024
WRITES = 200


@click.command()
@click.option("--only", type=click.Choice(list(MEASURES)), multiple=True, help="Repeatable.")
@click.option("--seconds", type=click.FloatRange(0.2, 600), default=5.0, show_default=True)
@click.option("--rounds", type=click.IntRange(1, 20), default=3, show_default=True)
@click.option(
    "--kills",
    type=click.IntRange(1, 1_000),
    default=20,
    show_default=True,
    help="Leaders killed for the failover times.",
)
@click.option(
    "--tasks",
    type=click.IntRange(1_000),
    default=1_000_000,
    show_default=True,
    help="Tasks in the state while snapshots, laggards and restarts are measured.",
)
@click.option(
    "--soak",
    type=click.FloatRange(0, 86_400),
    default=0.0,
    metavar="SECONDS",
    help="Then full load for so long, counting elections; 600 is what the bar asks for.",
)
@click.option("--base-port", type=click.IntRange(1024, 65_400), default=BASE_PORT)
@click.option(
    "--directory",
    type=click.Path(file_okay=False, exists=True, path_type=Path),
    help="Where the journals lie (in a new folder); the disk matters.  Default: temporary files.",
)
def raft(only: tuple[str, ...], directory: Path | None, **options: Any) -> None:
    """Measure consensus alone; JSON on stdout, progress on stderr.

    Three peers, each a process, on loopback with durable journals; the load runs inside the
    leader's process.  Commits are taken in turns with stock PySyncObj, which keeps its journal in
    memory.  A million tasks need about 3 GiB of memory and a few minutes.
    """
    asked = list(only or MEASURES)
    if options["soak"] and "million" not in asked:
        raise click.UsageError("--soak belongs to the measure 'million'")
    report: Report = {"machine": _machine(), "options": {**options, "measures": asked}}
    with tempfile.TemporaryDirectory(prefix="raftsched-bench-raft-", dir=directory) as made:
        report["machine"]["bare_fdatasync_ms"] = _bare_syncs(Path(made) / "bare")
        for name in asked:
            hint(f"measuring {name}")
            begin = time.monotonic()
            measured = asyncio.run(MEASURES[name](Options(**options, directory=Path(made))))
            report[name] = {**measured, "took_seconds": round(time.monotonic() - begin)}
    click.echo(json.dumps(report, indent=2, ensure_ascii=False))


def _machine() -> Report:
    return {
        "cores": os.cpu_count(),
        "load_average": round(os.getloadavg()[0], 1),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()}",
    }


def _bare_syncs(path: Path) -> Report:
    """What the disk takes for a write and fdatasync of about one entry, milliseconds."""
    samples = []
    with path.open("wb", buffering=0) as file:
        for _ in range(WRITES):
            begin = time.perf_counter()
            file.write(bytes(WRITE_BYTES))
            os.fdatasync(file.fileno())
            samples.append((time.perf_counter() - begin) * 1e3)
    return spread(samples)
