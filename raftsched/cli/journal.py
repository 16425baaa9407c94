"""``raftsched journal``: what the cluster decided, and when, read off a stopped peer."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from raftsched.cli.exits import Exit, Failure, complain

if TYPE_CHECKING:
    from raftsched.peer.replaying import About, Replay


@click.group()
def journal() -> None:
    """The log of a stopped peer."""


@journal.command("export")
@click.argument("data_dir", type=click.Path(file_okay=False, path_type=Path), metavar="DATA_DIR")
@click.option(
    "--from", "first", type=click.IntRange(1), default=1, metavar="INDEX", help="Print from here."
)
@click.option("--to", "last", type=click.IntRange(1), metavar="INDEX", help="Print up to here.")
def export(data_dir: Path, first: int, last: int | None) -> None:
    """Print what each entry of a stopped peer's log did, as JSON lines.

    Begins with the oldest snapshot that is left, applies the log to it once more, and changes
    nothing in the directory.  The peer cannot be started meanwhile.
    """
    from raftsched.peer.errors import UpgradeNeeded
    from raftsched.peer.replaying import BadEntry, Damaged, Replay, StorageError

    if last is not None and last < first:
        raise click.UsageError(f"--to {last} lies before --from {first}")
    try:
        replay = Replay(data_dir)
    except Damaged as error:
        raise Failure(str(error), Exit.DAMAGED) from None
    except StorageError as error:
        raise Failure(str(error), Exit.CHECK_FAILED) from None
    except UpgradeNeeded as error:
        raise Failure(str(error), Exit.UPGRADE_NEEDED) from None
    try:
        _warn(replay.about, first)
        _print(replay, first, last)
    except UpgradeNeeded as error:
        raise Failure(str(error), Exit.UPGRADE_NEEDED) from None
    except BadEntry as error:
        raise Failure(f"{data_dir}: {error}", Exit.DAMAGED) from None
    finally:
        replay.close()


def _warn(about: About, first: int) -> None:
    if about.torn_bytes:
        complain(f"{about.torn_bytes} bytes of an unfinished write at the end were passed over")
    if about.base_index >= first:
        complain(
            f"the entries up to {about.base_index} are compacted away; the first one is "
            f"{about.base_index + 1}"
        )


def _print(replay: Replay, first: int, last: int | None) -> None:
    import msgspec

    from raftsched.api.journal_views import entry_view, journal_view

    encoder = msgspec.json.Encoder()
    out = sys.stdout.buffer
    out.write(encoder.encode(journal_view(replay.about)) + b"\n")
    for step in replay.steps():
        if last is not None and step.index > last:
            break
        if step.index >= first:
            out.write(encoder.encode(entry_view(replay.state, step)) + b"\n")
    out.flush()
