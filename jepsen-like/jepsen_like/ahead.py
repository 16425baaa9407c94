"""How far ahead of the right time the cluster's may have been when wall clocks were wrong.

Peers believe what a majority of clocks says, and one peer whose clock is alone is believed within
2 s.  Once the clocks are right again, the cluster's time stands still until they have passed it, so
what was fired ahead is never fired later than it was due to be.
"""

from __future__ import annotations

from jepsen_like.evidence import Evidence

#: What clocks are read by, and how far one clock may lead a majority's.
READ_MS, ALONE_MS = 50, 2_000
#: Faults of clocks have it in their names.
CLOCK = "clock"


class Ahead:
    """What was due at most, by the clock that the run is judged by.  It must have one."""

    def __init__(self, evidence: Evidence) -> None:
        self._run = evidence.run
        #: From when, until when (None: it stayed so), by how much.
        self._wrong: list[tuple[int, int | None, int]] = []
        begun: dict[str, tuple[int, int]] = {}
        for event in evidence.faults:
            if CLOCK not in event.fault:
                continue
            if event.event == "begin":
                begun[event.fault] = (event.at, event.shift_ms)
            elif event.event == "end" and event.fault in begun:
                from_at, shift_ms = begun.pop(event.fault)
                # Its end says so when the cluster's time could not be put right.
                self._wrong.append((from_at, None if event.shift_ms else event.at, shift_ms))
        self._wrong += [(from_at, None, shift_ms) for from_at, shift_ms in begun.values()]

    def latest_ms(self, at: int) -> int:
        """The last instant, unix ms, that anybody may have taken for the present until then."""
        latest = self._right(at) + READ_MS
        for from_at, to_at, shift_ms in self._wrong:
            if from_at <= at:
                until = self._right(at if to_at is None else min(at, to_at))
                latest = max(latest, until + READ_MS + ALONE_MS + shift_ms)
        return latest

    def earliest_ns(self, at_ms: int) -> int:
        """The first moment in which anybody may have taken an instant, unix ms, for the present."""
        clock = self._run.clock
        assert clock is not None
        right = clock.at + (at_ms - READ_MS - clock.unix_ms) * 1_000_000
        earliest = right
        for from_at, to_at, shift_ms in self._wrong:
            at = max(from_at, right - (ALONE_MS + shift_ms) * 1_000_000)
            if to_at is None or at <= to_at:
                earliest = min(earliest, at)
        return earliest

    def _right(self, at: int) -> int:
        found = self._run.unix_ms(at)
        assert found is not None
        return found
