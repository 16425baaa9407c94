"""The leader's part in schedules: it reckons which instants are due, and proposes them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

import msgspec

from raftsched.core.commands import AnyCommand, Fire, FireSlots
from raftsched.core.outcomes import Accepted, Outcome, Rejected
from raftsched.core.reckon import reckon
from raftsched.core.schedule import LATE_MS, Schedule
from raftsched.core.state import State
from raftsched.core.versions import SCHEDULES

#: Schedules fired in one entry, and instants reckoned for it, about.
FIRES_MAX = 200
INSTANTS_MAX = 2_000
PROPOSE_SECONDS = 10.0

logger = logging.getLogger(__name__)

Propose = Callable[[AnyCommand, float], Awaitable[Outcome]]


class Firing:
    """Fires what is due, some schedules at a time."""

    def __init__(self, propose: Propose, now_ms: Callable[[], int]) -> None:
        self._propose = propose
        self._now_ms = now_ms
        #: Schedules that this program cannot reckon, and the version that they had.
        self._unknown: dict[str, int] = {}
        #: Instants that were decided by this peer's fires, and those of them that were late.
        self.fired = 0
        self.late = 0

    def due(self, state: State) -> int:
        """When a schedule is to be looked at first, in milliseconds; 0: none is."""
        return state.firings.due.first() if state.version >= SCHEDULES else 0

    async def run(self, state: State, is_leading: Callable[[], bool]) -> None:
        """Fire until nothing is due, or this peer does not lead.  Raises PeerError."""
        while is_leading() and 0 < self.due(state) <= self._now_ms():
            fires = self._fires(state)
            if not fires:
                return
            outcome = await self._propose(FireSlots(fires), PROPOSE_SECONDS)
            if not isinstance(outcome, Accepted):
                return
            refused = [one for one in outcome.value if isinstance(one, Rejected)]
            for fire, one in zip(fires, outcome.value, strict=True):
                if isinstance(one, Accepted):
                    self._count(fire, state.now)
            for one in refused:
                logger.debug("not fired: %s %s", one.reason, one.detail)
            if len(refused) == len(fires):
                return  # Somebody changed them; the next pass looks again.
            await asyncio.sleep(0)  # Whatever else there is to do has its turn in between.

    def _count(self, fire: Fire, now: int) -> None:
        passed = fire.passed[2] if fire.passed is not None else 0
        self.fired += passed + len(fire.instants)
        self.late += passed + sum(at < now - LATE_MS for at in fire.instants)

    def _fires(self, state: State) -> tuple[Fire, ...]:
        now = self._now_ms()
        fires: list[Fire] = []
        instants = 0
        for name in state.firings.due.due(now, FIRES_MAX + len(self._unknown)):
            row = state.schedules.get(name)
            fire = None if row is None else self._reckon(row, now)
            if fire is not None:
                fires.append(fire)
                instants += len(fire.instants) + (fire.passed[2] if fire.passed else 0)
            if len(fires) >= FIRES_MAX or instants >= INSTANTS_MAX:
                break
        return tuple(fires)

    def _reckon(self, row: Schedule, now: int) -> Fire | None:
        if self._unknown.get(row.name) == row.version:
            return None
        try:
            fire = reckon(row, now)
        except (msgspec.DecodeError, KeyError) as error:
            logger.error("schedule %s cannot be reckoned by this peer: %s", row.name, error)
            self._unknown[row.name] = row.version
            return None
        self._unknown.pop(row.name, None)
        return fire
