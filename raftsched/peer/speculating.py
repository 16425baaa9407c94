"""The leader's part in twins: it looks for subtasks that take too long, and proposes them."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

from raftsched.core.commands import AnyCommand, Speculate
from raftsched.core.outcomes import Accepted, Outcome
from raftsched.core.speculation import stragglers
from raftsched.core.state import State

#: A look this often.
LOOK_SECONDS = 1.0
PROPOSE_SECONDS = 10.0

logger = logging.getLogger(__name__)

Propose = Callable[[AnyCommand, float], Awaitable[Outcome]]


class Speculating:
    """Proposes twins for what takes too long, some of it at a time."""

    def __init__(self, propose: Propose, now_ms: Callable[[], int]) -> None:
        self._propose = propose
        self._now_ms = now_ms
        self._look_at = 0.0
        #: The fork at which the last look ended.
        self._last = ""
        #: Twins that were made of this peer's proposals.
        self.twins = 0

    def is_due(self, state: State, now: float) -> bool:
        """Is it time to look, by the monotonic clock, and is there something to look at?"""
        return now >= self._look_at and len(state.relations.speculative) > 0

    async def look(self, state: State, now: float, silent: frozenset[str]) -> None:
        """One look; ``silent``: ids of nodes that are given nothing new.  Raises PeerError."""
        self._look_at = now + LOOK_SECONDS
        at = max(self._now_ms(), state.now)
        found, self._last = stragglers(state, at, silent, self._last)
        if not found:
            return
        outcome = await self._propose(Speculate(found), PROPOSE_SECONDS)
        if not isinstance(outcome, Accepted):
            return
        for late, twin in zip(found, outcome.value, strict=True):
            if isinstance(twin, str):
                self.twins += 1
            else:
                logger.debug("no twin of %s: %s %s", late.task_id, twin.reason, twin.detail)
