"""Keeps the cluster's time while this peer leads: stamps entries, and gives leadership to a peer
with a better clock when its own is alone."""

from __future__ import annotations

import logging
from collections.abc import Callable

from raftsched.core.commands import Entry
from raftsched.core.versions import BOUNDED_TIME, written
from raftsched.peer.replica import Replica
from raftsched.peer.stamping import Head, Reading, Stamper
from raftsched.raft.host import Clock
from raftsched.raft.log import LogClosed, NoQuorum, NotLeader, ReplicatedLog

logger = logging.getLogger(__name__)

#: A leader's clock that disagrees for so long is an alarm.
ALARM_SECONDS = 5.0
#: Leadership is handed over for that at most so often, and given up after that.
HAND_OVER_EVERY_SECONDS = 60.0
HAND_OVER_SECONDS = 3.0


class Timekeeper:
    """One peer's; lives on the loop."""

    def __init__(
        self,
        replica: Replica,
        log: ReplicatedLog,
        clock: Clock,
        others: Callable[[], tuple[str, ...]],
    ) -> None:
        """``others``: the voters beside this peer, now."""
        self._replica = replica
        self._log = log
        self._clock = clock
        self._others = others
        self._stamper = Stamper()
        self._resets = replica.state.clock_resets
        #: Since when, and whether for so long that it is an alarm.
        self._since: float | None = None
        self.disagrees = False
        self._hand_over_at = 0.0

    def head(self) -> Head:
        """Of an entry that is made now: of the version in force, with the time."""
        state = self._replica.state
        stamp = self._stamper.stamp(self._read(), state.now)
        # Versions before have no such field, and move the clock as far as a stamp says.
        agreed = stamp.agreed and state.version >= BOUNDED_TIME
        return Head(written(state.version), stamp.now, agreed)

    def _read(self) -> Reading:
        return Reading(
            self._clock.wall_ms(),
            self._clock.monotonic(),
            self._others(),
            self._log.peer_views(),
            # Programs before do not tell their clock.
            silence_agrees=self._replica.state.version < BOUNDED_TIME,
        )

    def offsets(self) -> dict[str, float]:
        """How far the other voters' clocks are ahead of this peer's, in milliseconds."""
        return self._read().offsets()

    def applied(self, entry: Entry) -> None:
        """An entry was applied here."""
        state, now = self._replica.state, self._clock.monotonic()
        if state.clock_resets != self._resets:
            self._resets = state.clock_resets
            self._stamper.restart(state.now, now)
        else:
            self._stamper.applied(state.now, now, agreed=entry.agreed)

    def restored(self) -> None:
        """A snapshot replaced the state."""
        state = self._replica.state
        self._resets = state.clock_resets
        self._stamper.restart(state.now, self._clock.monotonic())

    def deposed(self) -> None:
        """This peer does not lead: its clock does not matter."""
        self._since = None
        self.disagrees = False

    async def watch(self) -> None:
        """While this peer leads, a few times a second: see that its clock is not alone."""
        reading = self._read()
        now = reading.monotonic
        if self._stamper.agrees(reading):
            if self.disagrees:
                logger.warning("a majority of clocks agrees with this peer's again")
            self.deposed()
            return
        if self._since is None:
            self._since = now
        if now - self._since < ALARM_SECONDS:
            return
        if not self.disagrees:
            self.disagrees = True
            self._alarm(reading.offsets())
        trusted = reading.trusted()
        if trusted and now >= self._hand_over_at:
            self._hand_over_at = now + HAND_OVER_EVERY_SECONDS
            await self._hand_over(trusted[0])

    def _alarm(self, offsets: dict[str, float]) -> None:
        told = [f"{peer} {offset / 1000:+.1f} s" for peer, offset in offsets.items()]
        logger.error(
            "no majority of clocks agrees with this leader's (%s): time goes on by its monotonic "
            "clock; see that all machines keep their clocks (NTP)",
            ", ".join(told) or "it jumped",
        )

    async def _hand_over(self, target: str) -> None:
        try:
            await self._log.transfer_leadership(target, HAND_OVER_SECONDS)
        except (NotLeader, NoQuorum, LogClosed) as error:
            logger.warning("%s was to lead, its clock is better: %s", target, error)
        else:
            logger.warning("leadership went to %s: its clock agrees with a majority", target)
