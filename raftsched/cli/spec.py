"""Options that describe one task, and the document they make."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import click


def _pairs(values: tuple[str, ...], option: str) -> dict[str, str]:
    pairs = {}
    for value in values:
        name, equals, rest = value.partition("=")
        if not equals or not name:
            raise click.UsageError(f"{option} {value!r}: write NAME=VALUE")
        pairs[name] = rest
    return pairs


def spec_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options that describe one task; they arrive as ``spec``, ready for the API."""
    options = [
        click.option("--name", help="A name for people."),
        click.option("--queue", help="Queue (default)."),
        click.option("--priority", type=click.IntRange(0, 100), help="0 last, 100 first (50)."),
        click.option("--env", multiple=True, metavar="NAME=VALUE", help="Environment; repeatable."),
        click.option("--label", multiple=True, metavar="NAME=VALUE", help="Label; repeatable."),
        click.option("--cwd", help="Working directory on the node."),
        click.option("--stdin", help="Text for standard input; '-' takes this command's own."),
        click.option("--shell", is_flag=True, help="COMMAND is one line for /bin/sh."),
        click.option("--timeout", metavar="TIME", help="Longest run of one attempt: 30s, 5m."),
        click.option("--grace", metavar="TIME", help="From SIGTERM to SIGKILL (10s)."),
        click.option("--cpu", type=float, help="Cores to reserve."),
        click.option("--memory", metavar="SIZE", help="Memory to reserve: 256MiB."),
        click.option("--strategy", help="Placement: spread (default), binpack."),
        click.option("--attempts", type=click.IntRange(1, 100), help="Tries in all (1)."),
    ]
    for option in reversed(options):
        command = option(command)
    return command


def make_spec(command: tuple[str, ...], options: dict[str, Any]) -> dict[str, Any]:
    """The task document that the options describe; what was not said is left to the server."""
    spec: dict[str, Any] = {"command": list(command)}
    for name in ("name", "queue", "priority", "cwd", "timeout", "grace"):
        if options.get(name) is not None:
            spec[name] = options[name]
    if options["stdin"] is not None:
        taken = sys.stdin.read() if options["stdin"] == "-" else options["stdin"]
        spec["stdin"] = taken
    if options["shell"]:
        if len(command) != 1:
            raise click.UsageError("--shell takes exactly one argument: the line, in quotes")
        spec["shell"] = True
    for name, field_name in (("env", "env"), ("label", "labels")):
        if options[name]:
            spec[field_name] = _pairs(options[name], f"--{name}")
    resources = {k: options[k] for k in ("cpu", "memory") if options[k] is not None}
    if resources:
        spec["resources"] = resources
    if options["strategy"]:
        spec["placement"] = {"strategy": options["strategy"]}
    if options["attempts"]:
        spec["retry"] = {"max_attempts": options["attempts"]}
    return spec
