"""Options that commands share, and the client that those of one-shot commands lead to."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from raftsched.cli.output import FORMATS

if TYPE_CHECKING:
    from raftsched.client.sync import Client

F = TypeVar("F", bound=Callable[..., Any])

#: While nobody listens anywhere, a person waits no longer than this.
UNREACHABLE_SECONDS = 2.0


def config_option(help_text: str) -> Callable[[F], F]:
    """``--config`` of the commands that are a peer, or stand in for one; as ``config_path``."""
    return click.option(
        "--config",
        "config_path",
        type=click.Path(path_type=Path),
        default=Path("cluster.toml"),
        show_default=True,
        metavar="FILE",
        help=help_text,
    )


def data_dir_option(help_text: str) -> Callable[[F], F]:
    """``--data-dir`` of the same; required, for a wrong guess would be an empty peer."""
    return click.option(
        "--data-dir",
        type=click.Path(path_type=Path),
        required=True,
        metavar="DIR",
        help=help_text,
    )


def apps_options(command: F) -> F:
    """``--app`` and ``--workers`` of the commands that are peers, as ``apps`` and ``workers``."""
    app = click.option(
        "--app",
        "apps",
        multiple=True,
        metavar="MODULE:NAME",
        help="Call the functions of this application; may be repeated.",
    )
    workers = click.option(
        "--workers",
        type=click.IntRange(1, 256),
        metavar="N",
        help="Worker processes of each application for ordinary functions.",
    )
    return app(workers(command))


class Session:
    """What the shared options said; makes the client only when it is needed."""

    def __init__(self, addr: str, token_file: str, deadline: float, form: str) -> None:
        self.addr = addr
        self.token_file = token_file
        self.deadline = deadline
        self.form = form

    def client(self) -> Client:
        """A client of the cluster the options, environment or context name."""
        # Imported here: --help and usage errors must not pay for it.
        from raftsched.client.sync import Client

        return Client(
            self.addr or None,
            token_file=self.token_file or None,
            timeout_seconds=self.deadline,
            unreachable_seconds=UNREACHABLE_SECONDS,
        )


def with_session(form: str = "table") -> Callable[[F], Callable[..., Any]]:
    """Give a command ``--addr``, ``--token-file``, ``--deadline``, ``-o`` as one ``session``."""

    def decorate(function: F) -> Callable[..., Any]:
        def wrapper(addr: str, token_file: str, deadline: float, form: str, **options: Any) -> Any:
            return function(Session(addr, token_file, deadline, form), **options)

        wrapper.__name__, wrapper.__doc__ = function.__name__, function.__doc__
        # click collects the options declared below on the function it decorates.
        wrapper.__click_params__ = getattr(function, "__click_params__", [])  # type: ignore[attr-defined]
        for option in _options(form):
            option(wrapper)
        return wrapper

    return decorate


def _options(form: str) -> list[Callable[[Any], Any]]:
    return [
        click.option(
            "--deadline",
            type=click.FloatRange(0.1, 3600),
            default=30.0,
            metavar="SECONDS",
            help="How long to try, retries included (30).",
        ),
        click.option(
            "--token-file", default="", metavar="FILE", help="Also RAFTSCHED_TOKEN[_FILE]."
        ),
        click.option(
            "--addr",
            default="",
            metavar="HOST:PORT,...",
            help="Peers to ask; also RAFTSCHED_ADDR. Default: those of 'raftsched dev'.",
        ),
        click.option(
            "-o",
            "--output",
            "form",
            type=click.Choice(FORMATS),
            default=form,
            help=f"Format of the result ({form}).",
        ),
    ]
