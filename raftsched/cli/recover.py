"""``raftsched recover``: go on with the one survivor of a lost majority, offline and by force."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import TYPE_CHECKING

import click

from raftsched.cli.exits import Exit, Failure, complain
from raftsched.cli.options import config_option, data_dir_option

if TYPE_CHECKING:
    from raftsched.peer.recovery import Found


_WRONG = (
    "THIS STATE IS NOT WHAT THE MAJORITY HAD: some of what it answers is wrong, and nothing can "
    "say what; compare evidence/state.snap with whatever else there is before you rely on it"
)


@click.command()
@config_option("The cluster's configuration.")
@click.option("--id", "peer_id", required=True, help="The survivor; it must be stopped.")
@data_dir_option("The survivor's directory; keep a copy of it.")
@click.option(
    "--yes-i-accept-data-loss", "accepts", is_flag=True, help="Do it; without, only look."
)
@click.option(
    "--even-diverged",
    is_flag=True,
    help="Also a peer that stopped as one whose state is not the majority's; if no other is left.",
)
def recover(
    config_path: Path, peer_id: str, data_dir: Path, accepts: bool, even_diverged: bool
) -> None:
    """Make one survivor the whole cluster when a majority of the peers is lost for good.

    Look at every survivor first, and take the one with the highest term, then the highest index.
    Never do it on two of them: that makes two clusters.
    """
    from raftsched.peer.config import ConfigError, parse_config
    from raftsched.peer.recovery import JournalFailed, Recovery, StorageError

    try:
        config, _ = parse_config(config_path, peer_id, data_dir)
        recovery = Recovery(config, even_diverged=even_diverged)
    except (ConfigError, StorageError, JournalFailed, OSError) as error:
        raise Failure(str(error), Exit.CHECK_FAILED) from None
    try:
        found = recovery.found()
        _show(peer_id, found)
        if accepts:
            recovery.go_on_alone()
    except (StorageError, JournalFailed, OSError) as error:
        raise Failure(str(error)) from None
    finally:
        recovery.close()
    if not accepts:
        complain("nothing was changed; --yes-i-accept-data-loss does it")
        raise click.exceptions.Exit(Exit.CHECK_FAILED)
    click.echo(
        f"{peer_id} is the whole cluster now: start it, then wipe {_named(found.others)} and add "
        "each under a new id ('raftsched peers add')"
    )
    if found.diverged:
        complain(_WRONG)


def _show(peer_id: str, found: Found) -> None:
    stamped = "under the snapshot"
    if found.stamped_at is not None:
        when = dt.datetime.fromtimestamp(found.stamped_at / 1000, dt.UTC)
        stamped = when.isoformat(timespec="milliseconds")
    click.echo(f"peer        {peer_id} ({'voter' if found.is_voter else 'learner, NO VOTER'})")
    click.echo(f"term        {found.term}")
    click.echo(f"last index  {found.last_index}")
    click.echo(f"stamped     {stamped}")
    click.echo(f"snapshot    {found.snapshot_index or 'none'}")
    click.echo(f"voters      {_named(found.voters)}")
    click.echo(f"given up    {_named(found.others)}")
    complain(
        f"what {_named(found.others)} acknowledged after index {found.last_index} is lost for "
        "good, answered requests among it; what is in this log and nobody acknowledged takes effect"
    )
    if found.others:
        complain(
            f"whichever of {_named(found.others)} still lives stops for good (exit code 13) when "
            "it meets this peer: if enough of them can come back, start them and do not do this"
        )
    if found.diverged:
        complain(found.diverged)
        complain(_WRONG)


def _named(peer_ids: tuple[str, ...]) -> str:
    return ", ".join(peer_ids) or "nobody"
