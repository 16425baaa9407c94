"""The command line.  Exit codes: 0 held, 1 broken or in doubt, 2 usage or something missing."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from pathlib import Path

import click

from jepsen_like import clocks, options
from jepsen_like.attached import Attached, TheirNet
from jepsen_like.disk import mounting
from jepsen_like.history import BadEvidence
from jepsen_like.nemesis import NEMESES, faults_of
from jepsen_like.net import netns
from jepsen_like.net.base import Net
from jepsen_like.net.proxy import ProxyNet
from jepsen_like.recheck import recheck
from jepsen_like.run import Options, Progress, Session
from jepsen_like.series import hunt, run_all
from jepsen_like.suite import PLANTED, SUITES
from jepsen_like.words import told
from jepsen_like.workload import WORKLOADS

#: What runs a peer, unless another program is named.
PROGRAM = f"{sys.executable} -m raftsched.cli.main"
#: Exit codes.
HELD, BROKEN = 0, 1


class Said(Progress):
    """Lines on stderr, with seconds since the start."""

    def __init__(self) -> None:
        self._began = time.monotonic()

    def say(self, text: str) -> None:
        click.echo(f"{time.monotonic() - self._began:6.1f}  {text}", err=True)


@click.group(invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--workload", type=click.Choice(list(WORKLOADS)), default="mixed", show_default=True)
@click.option(
    "--nemesis",
    callback=options.nemeses,
    default="kill,pause,partition",
    show_default=True,
    help="Faults and classes of them, separated by commas; all, none; see 'list'.",
)
@click.option("--seed", type=int, default=None, help="A run's choices; by chance if not given.")
@click.option(
    "--time-limit",
    type=options.Amount(1, 86_400),
    default=30.0,
    show_default=True,
    help="Seconds of faults; what comes before and after takes half a minute.",
)
@click.option("--peers", type=click.Choice(["3", "5"]), default="3", show_default=True)
@click.option(
    "--backend",
    type=click.Choice(["auto", "plain", "proxy", "netns"]),
    default="auto",
    show_default=True,
    help="auto: netns where this machine allows it, else proxy.",
)
@click.option(
    "--disks/--no-disks",
    default=None,
    help="A disk of its own for each machine, whose power can go, by FUSE.  "
    "[default: if a nemesis needs it and it can be had]",
)
@click.option(
    "--single", is_flag=True, help="Never two faults at once, and all peers ready between them."
)
@click.option(
    "--leave-dead",
    is_flag=True,
    help="As many machines as may fail die with the last fault and are not started again.",
)
@click.option(
    "--lease",
    type=options.Amount(1, 600),
    default=5.0,
    show_default=True,
    help="Lease of nodes, seconds.",
)
@click.option(
    "--program",
    default=PROGRAM,
    callback=options.program,
    help="What runs a peer: all before 'serve'.",
)
@click.option(
    "--report",
    type=click.Path(file_okay=False, path_type=Path),
    default=None,
    help="Where everything of the run goes: a directory that is new or empty.",
)
@click.pass_context
def main(
    context: click.Context,
    workload: str,
    nemesis: tuple[str, ...],
    seed: int | None,
    time_limit: float,
    peers: str,
    backend: str,
    disks: bool | None,
    single: bool,
    leave_dead: bool,
    lease: float,
    program: str,
    report: Path | None,
) -> None:
    """Start a cluster, break it, and judge by outside evidence whether it kept its promises.

    \b
    python jepsen-like --workload mixed --nemesis kill,partition --seed 7 --time-limit 60
    python jepsen-like recheck DIR
    """
    if context.invoked_subcommand is not None:
        options.no_words_before(context)
        return
    why_not = netns.why_not() if backend in ("auto", "netns") else "not asked for"
    if backend == "netns" and why_not:
        raise click.UsageError(why_not)
    directory = options.empty(report)
    if not why_not:
        netns.enter("--report", str(directory))
    elif backend == "auto":
        click.echo(f"backend proxy: {why_not}", err=True)
    has_disks = _has_disks(disks, nemesis)
    asked = Options(
        workload=workload,
        nemesis=nemesis,
        time_limit_seconds=time_limit,
        peers=int(peers),
        seed=int.from_bytes(os.urandom(3)) if seed is None else seed,
        lease_seconds=lease,
        program=program,
        has_disks=has_disks,
        is_single=single,
        leaves_dead=leave_dead,
    )
    ids = [f"n{number + 1}" for number in range(asked.peers)]
    net = _net(backend, ids) if why_not else netns.NetnsNet(ids)
    said = Said()
    own = ", disks of their own" if has_disks else ""
    said.say(f"{directory}: {workload}, seed {asked.seed}, backend {net.name}{own}")
    asyncio.run(_run(Session(asked, directory, net, said)))
    _judge(directory)


def _net(backend: str, ids: list[str]) -> Net:
    return Net(ids) if backend == "plain" else ProxyNet(ids)


def _has_disks(wanted: bool | None, nemesis: tuple[str, ...]) -> bool:
    """Raises UsageError for those that were asked for and cannot be had."""
    needed = any(fault.needs_disks for fault in faults_of(nemesis))
    if wanted is False or (wanted is None and not needed):
        return False
    why_not = mounting.why_not()
    if why_not and wanted:
        raise click.UsageError(why_not)
    if why_not:
        click.echo(f"no disks: {why_not}", err=True)
    return not why_not


async def _run(session: Session) -> None:
    task = asyncio.ensure_future(session.go())
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, task.cancel)
    try:
        await task
    except asyncio.CancelledError:
        sys.exit(130)


def _judge(directory: Path) -> None:
    try:
        found = recheck(directory)
    except BadEvidence as error:
        raise click.UsageError(str(error)) from None
    except OSError as error:
        raise click.UsageError(f"{directory}: {error.strerror}") from None
    click.echo(told(found, directory))
    sys.exit(HELD if found.valid is True else BROKEN)


@main.command("recheck")
@click.argument("directory", type=click.Path(exists=True, file_okay=False, path_type=Path))
def recheck_(directory: Path) -> None:
    """Judge a run again by what it left."""
    _judge(directory)


@main.command("list")
def list_() -> None:
    """Workloads, faults, suites and planted bugs."""
    click.echo("workloads")
    for workload in WORKLOADS.values():
        click.echo(f"  {workload.name:<12}{workload.about}")
    for name, faults in NEMESES.items():
        click.echo(f"nemesis {name}")
        for fault in faults:
            click.echo(f"  {fault.name:<20}{fault.about}")
    click.echo("suites")
    for name, plans in SUITES.items():
        click.echo(f"  {name:<12}{len(plans)} runs")
    click.echo("planted bugs")
    for planted in PLANTED:
        click.echo(f"  {planted.name:<36}by {' or '.join(planted.caught_by)}")


_jobs = click.option(
    "--jobs", type=click.IntRange(1, 16), default=2, show_default=True, help="Runs at once."
)
_report = click.option(
    "--report",
    type=click.Path(file_okay=False, path_type=Path),
    default=None,
    help="A new directory with one for each run.",
)
_seed = click.option("--seed", type=int, default=1, show_default=True, help="Of the first run.")


@main.command()
@click.argument("name", type=click.Choice([*SUITES, "soak"]))
@click.option(
    "--hours",
    type=options.Amount(0.01),
    default=4.0,
    show_default=True,
    help="Of the soak: the full suite with ever other seeds.",
)
@_jobs
@_seed
@_report
def suite(name: str, hours: float, jobs: int, seed: int, report: Path | None) -> None:
    """Run a suite; a line for each run, and what all of them come to."""
    seconds = hours * 3600 if name == "soak" else 0.0
    plans = SUITES["full" if name == "soak" else name]
    directory, is_whole = options.empty(report), name != "smoke"
    run = run_all(plans, directory, seed, jobs, for_seconds=seconds, is_whole=is_whole)
    is_held = asyncio.run(run)
    sys.exit(HELD if is_held else BROKEN)


@main.command()
@click.argument("addresses", nargs=-1, required=True, callback=options.addresses)
@click.option(
    "--token-file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    required=True,
    help="The token of its API.",
)
@click.option("--workload", type=click.Choice(list(WORKLOADS)), default="tasks", show_default=True)
@click.option("--seconds", type=options.Amount(1, 86_400), default=60.0, show_default=True)
@click.option("--seed", type=int, default=1, show_default=True)
@click.option(
    "--lease",
    type=options.Amount(1, 600),
    default=15.0,
    show_default=True,
    help="Lease of its nodes, seconds.",
)
@_report
def attach(
    addresses: dict[str, str],
    token_file: Path,
    workload: str,
    seconds: float,
    seed: int,
    lease: float,
    report: Path | None,
) -> None:
    """Judge an empty cluster of yours, while you break it: ID=HOST:PORT of each peer's API.

    \b
    python jepsen-like attach n1=127.0.0.1:8400 n2=127.0.0.1:8410 --token-file TOKEN --seconds 60
    """
    directory = options.empty(report)
    net = TheirNet(addresses)
    token = token_file.read_text(encoding="utf-8").strip()
    theirs = Attached(directory, net, list(addresses), token)
    asked = Options(
        workload=workload,
        time_limit_seconds=seconds,
        peers=len(addresses),
        seed=seed,
        lease_seconds=lease,
    )
    asyncio.run(_run(Session(asked, directory, net, Said(), theirs)))
    _judge(directory)


@main.command()
@click.argument("names", nargs=-1)
@click.option(
    "--program",
    callback=options.program,
    default=f"{sys.executable} -m tests.planted",
    help="What runs a peer with a bug: all before its name.",
)
@_jobs
@_seed
@_report
def mutants(
    names: tuple[str, ...], program: str, jobs: int, seed: int, report: Path | None
) -> None:
    """Start clusters with planted bugs: each must be caught by the checker that is there for it."""
    chosen = [planted for planted in PLANTED if not names or planted.name in names]
    unknown = set(names) - {planted.name for planted in chosen}
    if unknown:
        raise click.UsageError(f"no planted bug {', '.join(sorted(unknown))}; see 'list'")
    is_held = asyncio.run(hunt(chosen, program, options.empty(report), seed, jobs))
    sys.exit(HELD if is_held else BROKEN)


@main.command()
def doctor() -> None:
    """Say what this machine lacks, and what to install for it."""
    lacks = {
        "networks (partition, link)": netns.why_not(),
        "disks (power, disk, torn)": mounting.why_not(),
        "clocks (clock)": clocks.why_not(),
    }
    click.echo("ok       processes (kill, crash, runner, pause, restart)")
    for what, why_not in lacks.items():
        click.echo(f"MISSING  {what}: {why_not}" if why_not else f"ok       {what}")
    sys.exit(BROKEN if any(lacks.values()) else HELD)
