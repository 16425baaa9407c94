"""``raftsched version``."""

from __future__ import annotations

import platform

import click

from raftsched import __version__


@click.command()
def version() -> None:
    """Print the version of raftsched and of the interpreter."""
    click.echo(f"raftsched {__version__} (Python {platform.python_version()})")
