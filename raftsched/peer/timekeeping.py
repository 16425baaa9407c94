"""Keeps the cluster's time while this peer leads: stamps entries, and gives leadership to a peer
with a better clock when its own is alone."""

from __future__ import annotations

import logging
from collections.abc import Callable

from raftsched.core.commands import Entry
from raftsched.core.versions import BOUNDED_TIME, written
from raftsched.peer.audit import instant
from raftsched.peer.replica import Replica
from raftsched.peer.stamping import JUMP_SECONDS, Head, Reading, Stamper
from raftsched.raft.host import Clock
from raftsched.raft.log import LogClosed, NoQuorum, NotLeader, ReplicatedLog

logger = logging.getLogger(__name__)

#: A leader's clock that disagrees for so long is an alarm.
ALARM_SECONDS = 5.0
#: Leadership is handed over for that at most so often, and given up after that.
HAND_OVER_EVERY_SECONDS = 60.0
HAND_OVER_SECONDS = 3.0
#: The cluster's time ahead of an agreed clock by more than this is an alarm.
AHEAD_MS_MAX = 5_000


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
        #: The cluster's time waits for the clocks, which agree on an earlier one.
        self.stands_still = False
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
        self.disagrees = self.stands_still = False

    async def watch(self) -> None:
        """While this peer leads, a few times a second: see that its clock is not alone."""
        reading = self._read()
        now = reading.monotonic
        if self._stamper.agrees(reading, self._replica.state.now):
            self._agreed(reading.wall_ms)
            return
        self.stands_still = False
        if self._since is None:
            self._since = now
        if now - self._since < ALARM_SECONDS:
            return
        if not self.disagrees:
            self.disagrees = True
            self._alarm(reading)
        trusted = reading.trusted()
        if trusted and now >= self._hand_over_at:
            self._hand_over_at = now + HAND_OVER_EVERY_SECONDS
            await self._hand_over(trusted[0])

    def _agreed(self, wall_ms: int) -> None:
        if self.disagrees:
            logger.warning("a majority of clocks agrees with this peer's again")
        self._since = None
        self.disagrees = False
        state_now, was_still = self._replica.state.now, self.stands_still
        self.stands_still = state_now - wall_ms > AHEAD_MS_MAX
        if self.stands_still and not was_still:
            logger.error(
                "cluster time is %.1f s ahead of the clocks and stands still until %s; "
                "'raftsched cluster reset-clock' ends it",
                (state_now - wall_ms) / 1000,
                instant(state_now),
            )

    def _alarm(self, reading: Reading) -> None:
        if not reading.others:
            state_now = self._replica.state.now
            apart_ms = reading.wall_ms - self._stamper.reckoned(reading.monotonic, state_now)
            logger.error(
                "this peer's clock is %+.1f s from the cluster's time, it was set or the peer was "
                "down: believed once it has stayed there for %.0f s",
                apart_ms / 1000,
                JUMP_SECONDS,
            )
            return
        told = [f"{peer} {offset / 1000:+.1f} s" for peer, offset in reading.offsets().items()]
        logger.error(
            "no majority of clocks agrees with this leader's (%s): time goes on by its monotonic "
            "clock; see that all machines keep their clocks (NTP)",
            ", ".join(told) or "none is known",
        )

    async def _hand_over(self, target: str) -> None:
        try:
            await self._log.transfer_leadership(target, HAND_OVER_SECONDS)
        except (NotLeader, NoQuorum, LogClosed) as error:
            logger.warning("%s was to lead, its clock is better: %s", target, error)
        else:
            logger.warning("leadership went to %s: its clock agrees with a majority", target)
