"""The command line."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import tempfile
import time
from pathlib import Path

import click

from jepsen_like.nemesis import NEMESES
from jepsen_like.net import netns
from jepsen_like.net.base import Net
from jepsen_like.run import Options, Progress, Session
from jepsen_like.workload import WORKLOADS

_DEFAULT_PROGRAM = f"{sys.executable} -m raftsched.cli.main"


class Said(Progress):
    """Lines on stderr, with seconds since the start."""

    def __init__(self) -> None:
        self._began = time.monotonic()

    def say(self, text: str) -> None:
        click.echo(f"{time.monotonic() - self._began:6.1f}  {text}", err=True)


def _nemeses(context: click.Context, parameter: click.Parameter, text: str) -> tuple[str, ...]:
    names = tuple(name for name in text.split(",") if name)
    if names == ("all",):
        return tuple(NEMESES)
    for name in names:
        if name not in NEMESES:
            known = ", ".join(NEMESES)
            raise click.BadParameter(f"{name!r} is none; known are {known}, or all")
    return names


@click.group(invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--workload", type=click.Choice(list(WORKLOADS)), default="mixed", show_default=True)
@click.option("--nemesis", callback=_nemeses, default="kill,pause,partition", show_default=True,
              help="Classes of faults, separated by commas; see 'list'.")  # fmt: skip
@click.option("--seed", type=int, default=None, help="A run's choices; by chance if not given.")
@click.option("--time-limit", type=click.FloatRange(1, 86_400), default=30.0, show_default=True,
              help="Seconds of faults.")  # fmt: skip
@click.option("--peers", type=click.Choice(["3", "5"]), default="3", show_default=True)
@click.option("--backend", type=click.Choice(["auto", "plain", "netns"]), default="auto",
              show_default=True)  # fmt: skip
@click.option("--lease", type=click.FloatRange(1, 600), default=5.0, show_default=True,
              help="Lease of nodes, seconds.")  # fmt: skip
@click.option("--program", default=_DEFAULT_PROGRAM, help="What runs a peer, before 'serve'.")
@click.option("--report", type=click.Path(file_okay=False, path_type=Path), default=None,
              help="Where everything of the run goes; a new directory.")  # fmt: skip
@click.pass_context
def main(
    context: click.Context,
    workload: str,
    nemesis: tuple[str, ...],
    seed: int | None,
    time_limit: float,
    peers: str,
    backend: str,
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
        return
    why_not = netns.why_not() if backend in ("auto", "netns") else "not asked for"
    if backend == "netns" and why_not:
        raise click.ClickException(why_not)
    if not why_not:
        netns.enter()
    elif backend == "auto":
        click.echo(f"backend plain: {why_not}", err=True)
    options = Options(
        workload=workload, nemesis=nemesis, time_limit_seconds=time_limit, peers=int(peers),
        seed=int.from_bytes(os.urandom(3)) if seed is None else seed, lease_seconds=lease,
        program=program,
    )  # fmt: skip
    directory = report or Path(tempfile.mkdtemp(prefix="jepsen-like-"))
    if directory.exists() and any(directory.iterdir()):
        raise click.ClickException(f"{directory} is not empty")
    directory.mkdir(parents=True, exist_ok=True)
    ids = [f"n{number + 1}" for number in range(options.peers)]
    net = Net(ids) if why_not else netns.NetnsNet(ids)
    said = Said()
    said.say(f"{directory}: seed {options.seed}, backend {net.name}")
    asyncio.run(_run(Session(options, directory.resolve(), net, said)))


async def _run(session: Session) -> None:
    task = asyncio.ensure_future(session.go())
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, task.cancel)
    await task
