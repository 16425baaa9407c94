"""What every peer's log file must tell of the cluster as a whole, whoever asked for it."""

from __future__ import annotations

import logging
from datetime import UTC, datetime

from raftsched.core.commands import ActivateVersion, Entry, ResetClock
from raftsched.core.outcomes import Accepted, Applied

logger = logging.getLogger(__name__)


def log_changes(index: int, entry: Entry, applied: Applied) -> None:
    """Say what an applied entry changed of the cluster's version and clock."""
    for batch, outcomes in zip(entry.batches, applied.outcomes, strict=True):
        for command, outcome in zip(batch.commands, outcomes, strict=True):
            if not isinstance(outcome, Accepted):
                continue
            if isinstance(command, ActivateVersion):
                logger.warning(
                    "version %d is in force from entry %d on: programs that do not know it cannot "
                    "take part any more",
                    command.version,
                    index,
                )
            elif isinstance(command, ResetClock):
                logger.warning(
                    "the cluster's clock was set from %s to %s in entry %d, by %s through peer %s",
                    instant(outcome.value),
                    instant(command.now),
                    index,
                    command.by or "nobody named",
                    batch.origin,
                )


def instant(ms: int) -> str:
    """Milliseconds since the Unix epoch for a reader; whatever they are."""
    try:
        return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds")
    except (ValueError, OverflowError, OSError):
        return f"{ms} ms"
