"""``raftsched completion``: what a shell needs to complete commands and options."""

from __future__ import annotations

from typing import Any

import click
from click.shell_completion import get_completion_class

SHELLS = ("bash", "zsh", "fish")
#: By this variable the shell's script asks the program.
VARIABLE = "_RAFTSCHED_COMPLETE"


@click.command()
@click.argument("shell", type=click.Choice(SHELLS))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print what makes SHELL complete commands and options.

    \b
    bash: add to ~/.bashrc   eval "$(raftsched completion bash)"
    zsh:  add to ~/.zshrc    eval "$(raftsched completion zsh)"
    fish: raftsched completion fish > ~/.config/fish/completions/raftsched.fish
    """
    found: Any = get_completion_class(shell)
    click.echo(found(ctx.find_root().command, {}, "raftsched", VARIABLE).source())
