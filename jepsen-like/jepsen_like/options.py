"""What may stand on the command line: amounts, names of faults, programs, directories."""

from __future__ import annotations

import math
import shlex
import shutil
import tempfile
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from jepsen_like.nemesis import NEMESES, faults_of

#: Of a run's directory: sockets in it have names of at most 107.
PATH_BYTES_MAX = 96


class Amount(click.FloatRange):
    """A float range of which nan is no part, as the usual comparisons have it, nor infinity."""

    def convert(
        self, value: Any, parameter: click.Parameter | None, context: click.Context | None
    ) -> float:
        number = float(super().convert(value, parameter, context))
        if not math.isfinite(number):
            self.fail(f"{value} is no amount.", parameter, context)
        return number


def nemeses(context: click.Context, parameter: click.Parameter, text: str) -> tuple[str, ...]:
    """Faults and classes of them, by their names."""
    names = tuple(name for name in text.split(",") if name and name != "none")
    try:
        faults_of(names)
    except KeyError as error:
        known = ", ".join(NEMESES)
        raise click.BadParameter(f"{error} is none; classes are {known}; see 'list'") from None
    return names


def program(context: click.Context, parameter: click.Parameter, text: str) -> str:
    """Words of a command whose first is there to be run."""
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise click.BadParameter(f"{text}: {error}") from None
    if not words or shutil.which(words[0]) is None:
        raise click.BadParameter(f"{words[0] if words else 'nothing'!r} is no program here")
    return text


def addresses(
    context: click.Context, parameter: click.Parameter, words: tuple[str, ...]
) -> dict[str, str]:
    """``ID=HOST:PORT`` of peers, each once."""
    found: dict[str, str] = {}
    for word in words:
        peer, _, address = word.partition("=")
        host, _, port = address.rpartition(":")
        if not (peer and host and port.isdecimal()) or peer in found:
            raise click.BadParameter(f"{word!r} is not ID=HOST:PORT of another peer")
        found[peer] = address
    return found


def no_words_before(context: click.Context) -> None:
    """Options of a run mean nothing to a command.  Raises UsageError."""
    for name in context.params:
        if context.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            said = f"--{name.replace('_', '-')} is of a run: it means nothing to "
            raise click.UsageError(f"{said}{context.invoked_subcommand}, or stands behind it")


def empty(report: Path | None) -> Path:
    """A directory that is new or empty.  Raises UsageError."""
    try:
        directory = (report or Path(tempfile.mkdtemp(prefix="jepsen-like-"))).resolve()
        if len(bytes(directory)) > PATH_BYTES_MAX:
            raise click.UsageError(
                f"{directory} is too long a name for the sockets in it: "
                f"{len(bytes(directory))} bytes, at most {PATH_BYTES_MAX}"
            )
        if directory.exists() and any(directory.iterdir()):
            raise click.UsageError(f"{directory} is not empty")
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise click.UsageError(f"{report}: {error.strerror}") from None
    return directory
