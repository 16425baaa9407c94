"""The leader's time stamp: its wall clock as long as a majority of peers agrees with it.

Rules
1. A stamp is the wall clock only if that is within ``CLOCK_SKEW_MS_MAX`` of the clocks of a
   majority of members, this one counted, as probes measured them.  What may be off in the
   measurement counts against it.
2. Otherwise it is a reckoning: the newest time that was applied here and what has passed since by
   the monotonic clock.  An entry says which of the two its stamp is, and ``apply`` bounds how far
   the second may move the clock.
3. A cluster of one has no second clock to ask.  A wall clock that jumps against the monotonic one
   is believed once it has stayed there for ``JUMP_SECONDS``; so is a first reading after a start
   that is ahead of the reckoning: the time that the peer was down, or a clock that is wrong.

Nothing here reads a clock (``timekeeping`` does).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from raftsched.core.machine import CLOCK_SKEW_MS_MAX
from raftsched.raft.log import PeerView

#: A measurement of another clock counts for so long.
MEASURED_SECONDS_MAX = 10.0
#: A single peer's wall clock that jumped is believed after this.
JUMP_SECONDS = 30.0


class Stamp(NamedTuple):
    """What an entry says of time, in milliseconds since the Unix epoch."""

    now: int
    agreed: bool


class Head(NamedTuple):
    """What an entry begins with, beside its term."""

    version: int
    now: int
    agreed: bool


class Reading(NamedTuple):
    """All that is known of the clocks at one moment."""

    wall_ms: int
    #: In seconds.
    monotonic: float
    #: The other voters, in order, and what was heard of them.
    others: tuple[str, ...]
    views: Mapping[str, PeerView]
    #: Voters that do not tell their clock count as if they agreed.
    silence_agrees: bool = False

    def offsets(self) -> dict[str, float]:
        """How far the other voters' clocks are ahead of this wall clock, in milliseconds."""
        return {
            peer: base_ms + 1000 * self.monotonic - self.wall_ms
            for peer in self.others
            if (view := self.views.get(peer)) and (base_ms := view.clock_base_ms) is not None
        }

    def trusted(self) -> tuple[str, ...]:
        """Other voters whose clocks a majority agrees with, as far as is known here."""
        offsets = self.offsets()
        clocks = [0.0, *offsets.values()]
        return tuple(
            peer
            for peer, offset in offsets.items()
            if self._is_majority(sum(abs(offset - o) <= CLOCK_SKEW_MS_MAX for o in clocks))
        )

    def is_shared(self) -> bool:
        """Does a majority, this peer counted, agree with this wall clock?"""
        agreeing = 1
        for peer in self.others:
            view = self.views.get(peer)
            if view is None or view.clock_base_ms is None:
                agreeing += self.silence_agrees
            elif self.monotonic - view.measured_at <= MEASURED_SECONDS_MAX:
                apart_ms = abs(view.clock_base_ms + 1000 * self.monotonic - self.wall_ms)
                agreeing += apart_ms + view.clock_error_ms <= CLOCK_SKEW_MS_MAX
        return self._is_majority(agreeing)

    def _is_majority(self, count: int) -> bool:
        return 2 * count > len(self.others) + 1


class Stamper:
    """What one peer makes of the clocks.  Wall times in milliseconds, monotonic ones in seconds."""

    def __init__(self) -> None:
        #: The reckoning, as the time at which this machine's monotonic clock was 0.
        self._base_ms: float | None = None
        #: Of a single peer: how far its wall clock is ahead of its monotonic one as far as it is
        #: believed; and where it jumped to and when, if it did.
        self._own_ms: float | None = None
        self._jumped_ms: float | None = None
        self._jumped_at = 0.0

    # The reckoning ---------------------------------------------------------------------------

    def applied(self, state_now: int, monotonic: float, *, agreed: bool) -> None:
        """An entry was applied here, and the state's clock says ``state_now``.

        A stamp that nobody agreed with may have been cut, so it moves the reckoning only forward.
        """
        base_ms = state_now - 1000 * monotonic
        if agreed or self._base_ms is None or base_ms > self._base_ms:
            self._base_ms = base_ms

    def restart(self, state_now: int, monotonic: float) -> None:
        """The state's clock was set, or another state was put in place."""
        self._base_ms = state_now - 1000 * monotonic

    # Stamps ----------------------------------------------------------------------------------

    def stamp(self, reading: Reading, state_now: int) -> Stamp:
        """The stamp of an entry that is made now."""
        if self.agrees(reading, state_now):
            return Stamp(reading.wall_ms, True)
        if not state_now:
            # The first entry of all: there is nothing to reckon from.
            return Stamp(reading.wall_ms, False)
        return Stamp(self.reckoned(reading.monotonic, state_now), False)

    def reckoned(self, monotonic: float, state_now: int) -> int:
        """The time without a look at the wall clock."""
        base_ms = self._base_ms
        return state_now if base_ms is None else max(state_now, int(base_ms + 1000 * monotonic))

    def agrees(self, reading: Reading, state_now: int) -> bool:
        """May this wall clock be a stamp?"""
        if reading.others:
            return reading.is_shared()
        ahead_ms = reading.wall_ms - self.reckoned(reading.monotonic, state_now)
        is_odd = state_now > 0 and ahead_ms > CLOCK_SKEW_MS_MAX
        own_ms = reading.wall_ms - 1000 * reading.monotonic
        return self._agrees_with_itself(own_ms, reading.monotonic, is_odd=is_odd)

    def _agrees_with_itself(self, own_ms: float, monotonic: float, *, is_odd: bool) -> bool:
        """``own_ms``: how far the wall clock is ahead of the monotonic one.

        ``is_odd``: should it be the first reading, it is not to be believed at once.
        """
        known_ms = self._own_ms
        has_jumped = is_odd if known_ms is None else abs(own_ms - known_ms) > CLOCK_SKEW_MS_MAX
        if has_jumped:
            jumped_ms = self._jumped_ms
            if jumped_ms is None or abs(own_ms - jumped_ms) > CLOCK_SKEW_MS_MAX:
                self._jumped_ms, self._jumped_at = own_ms, monotonic
                return False
            if monotonic - self._jumped_at < JUMP_SECONDS:
                return False
        self._own_ms, self._jumped_ms = own_ms, None
        return True
