"""Refused connections in the log: one clear line each, and never a flood of them."""

from __future__ import annotations

import logging
from collections.abc import Callable

logger = logging.getLogger(__name__)

#: The same refusal of the same peer is told again after this long.
REPEAT_SECONDS = 60.0
#: Different lines in that time; whoever can reach the port must not fill the log.
LINES_MAX = 50


class Refusals:
    """Tells each refusal once a minute."""

    def __init__(self, time: Callable[[], float]) -> None:
        self._time = time
        #: (whom, why) -> when it was told; oldest first.
        self._told: dict[tuple[str, str], float] = {}
        self._full_at = -REPEAT_SECONDS

    def tell(self, whom: str, why: str, line: str) -> None:
        """Log ``line`` unless it was for the same ``whom`` and ``why`` within the minute."""
        now = self._time()
        while self._told and next(iter(self._told.values())) <= now - REPEAT_SECONDS:
            del self._told[next(iter(self._told))]
        if (whom, why) in self._told:
            return
        if len(self._told) < LINES_MAX:
            self._told[whom, why] = now
            logger.warning("%s", line)
        elif self._full_at <= now - REPEAT_SECONDS:
            self._full_at = now
            logger.warning("too many different refusals; some are not logged for a minute")
